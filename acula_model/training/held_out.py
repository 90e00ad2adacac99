"""What is measured after each epoch on pairs of persons outside every test."""

# N = held-out pairs, D = encoder width, P = width of the shared space

import math
from collections.abc import Mapping
from itertools import accumulate, pairwise

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
OWN_PAIRS = 256  # whose own loss is averaged: it decides nothing and is known well enough


class Gauges:
    """Numbers that tell whether a run learns the pairing, and whether it falls apart.

    Attributes:
        start: Side and group -> effective rank before training, which later ones are compared with.
    """

    def __init__(self, check: Pairs, source: Source, recipe: Recipe):
        self._check, self._source, self._recipe = check, source, recipe
        groups = {g: m for g, m in sorted(check.groups.items()) if len(m) >= order.MIN_GROUP}
        self._ids = [i for members in groups.values() for i in members]
        edges = [0, *accumulate(map(len, groups.values()))]
        self._rows = {g: slice(a, b) for g, (a, b) in zip(groups, pairwise(edges), strict=True)}
        self._seen: dict[str, tuple[float, int, float]] = {}  # rank, pairs, CKA
        self.start: dict[str, float] = {}
        self._floor = math.nan
        if self._ids and recipe.alignment_weight > 0:
            self._floor = gauges.group_floor(check.text(self._ids)[:, 0], check.group(self._ids))

    @torch.inference_mode()
    def measure(self, model: Aligner, where: str) -> dict[str, float]:
        """CKA, retrieval, effective ranks, uniformity and the encoder's own loss.

        Raises:
            TrainingError: Projections that are not numbers.
        """
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
        self._look(audio_NP, text_NP)
        found = {
            "held_out_cka": self._by_group(audio_NP, text_NP),
            "teacher_cka": self._by_group(audio_NP, text_NE.to(device)),
            "group_floor": self._floor,
            "audio_rank": gauges.effective_rank(audio_NP),
            "text_rank": gauges.effective_rank(text_NP),
            "uniformity": gauges.uniformity(audio_NP),
            "held_out_masked_loss": self._own_loss(model, device),
        }
        if self._recipe.alignment_weight > 0:
            found |= _retrieval(audio_NP.cpu(), text_NP.cpu(), group_N, finding_N)
        return found

    def begin(self, model: Aligner) -> None:
        """Measure before training."""
        if self._ids:
            self.measure(model, "the start")
            self.start = {name: rank for name, (rank, _, _) in self._seen.items()}

    def collapse(self) -> str | None:
        """A sentence if projections have fallen into few directions that say nothing.

        One group of a few findings may; more than half of all held-out pairs may not.
        """
        if not self._recipe.stop_on_collapse or self._recipe.alignment_weight == 0:
            return None
        fallen: dict[str, list[str]] = {"sounds": [], "reports": []}
        pairs = dict.fromkeys(fallen, 0)
        for name, (rank, count, cka) in self._seen.items():
            seen = gauges.collapse(name, rank, self.start.get(name, 0.0), count, cka)
            if seen.wrong:
                side = name.partition(" ")[0]
                fallen[side].append(seen.sentence)
                pairs[side] += count
        for side, sentences in fallen.items():
            if 2 * pairs[side] > len(self._ids):
                return "; ".join(sentences[:3])
        return None

    def _look(self, audio_NP: Tensor, text_NP: Tensor) -> None:
        for group, rows in self._rows.items():
            audio, text = audio_NP[rows], text_NP[rows]
            cka = gauges.alignment(audio, text)
            for side, own in (("sounds", audio), ("reports", text)):
                rank = gauges.effective_rank(own)
                self._seen[f"{side} of {group}"] = (rank, len(own), cka)

    def _by_group(self, audio_NP: Tensor, text_NX: Tensor) -> float:
        """Debiased CKA, mean over groups by their pairs."""
        total = sum(
            (r.stop - r.start) * gauges.alignment(audio_NP[r], text_NX[r])
            for r in self._rows.values()
        )
        return total / len(self._ids)

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
        some = self._ids[:: math.ceil(len(self._ids) / OWN_PAIRS)]  # of all groups
        total = 0.0
        for start in range(0, len(some), BATCH):
            ids = some[start : start + BATCH]
            seed_B = noise.seeds(ids, 0, 0)
            raw_BTM = self._source.crops(ids, seed_B).to(str(device))
            mel_BTM = model.encoder.front_end.normalise(raw_BTM)
            seeds = torch.from_numpy(seed_B).to(device)
            total += len(ids) * float(model.encoder.self_supervised_loss(mel_BTM, seeds))
        return total / len(some)


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
