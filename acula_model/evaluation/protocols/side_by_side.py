"""Many linear heads trained side by side as the published benchmark trains one.

Heads differ in seed, rows or labels. A step multiplies the rows that any of them draws with the
weights of all of them: one large product in place of many small ones.
"""

# R = runs, N = recordings, K = features and a constant one, C = number of outputs, B = batch,
# U = rows that any run draws, V = validation

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from acula_model.evaluation import metrics
from acula_model.evaluation.examples import Examples, Split
from acula_model.evaluation.metrics import Floats
from acula_model.evaluation.task import Kind, Published

LEARNING_RATE = 1e-4
DECAY = 0.97
CLIP_NORM = 1.0
START_SD = 0.01
_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # Adam's defaults


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One head to train: its rows, the labels of all rows, and its seed."""

    split: Split
    labels: Floats
    seed: int
    shuffle: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Runs of one shape train side by side."""
        return len(self.split.train), len(self.split.val)


@contextmanager
def one_thread() -> Iterator[None]:
    """Steps are too small to share: on busy cores two threads take eight times the time of one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def train(examples: Examples, runs: Sequence[Run], settings: Published) -> list[Floats]:
    """Train runs of one shape side by side.

    Args:
        examples: Their rows.
        runs: Equally many training and validation rows each.
        settings: Of the benchmark.

    Returns:
        Per run, [N, C] probabilities (or numbers) of its tested rows.
    """
    x_NK = torch.from_numpy(
        np.concatenate([examples.vectors, np.ones((len(examples.vectors), 1), np.float32)], axis=1)
    )
    regression = examples.task.kind == "regression"
    labels_RN = torch.from_numpy(np.stack([r.labels for r in runs]))
    train_RN = torch.from_numpy(np.stack([r.split.train for r in runs]))
    learned = labels_RN.gather(1, train_RN)
    mean_R11 = learned.mean(1).float()[:, None, None]
    # numpy's deviation, as the benchmark takes it
    sd_R11 = learned.std(1, correction=0).float()[:, None, None]
    draws = [torch.Generator().manual_seed(r.seed) for r in runs]
    heads = [start(x_NK.shape[1] - 1, examples.classes, g) for g in draws]
    state_KRC = torch.stack(heads, dim=1)
    best = _Best(examples, runs, x_NK, settings)
    adam = _Adam(state_KRC)
    run_R1 = torch.arange(len(runs))[:, None]
    for epoch in range(settings.epochs):
        for batch_RB in _batches(train_RN, settings.batch_size, draws):
            rows_U, place_RB = batch_RB.unique(return_inverse=True)
            x_UK = x_NK[rows_U]
            said_URC = _product(x_UK, state_KRC)
            said_RBC, true_RB = said_URC[place_RB, run_R1], labels_RN[run_R1, batch_RB]
            if regression:
                difference = said_RBC * sd_R11 + mean_R11 - true_RB[..., None].float()
                error_RBC = 2 * sd_R11 * difference
            else:
                error_RBC = said_RBC.softmax(2)
                error_RBC.scatter_add_(2, true_RB[..., None].long(), -torch.ones_like(said_RBC))
            error_URC = torch.zeros_like(said_URC)
            error_URC[place_RB, run_R1] = error_RBC / batch_RB.shape[1]
            gradient_KRC = _product(x_UK.T, error_URC) + 2 * settings.l2 * state_KRC
            norm_1R1 = gradient_KRC.square().sum((0, 2), keepdim=True).sqrt_()
            gradient_KRC *= (CLIP_NORM / (norm_1R1 + 1e-6)).clamp(max=1)
            adam.step(gradient_KRC, LEARNING_RATE * DECAY**epoch)
        if (epoch + 1) % settings.validate_every == 0 and best.look(state_KRC):
            break
    chosen_RKC = best.states(state_KRC)
    found: list[Floats] = []
    for i, run in enumerate(runs):
        said_NC = x_NK[torch.from_numpy(run.split.test)] @ chosen_RKC[i]
        found.append(_spoken(said_NC, regression, float(mean_R11[i]), float(sd_R11[i])))
    return found


def start(features: int, outputs: int, draw: torch.Generator) -> Tensor:
    """[K, C]: the head before training; the last row is the bias."""
    weight_CD = torch.empty(outputs, features).normal_(0, START_SD, generator=draw)
    return torch.cat([weight_CD.T, torch.zeros(1, outputs)])


def _batches(train_RN: Tensor, size: int, draws: Sequence[torch.Generator]) -> Iterator[Tensor]:
    """[R, B] rows of one epoch, each run in an order of its own; the last may be smaller."""
    count = train_RN.shape[1]
    order_RN = torch.stack([torch.randperm(count, generator=g) for g in draws])
    yield from train_RN.gather(1, order_RN).split(size, dim=1)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """[a, b] x [b, R, C] -> [a, R, C]."""
    return (left @ right.flatten(1)).view(len(left), *right.shape[1:])


def _spoken(said: Tensor, regression: bool, mean: float, sd: float) -> Floats:
    """Probabilities or numbers, in double precision: a certain head must not make ties."""
    said = said.double()
    return (said * sd + mean).numpy() if regression else said.softmax(-1).numpy()


class _Adam:
    """Adam (Kingma and Ba, 2015) in place on one tensor, as torch does it."""

    def __init__(self, state: Tensor):
        self.state, self.steps = state, 0
        self.first, self.second = torch.zeros_like(state), torch.zeros_like(state)

    def step(self, gradient: Tensor, rate: float) -> None:
        self.steps += 1
        one, two = _BETAS
        self.first.lerp_(gradient, 1 - one)
        self.second.mul_(two).addcmul_(gradient, gradient, value=1 - two)
        root = (self.second.sqrt() / (1 - two**self.steps) ** 0.5).add_(_EPSILON)
        self.state.addcdiv_(self.first, root, value=-rate / (1 - one**self.steps))


class _Best:
    """Keeps each run's state that is best on its validation rows."""

    def __init__(self, examples: Examples, runs: Sequence[Run], x_NK: Tensor, settings: Published):
        self.patience = settings.patience
        self.kind: Kind = examples.task.kind
        val_RV = np.stack([r.split.val for r in runs])
        rows_U, place_RV = np.unique(val_RV, return_inverse=True)
        self.x_UK, self.place_RV = x_NK[torch.from_numpy(rows_U)], place_RV.reshape(val_RV.shape)
        self.true_RV = np.stack([r.labels[r.split.val] for r in runs])
        learned = np.stack([r.labels[r.split.train] for r in runs])
        self.mean_R1, self.sd_R1 = learned.mean(1)[:, None], learned.std(1)[:, None]
        self.kept: list[Tensor | None] = [None] * len(runs)
        self.quality, self.waited = np.full(len(runs), -np.inf), np.zeros(len(runs), int)

    def look(self, state_KRC: Tensor) -> bool:
        """Compare with the best so far; True when every run has waited long enough."""
        if not self.true_RV.size:
            return False
        stopped = self.waited >= (np.inf if self.patience is None else self.patience)
        quality = self._quality(_product(self.x_UK, state_KRC))
        # A validation side without one of the classes says nothing: nan is never greater.
        better = (quality > self.quality) & ~stopped
        self.quality[better] = quality[better]
        self.waited = np.where(stopped, self.waited, np.where(better, 0, self.waited + 1))
        for i in np.flatnonzero(better):
            self.kept[i] = state_KRC[:, i].clone()
        return self.patience is not None and bool((self.waited >= self.patience).all())

    def states(self, last_KRC: Tensor) -> list[Tensor]:
        """[K, C] of each run: the best, or the last where validation said nothing."""
        last = last_KRC.unbind(1)
        return [own if kept is None else kept for kept, own in zip(self.kept, last, strict=True)]

    def _quality(self, said_URC: Tensor) -> Floats:
        run_R1 = np.arange(len(self.kept))[:, None]
        if self.kind == "regression":
            said_RV = said_URC.double().numpy()[self.place_RV, run_R1, 0]
            error_RV = np.abs(said_RV * self.sd_R1 + self.mean_R1 - self.true_RV)
            return -error_RV.mean(1)
        said_RVC = _spoken(said_URC, False, 0, 1)[self.place_RV, run_R1]
        both = zip(said_RVC, self.true_RV, strict=True)
        return np.array([metrics.headline(said, true, self.kind) for said, true in both])
