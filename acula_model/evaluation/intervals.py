"""Test outputs -> intervals over persons, paired differences and what could be detected.

Recordings of one person are not independent, so resampling draws persons (cluster bootstrap,
Field and Welsh 2007), never recordings. The same persons give the same draws, whatever model
scored them, so differences are paired.
"""

# N = units, R = resamples, P = persons, C = number of classes, K = statistics

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acula_model.evaluation import metrics
from acula_model.evaluation.metrics import Floats, Statistic
from acula_model.evaluation.task import Kind

DRAWS = 2000
# Normal quantiles of a two-sided test at 5 % with 80 % power: 1.960 + 0.842.
DETECTABLE = 2.802
_CELLS = 2_000_000  # weights held at once: 16 MB


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """One test side: what a head said of each unit, what is true, and whose unit it is.

    Attributes:
        outputs: [N], or [N, C] class probabilities of a multiclass task.
        labels: [N].
        persons: [N].
    """

    outputs: Floats
    labels: Floats
    persons: Sequence[str]
    kind: Kind = "binary"

    def statistic(self) -> Statistic:
        """The headline metric as a function of weights."""
        if self.kind == "regression":
            return metrics.mae_statistic(self.outputs, self.labels)
        if self.kind == "binary":
            return metrics.auroc_statistic(self.outputs, self.labels)
        return metrics.macro_auroc_statistic(self.outputs, self.labels)

    @property
    def value(self) -> float:
        """The headline metric."""
        return metrics.point(self.statistic(), len(self.labels))


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its 95 % percentile interval.

    Attributes:
        se: Standard deviation over resamples.
        draws: Resamples made.
        failed: Of these, how many lacked a class and said nothing.
    """

    value: float
    low: float
    high: float
    se: float
    draws: int
    failed: int

    @property
    def detectable(self) -> float:
        """Smallest true effect found at 5 % with 80 % power: (1.960 + 0.842) x se."""
        return DETECTABLE * self.se


@dataclass(frozen=True, kw_only=True)
class Difference(Interval):
    """Ours - other, paired by person.

    Attributes:
        p: Of no difference: share of swaps of the two models, person by person, that give as
            large a difference. Two-sided, never 0.
    """

    p: float


def person_counts(size: int, draws: int, seed: int, units: int) -> Iterator[Floats]:
    """How often each of ``size`` sorted persons is drawn, in blocks [r, P].

    ``units`` bounds a block's memory and changes no number.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS // max(size, units))
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        drawn = rng.integers(size, size=(rows, size)) + size * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(float)


def _columns(persons: Sequence[str], names: Sequence[str]) -> npt.NDArray[np.int64]:
    place = {name: i for i, name in enumerate(names)}
    return np.array([place[p] for p in persons])


def _resampled(scored: Sequence[Scored], draws: int, seed: int) -> Floats:
    """[K, R]: each test side's metric in the same resamples of all their persons."""
    people = sorted({p for s in scored for p in s.persons})
    units = max(len(s.persons) for s in scored)
    pairs = [(s.statistic(), _columns(s.persons, people)) for s in scored]
    blocks = []
    for block_RP in person_counts(len(people), draws, seed, units):
        with np.errstate(invalid="ignore"):
            blocks.append([statistic(block_RP[:, at_N]) for statistic, at_N in pairs])
    return np.concatenate(blocks, axis=1)


def _interval(value: float, resamples_R: Floats) -> Interval:
    usable = resamples_R[np.isfinite(resamples_R)]
    failed = len(resamples_R) - len(usable)
    low, high = np.percentile(usable, [2.5, 97.5]) if len(usable) else (np.nan, np.nan)
    se = float(usable.std(ddof=1)) if len(usable) > 1 else 0.0
    return Interval(
        value=value, low=float(low), high=float(high), se=se, draws=len(resamples_R), failed=failed
    )


def interval(runs: Sequence[Scored], draws: int = DRAWS, seed: int = 0) -> Interval:
    """Mean metric of one task's runs (seeds of one head) with its interval over persons."""
    resamples_KR = _resampled(runs, draws, seed)
    return _interval(float(np.mean([r.value for r in runs])), resamples_KR.mean(0))


