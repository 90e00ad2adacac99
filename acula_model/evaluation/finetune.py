"""The whole encoder and a linear head, trained on one task at a low rate: the ceiling of a probe.

What a frozen encoder scores is what it already knows; this is what it could learn from the task's
own training persons. The head starts as a linear probe, or the first steps would bend the encoder
towards a random one (Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", 2022). Each seed takes some epochs of the encoder, so this is an option.
"""

# B = clips, T = frames, M = mel bins, D = width, N = recordings, C = number of classes

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from acula_model.evaluation.protocols.default import UNCHOSEN, inner, standardiser
from acula_model.evaluation.score import Prediction, Score
from acula_model.evaluation.task import Task
from acula_model.spectra import Source


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to fine-tune; the rates are for AdamW."""

    epochs: int = 5
    batch_size: int = 16
    encoder_rate: float = 5e-5
    head_rate: float = 1e-3
    weight_decay: float = 1e-2
    seeds: tuple[int, ...] = (0, 1, 2)


def run(
    encoder: AudioEncoder,
    source: Source,
    pairs: Mapping[str, str],
    rows: Iterable[Mapping[str, Any]],
    task: Task,
    settings: Settings | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Score, list[Prediction]]:
    """Fine-tune a copy of the encoder on one task and variant, and score it on test.

    Args:
        encoder: On its device; stays as it is.
        source: Spectra of the encoder's front end, from a cache or from shards.
        pairs: recording id -> pair id in the source.
        rows: ``TaskRow`` of one task and variant.
        task: What decides how it is scored; a holdout.
        settings: Rates, epochs and seeds.
        progress: Called with a line per epoch.

    Returns:
        As ``run.run`` gives them, with the head ``finetune``.
    """
    rows = list(rows)
    variant = rows[0]["variant"] if rows else ""
    names = Names(variant=variant, protocol="default", head="finetune", features="encoder")
    try:
        # The rows' bookkeeping is that of any head; there are no frozen features to look at.
        present = {r: np.zeros(1) for r in pairs}
        examples = replace(rows_of.gather(task, rows, present), constant=False)
        rows_of.check_size(examples)
        if task.scheme != "holdout":
            raise NotRun("fine-tuning for every person who is left out is not offered")
        asked = settings or Settings()
        told = [
            _tuned(encoder, source, pairs, examples, asked, seed, progress) for seed in asked.seeds
        ]
    except NotRun as reason:
        return not_run(None, task.id, task.metric, names, str(reason)), []
    outputs = np.stack([said for said, _ in told])
    outcome = Outcome(
        rows=examples.splits[0].test,
        outputs=outputs,
        shuffled=outputs[:0],
        notes={"validation_curves": [curve for _, curve in told]},
    )
    return assess(examples, outcome, names)


def _tuned(
    encoder: AudioEncoder,
    source: Source,
    pairs: Mapping[str, str],
    examples: Examples,
    settings: Settings,
    seed: int,
    progress: Callable[[str], None],
) -> tuple[Floats, list[float | None]]:
    """[N, C] of the tested, and the metric on validation of the probe and after each epoch."""
    split = examples.splits[0]
    parts = inner(examples, split)
    learn, held = (parts[0].train, parts[0].val) if parts else (split.train, split.val)
    device = next(encoder.parameters()).device
    encoder = copy.deepcopy(encoder)
    of = [pairs[str(r)] for r in examples.recordings]
    embedded = _over_windows(encoder, nn.Identity(), source, [of[i] for i in learn], device)
    head = _probe(embedded.numpy(), examples, learn).to(device)
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
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)  # dropout

    def said(at: Index) -> Floats:
        return speak(_over_windows(encoder, head, source, [of[i] for i in at], device))

    def quality() -> float:
        if not len(held):
            return math.nan
        unit, said_UC = rows_of.per_unit(examples, held, said(held))
        return metrics.headline(said_UC, examples.labels[unit], kind)

    best, kept, curve = -math.inf, copy.deepcopy(model.state_dict()), list[float | None]()
    for epoch in range(settings.epochs + 1):
        if epoch:
            model.train()
            batches = np.array_split(
                rng.permutation(learn), math.ceil(len(learn) / settings.batch_size)
            )
            for batch in batches:
                ids = [of[i] for i in batch]
                raw = source.crops(ids, noise.seeds(ids, seed, epoch))
                mel_BTM = encoder.front_end.normalise(raw.to(device))
                optimizer.zero_grad(set_to_none=True)
                out_BC = head(encoder.embed(mel_BTM)).cpu()
                loss(out_BC, labels[torch.from_numpy(batch)]).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
        found = quality()
        curve.append(None if math.isnan(found) else found)
        better = -found if kind == "regression" else found
        # Without usable validation the last epoch is kept.
        if math.isnan(better) or better > best:
            best = best if math.isnan(better) else better
            kept = copy.deepcopy(model.state_dict())
        progress(f"seed {seed}, epoch {epoch} of {settings.epochs}, validation {found:.3f}")
    model.load_state_dict(kept)
    return said(split.test), curve


def _probe(embedded_ND: Floats, examples: Examples, learn: Index) -> nn.Linear:
    """A linear head that says what a probe of fixed strength says of the same embeddings."""
    from sklearn.linear_model import LogisticRegression, Ridge

    width, classes, labels = embedded_ND.shape[1], examples.classes, examples.labels[learn]
    scale = standardiser(embedded_ND)
    weight_CD, bias_C = np.zeros((classes, width)), np.zeros(classes)
    if examples.task.kind == "regression":
        standard = (labels - labels.mean()) / (labels.std() or 1.0)
        ridge = Ridge(alpha=UNCHOSEN[1]).fit(scale(embedded_ND), standard)
        weight_CD[0], bias_C[0] = ridge.coef_, ridge.intercept_
    else:
        model = LogisticRegression(C=UNCHOSEN[0], max_iter=1000, class_weight="balanced")
        model.fit(scale(embedded_ND), labels.astype(np.int64))
        # Of two classes it has one logit: their softmax is its sigmoid.
        own = np.array([-0.5, 0.5]) if len(model.classes_) == 2 else np.ones(len(model.classes_))
        weight_CD[model.classes_] = own[:, None] * model.coef_
        bias_C[model.classes_] = own * model.intercept_
    zero_1D = scale(np.zeros((1, width)))
    head = nn.Linear(width, classes)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight_CD * (scale(np.ones((1, width))) - zero_1D)))
        head.bias.copy_(torch.from_numpy(bias_C + weight_CD @ zero_1D[0]))
    return head


@torch.inference_mode()
def _over_windows(
    encoder: AudioEncoder,
    head: nn.Module,
    source: Source,
    ids: Sequence[str],
    device: torch.device,
    size: int = 16,
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
