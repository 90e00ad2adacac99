"""The whole encoder and a linear head, trained on one task at a low rate: the ceiling of a probe.

What a frozen encoder scores is what it already knows; this is what it could learn from the task's
own training persons. It takes an epoch of the encoder per pass, so it is an option.
"""

# B = clips, T = frames, M = mel bins, D = width, N = recordings, C = number of classes

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acula_model import noise
from acula_model.encoders.base import AudioEncoder
from acula_model.evaluation import examples as rows_of
from acula_model.evaluation import metrics
from acula_model.evaluation.assess import Names, assess, not_run
from acula_model.evaluation.examples import Examples, Index, NotRun
from acula_model.evaluation.heads import objective
from acula_model.evaluation.metrics import Floats
from acula_model.evaluation.protocols import Outcome
from acula_model.evaluation.protocols.default import inner
from acula_model.evaluation.score import Prediction, Score
from acula_model.evaluation.task import Task
from acula_model.spectra import Source


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to fine-tune; the rates are for AdamW."""

    epochs: int = 5
    batch_size: int = 16
    encoder_rate: float = 1e-5
    head_rate: float = 1e-3
    weight_decay: float = 1e-2
    seed: int = 0


def run(
    encoder: AudioEncoder,
    source: Source,
    pairs: Mapping[str, str],
    rows: Iterable[Mapping[str, Any]],
    task: Task,
    settings: Settings | None = None,
) -> tuple[Score, list[Prediction]]:
    """Fine-tune a copy of the encoder on one task and variant, and score it on test.

    Args:
        encoder: On its device; stays as it is.
        source: Spectra of the encoder's front end, from a cache or from shards.
        pairs: recording id -> pair id in the source.
        rows: ``TaskRow`` of one task and variant.
        task: What decides how it is scored; a holdout.
        settings: Rates and epochs.

    Returns:
        As ``run.run`` gives them, with the head ``finetuned``.
    """
    rows = list(rows)
    variant = rows[0]["variant"] if rows else ""
    names = Names(variant=variant, protocol="default", head="finetuned", features="encoder")
    try:
        # The rows' bookkeeping is that of any head; there are no frozen features to look at.
        present = {r: np.zeros(1) for r in pairs}
        examples = replace(rows_of.gather(task, rows, present), constant=False)
        rows_of.check_size(examples)
        if task.scheme != "holdout":
            raise NotRun("fine-tuning for every person who is left out is not offered")
        outcome = _tuned(encoder, source, pairs, examples, settings or Settings())
    except NotRun as reason:
        return not_run(None, task.id, task.metric, names, str(reason)), []
    return assess(examples, outcome, names)


def _tuned(
    encoder: AudioEncoder,
    source: Source,
    pairs: Mapping[str, str],
    examples: Examples,
    settings: Settings,
) -> Outcome:
    split = examples.splits[0]
    parts = inner(examples, split)
    learn, held = (parts[0].train, parts[0].val) if parts else (split.train, split.val)
    device = next(encoder.parameters()).device
    encoder = copy.deepcopy(encoder)
    head = nn.Linear(encoder.width, examples.classes).to(device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    model, kind = nn.ModuleList([encoder, head]), examples.task.kind
    labels = torch.from_numpy(examples.labels)
    loss, speak = objective(labels[torch.from_numpy(learn)], examples.classes, kind)
    optimizer = torch.optim.AdamW(
        [
            {"params": encoder.parameters(), "lr": settings.encoder_rate},
            {"params": head.parameters(), "lr": settings.head_rate},
        ],
        weight_decay=settings.weight_decay,
    )
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)  # dropout

    def said(at: Index) -> Floats:
        ids = [pairs[str(r)] for r in examples.recordings[at]]
        return speak(_over_windows(encoder, head, source, ids, settings.batch_size, device))

    best, kept, curve = -math.inf, copy.deepcopy(model.state_dict()), list[float | None]()
    for epoch in range(1, settings.epochs + 1):
        model.train()
        for batch in np.array_split(
            rng.permutation(learn), math.ceil(len(learn) / settings.batch_size)
        ):
            ids = [pairs[str(r)] for r in examples.recordings[batch]]
            raw = source.crops(ids, noise.seeds(ids, settings.seed, epoch))
            mel_BTM = encoder.front_end.normalise(raw.to(device))
            optimizer.zero_grad(set_to_none=True)
            out_BC = head(encoder.embed(mel_BTM)).cpu()
            loss(out_BC, labels[torch.from_numpy(batch)]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        quality = math.nan
        if len(held):
            unit, said_UC = rows_of.per_unit(examples, held, said(held))
            quality = metrics.headline(said_UC, examples.labels[unit], kind)
            quality *= -1 if kind == "regression" else 1
        curve.append(None if math.isnan(quality) else abs(quality))
        if math.isnan(quality) or quality > best:  # without validation the last epoch is kept
            best = best if math.isnan(quality) else quality
            kept = copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    outputs = said(split.test)[None]
    return Outcome(
        rows=split.test, outputs=outputs, shuffled=outputs[:0], notes={"validation_curve": curve}
    )


@torch.inference_mode()
def _over_windows(
    encoder: AudioEncoder,
    head: nn.Module,
    source: Source,
    ids: Sequence[str],
    size: int,
    device: torch.device,
) -> Tensor:
    """[N, C]: the head on the mean embedding of each recording's windows."""
    encoder.eval()
    found: list[Tensor] = []
    for start in range(0, len(ids), size):
        chunk = ids[start : start + size]
        raw, owner = source.grid(chunk)
        place_B = torch.from_numpy(np.asarray(owner, np.int64)).to(device)
        vector_BD = encoder.embed(encoder.front_end.normalise(raw.to(device)))
        total_ND = vector_BD.new_zeros(len(chunk), vector_BD.shape[1])
        total_ND.index_add_(0, place_B, vector_BD)
        count_N = torch.bincount(place_B, minlength=len(chunk))
        found.append(head(total_ND / count_N[:, None]).cpu())
    return torch.cat(found)