def of_statistic(
    statistic: Statistic, persons: Sequence[str], draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Any statistic of weighted units, with its interval over their persons [N]."""
    people = sorted(set(persons))
    at_N = _columns(persons, people)
    blocks = [
        statistic(block_RP[:, at_N])
        for block_RP in person_counts(len(people), draws, seed, len(at_N))
    ]
    return _interval(metrics.point(statistic, len(at_N)), np.concatenate(blocks))


def difference(ours: Scored, other: Scored, draws: int = DRAWS, seed: int = 0) -> Difference:
    """Metric of ours - other on the same units; for an MAE, below zero is better.

    Raises:
        ValueError: The two are of different units.
    """
    return mean_difference({"": [ours]}, {"": [other]}, draws, seed)


def mean_difference(
    ours: Mapping[str, Sequence[Scored]],
    other: Mapping[str, Sequence[Scored]],
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """Mean over tasks (and over runs within a task) of ours - other, paired by person.

    Args:
        ours: Task -> its test side from one or more runs (seeds). Tasks may share persons, who
            are then drawn, and swapped, together.
        other: The same tasks and units, scored by the runs to compare with; equally many.
        draws: Resamples, and as many swaps.
        seed: Of both.

    Raises:
        ValueError: Other tasks, runs or units.
    """
    pairs: list[tuple[float, Scored, Scored]] = []
    if ours.keys() != other.keys() or not ours:
        raise ValueError("compare the same tasks on both sides, at least one")
    for task, runs in ours.items():
        if len(runs) != len(other[task]):
            raise ValueError(f"{task or 'this task'}: compare equally many runs")
        for mine, theirs in zip(runs, other[task], strict=True):
            if list(mine.persons) != list(theirs.persons) or (mine.labels != theirs.labels).any():
                raise ValueError(
                    f"{task or 'this task'}: the two were scored on different test units; "
                    "score both again on the same task rows"
                )
            pairs.append((1 / (len(runs) * len(ours)), mine, theirs))
    share_K = np.array([share for share, _, _ in pairs])
    gaps = np.array([mine.value - theirs.value for _, mine, theirs in pairs])
    both = _resampled([s for _, *two in pairs for s in two], draws, seed)
    found = _interval(float(share_K @ gaps), share_K @ (both[::2] - both[1::2]))
    p = _swap_p(pairs, draws, seed + 1)
    return Difference(**vars(found), p=p)


def _swap_p(pairs: Sequence[tuple[float, Scored, Scored]], draws: int, seed: int) -> float:
    """Paired permutation test: swap the two models' outputs for random persons.

    AUROC depends on ranks only, so ranks within each model are swapped and different scales do
    not matter (Bandos, Rockette and Gur, 2005).
    """
    people = sorted({p for _, mine, _ in pairs for p in mine.persons})
    rng = np.random.default_rng(seed)
    made = []
    for share, mine, theirs in pairs:
        joint = Scored(
            outputs=np.concatenate([_ranked(mine), _ranked(theirs)]),
            labels=np.concatenate([mine.labels, theirs.labels]),
            persons=(),
            kind=mine.kind,
        )
        made.append((share, joint.statistic(), _columns(mine.persons, people)))
    largest = max(len(mine.persons) for _, mine, _ in pairs)
    step = max(1, _CELLS // (2 * max(largest, len(people))))
    observed = 0.0
    swapped: list[Floats] = []
    for start in range(0, draws + 1, step):
        rows = min(step, draws + 1 - start)
        stay_RP = rng.random((rows, len(people))) < 0.5
        if start == 0:
            stay_RP[0] = True  # as observed
        total = np.zeros(rows)
        for share, statistic, at_N in made:
            kept = stay_RP[:, at_N].astype(float)
            first = statistic(np.concatenate([kept, 1 - kept], axis=1))
            total += share * (first - statistic(np.concatenate([1 - kept, kept], axis=1)))
        if start == 0:
            observed = abs(float(total[0]))
        swapped.append(np.abs(total))
    # The observed arrangement is one of those counted, so p is never 0.
    return float(np.mean(np.concatenate(swapped) >= observed - 1e-12))


def _ranked(scored: Scored) -> Floats:
    if scored.kind == "regression":
        return scored.outputs
    table = scored.outputs.reshape(len(scored.labels), -1)
    ranks = np.empty_like(table)
    for column in range(table.shape[1]):
        _, first, number = np.unique(table[:, column], return_inverse=True, return_counts=True)
        ends = np.cumsum(number)
        ranks[:, column] = (ends - (number - 1) / 2)[first]
    return ranks.reshape(scored.outputs.shape)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p values that hold for all tasks together (Holm, 1979)."""
    found: dict[str, float] = {}
    worst = 0.0
    for rank, (task, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        worst = max(worst, min(1.0, p * (len(p_values) - rank)))
        found[task] = worst
    return found
