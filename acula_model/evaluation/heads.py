"""Further heads under the default protocol: one hidden layer, and attention over windows.

Both are small, standardised like the linear head, trained with balanced classes and stopped when
validation persons no longer gain. They answer whether a linear head misses something; the linear
head stays the headline because it has least to tune.
"""

# N = recordings, W = windows of a recording, D = features, C = outputs, B = batch

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from acula_model.evaluation import examples as rows_of
from acula_model.evaluation import floors, metrics
from acula_model.evaluation.examples import Examples, Index, Split
from acula_model.evaluation.metrics import Floats
from acula_model.evaluation.protocols import Outcome
from acula_model.evaluation.protocols.default import inner, standardiser

Kind = Literal["mlp", "attentive"]
SEEDS = (0, 1, 2)
SHUFFLES = 10  # as many as of the linear head
HIDDEN = 128
DROPOUT = 0.2
EPOCHS, PATIENCE, BATCH = 100, 10, 32
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2


class Attentive(nn.Module):
    """Attention pooling (Ilse, Tomczak and Welling, 2018), then one linear layer."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.attend = nn.Sequential(nn.Linear(width, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
        self.out = nn.Linear(width, outputs)

    def forward(self, x_BWD: Tensor, real_BW: Tensor) -> Tensor:
        """[B, W, D] and which windows are real, [B, W] -> [B, C]."""
        weight_BW = self.attend(x_BWD)[..., 0].masked_fill(~real_BW, -math.inf).softmax(1)
        return self.out(torch.einsum("bw,bwd->bd", weight_BW, x_BWD))


class Hidden(nn.Module):
    """One hidden layer on the mean over windows."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, HIDDEN), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, outputs)
        )

    def forward(self, x_BWD: Tensor, real_BW: Tensor) -> Tensor:
        """[B, W, D] and which windows are real, [B, W] -> [B, C]."""
        mean_BD = (x_BWD * real_BW[..., None]).sum(1) / real_BW.sum(1, keepdim=True)
        return self.layers(mean_BD)


HEADS: dict[str, Callable[[int, int], nn.Module]] = {"mlp": Hidden, "attentive": Attentive}


def run(
    examples: Examples,
    head: Kind,
    seeds: Sequence[int] | None = None,
    shuffles: int | None = None,
) -> Outcome:
    """Train and test the head on every split of the task, once per seed and per shuffle."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the steps are too small to share; on busy cores threads cost time
    try:
        return _run(examples, head, seeds or SEEDS, SHUFFLES if shuffles is None else shuffles)
    finally:
        torch.set_num_threads(threads)


def _run(examples: Examples, head: Kind, seeds: Sequence[int], count: int) -> Outcome:
    splits = examples.splits
    outputs = [
        np.concatenate([_one(examples, split, head, seed) for split in splits]) for seed in seeds
    ]
    false = [
        np.stack([_one(wrong, split, head, k) for k, wrong in _shuffled(examples, split, count)])
        for split in splits
        if count
    ]
    told = np.stack(outputs)
    return Outcome(
        rows=np.concatenate([s.test for s in splits]),
        outputs=told,
        shuffled=np.concatenate(false, axis=1) if false else told[:0],
    )


def _shuffled(examples: Examples, split: Split, count: int) -> Iterator[tuple[int, Examples]]:
    """The examples under labels of other persons, validation included: it stops the training."""
    known = np.concatenate([split.train, split.val])
    for k, false_N in enumerate(floors.shuffled_labels(examples, known, count)):
        labels = examples.labels.copy()
        labels[known] = false_N
        yield k, replace(examples, labels=labels)


def _one(examples: Examples, split: Split, head: Kind, seed: int) -> Floats:
    """[N, C] of the split's tested rows, from the epoch that is best on validation persons."""
    torch.manual_seed(seed)
    parts = inner(examples, split)
    learn, held = (parts[0].train, parts[0].val) if parts else (split.train, split.val)
    scale = standardiser(np.concatenate([examples.windows[i] for i in learn]))
    bags = [torch.from_numpy(scale(w)).float() for w in examples.windows]
    labels, kind = torch.from_numpy(examples.labels), examples.task.kind
    loss, speak = objective(labels[torch.from_numpy(learn)], examples.classes, kind)
    model = HEADS[head](bags[0].shape[1], examples.classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rng = np.random.default_rng(seed)
    best, waited = (-math.inf, model.state_dict()), 0
    for _ in range(EPOCHS):
        model.train()
        for batch in np.array_split(rng.permutation(learn), math.ceil(len(learn) / BATCH)):
            optimizer.zero_grad()
            loss(model(*padded(bags, batch)), labels[torch.from_numpy(batch)]).backward()
            optimizer.step()
        quality = -math.inf
        if len(held):
            unit, said = rows_of.per_unit(examples, held, speak(_said(model, bags, held)))
            found = metrics.headline(said, examples.labels[unit], kind)
            quality = -found if kind == "regression" else found
        waited += 1
        # Without usable validation every epoch counts as better and the last one is tested.
        if not quality <= best[0] or not math.isfinite(quality):
            kept = {k: v.clone() for k, v in model.state_dict().items()}
            best, waited = (quality if math.isfinite(quality) else best[0], kept), 0
        if waited >= PATIENCE:
            break
    model.load_state_dict(best[1])
    return speak(_said(model, bags, split.test))


def objective(
    labels_N: Tensor, classes: int, kind: str
) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Floats]]:
    """A loss on outputs and labels, and how outputs become probabilities or numbers.

    Classes are balanced in the loss; probabilities are put back to the shares of train, as the
    linear head does. Numbers are standardised by the training labels.
    """
    if kind == "regression":
        mean, sd = labels_N.mean(), labels_N.std(correction=0).clamp(min=1e-12)
        return (
            lambda out, true: nn.functional.mse_loss(out[:, 0], ((true - mean) / sd).float()),
            lambda out: (out.double() * sd + mean).numpy(),
        )
    share_C = torch.bincount(labels_N.long(), minlength=classes) / len(labels_N)
    weight_C = 1 / (classes * share_C.clamp(min=1e-12))
    return (
        lambda out, true: nn.functional.cross_entropy(out, true.long(), weight_C),
        lambda out: (out.double() + share_C.double().log()).softmax(1).numpy(),
    )


def padded(bags: Sequence[Tensor], rows: Index) -> tuple[Tensor, Tensor]:
    """[B, W, D] with zeros after a recording's last window, and which are real, [B, W]."""
    chosen = [bags[i] for i in rows]
    real = [torch.ones(len(bag), dtype=torch.bool) for bag in chosen]
    pad = nn.utils.rnn.pad_sequence
    return pad(chosen, batch_first=True), pad(real, batch_first=True)


@torch.inference_mode()
def _said(model: nn.Module, bags: Sequence[Tensor], rows: Index) -> Tensor:
    model.eval()
    parts = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    return torch.cat([model(*padded(bags, part)) for part in parts])
