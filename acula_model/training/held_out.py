"""What is measured after each epoch on pairs of persons outside every test."""

# N = held-out pairs, D = encoder width, P = width of the shared space

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from acula_model import features, gauges, noise
from acula_model.heads import Bridge
from acula_model.recipes import Recipe
from acula_model.spectra import Source
from acula_model.training import order
from acula_model.training.errors import TrainingError
from acula_model.training.model import Aligner
from acula_model.training.pairs import Pairs

BATCH = 64  # windows at once


class Gauges:
    """Numbers that tell whether a run learns the pairing, and whether it falls apart.

    Attributes:
        start: What was measured before training, which later lines are compared with.
    """

    def __init__(self, check: Pairs, source: Source, recipe: Recipe):
        self._check, self._source, self._recipe = check, source, recipe
        self._ids = [
            i for _, m in sorted(check.groups.items()) if len(m) >= order.MIN_GROUP for i in m
        ]
        self.start: dict[str, float] = {}
        self.floor = math.nan
        if self._ids and recipe.alignment_weight > 0:
            self.floor = gauges.group_floor(check.text(self._ids)[:, 0], check.group(self._ids))

    @torch.inference_mode()
    def measure(self, model: Aligner, where: str) -> dict[str, float]:
        """CKA, retrieval, effective ranks, uniformity and the encoder's own loss."""
        if not self._ids:
            return {"held_out_cka": math.nan}
        device = next(model.parameters()).device
        group_N, finding_N = self._check.group(self._ids), self._check.finding(self._ids)
        text_NE = self._check.text(self._ids)[:, 0]
        audio_NP, text_NP = features.projected(
            model.encoder, model.heads, self._source, self._ids, text_NE
        )
        if not (torch.isfinite(audio_NP).all() and torch.isfinite(text_NP).all()):
            raise TrainingError(
                f"held-out projections in {where} are not numbers; lower the learning rate"
            )
        found = {
            "held_out_cka": _by_group(audio_NP, text_NP, group_N.to(device)),
            "teacher_cka": _by_group(audio_NP, text_NE.to(device), group_N.to(device)),
            "group_floor": self.floor,
            "audio_rank": gauges.effective_rank(audio_NP),
            "text_rank": gauges.effective_rank(text_NP),
            "uniformity": gauges.uniformity(audio_NP),
            "held_out_masked_loss": self._own_loss(model, device),
        }
        if self._recipe.alignment_weight > 0:
            found |= _retrieval(audio_NP.cpu(), text_NP.cpu(), group_N, finding_N)
        return found

    def collapse(self, line: Mapping[str, float]) -> str | None:
        """A sentence if a projection has fallen into few directions that say nothing.

        Agreement is with the teacher's own vectors: two heads can agree on anything.
        """
        told = self._recipe.stop_on_collapse and self._recipe.alignment_weight > 0
        if not told or "teacher_cka" not in self.start:
            return None
        for name, rank in (("sounds", "audio_rank"), ("reports", "text_rank")):
            seen = gauges.collapse(
                name, line[rank], self.start[rank], len(self._ids), line["teacher_cka"]
            )
            if seen.wrong:
                return f"epoch {line['epoch']:.0f}, {seen.sentence}"
        return None

    def in_words(self, line: Mapping[str, float]) -> str:
        """For the epoch's line."""
        said = f", held-out CKA {line['held_out_cka']:.3f}"
        if "report_recall_10" in line:
            recall, chance = line["report_recall_10"], line["report_recall_10_chance"]
            said += f", report found among ten {recall:.0%} (chance {chance:.0%})"
        return said

    def _own_loss(self, model: Aligner, device: torch.device) -> float:
        """With the same windows and masks every time."""
        model.encoder.eval()
        total = 0.0
        for start in range(0, len(self._ids), BATCH):
            ids = self._ids[start : start + BATCH]
            seed_B = noise.seeds(ids, 0, 0)
            raw_BTM = self._source.crops(ids, seed_B).to(str(device))
            mel_BTM = model.encoder.front_end.normalise(raw_BTM)
            seeds = torch.from_numpy(seed_B).to(device)
            total += len(ids) * float(model.encoder.self_supervised_loss(mel_BTM, seeds))
        return total / len(self._ids)


def _by_group(audio_NP: Tensor, text_NP: Tensor, group_N: Tensor) -> float:
    """Debiased CKA, mean over groups by their pairs."""
    total = 0.0
    for group in group_N.unique():
        own = group_N == group
        total += int(own.sum()) * gauges.alignment(audio_NP[own], text_NP[own])
    return total / len(group_N)


def _retrieval(
    audio_NP: Tensor, text_NP: Tensor, group_N: Tensor, finding_N: Tensor
) -> dict[str, float]:
    """Recall both ways, with the rotation of one half of the pairs applied to the other.

    Losses that compare geometries leave the two spaces turned against each other (``Bridge``).
    """
    if len(audio_NP) < 2 * order.MIN_GROUP or audio_NP.shape[1] != text_NP.shape[1]:
        return {}
    half_N = torch.arange(len(audio_NP)) < len(audio_NP) // 2
    half_N = half_N[torch.randperm(len(half_N), generator=torch.Generator().manual_seed(0))]
    found: list[dict[str, float]] = []
    for fit, rest in ((half_N, ~half_N), (~half_N, half_N)):
        bridge = Bridge.fit(audio_NP[fit], text_NP[fit])
        audio, text = bridge.audio(audio_NP[rest]), bridge.text(text_NP[rest])
        found.append(_numbers(gauges.retrieval(audio, text, finding_N[rest], group_N[rest])))
    return {k: (found[0][k] + found[1][k]) / 2 for k in found[0]}


def _numbers(recall: gauges.Recall) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, way in (("report", recall.report), ("sound", recall.sound)):
        for k in gauges.CUTS:
            found[f"{name}_recall_{k}"] = way.recall[k]
            found[f"{name}_recall_{k}_chance"] = way.chance[k]
        found[f"{name}_median_rank"] = way.median_rank
    return found
