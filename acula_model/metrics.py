"""Scores and labels -> AUROC with an interval over persons, and paired differences.

Recordings of one person are not independent, so resampling draws persons (cluster
bootstrap, Field and Welsh 2007), never recordings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its 95 % percentile interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One task's test side: a score and a label (0 or 1) per unit, and whose unit it is."""

    scores: Floats
    labels: npt.NDArray[np.int64]
    persons: Sequence[str]


def auroc(scores: Floats, labels: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Area under the ROC curve for many weightings at once; ties count half.

    Args:
        scores: [N].
        labels: [N], 0 or 1.
        weights: [R, N], how often each unit is drawn in each of R resamples.

    Returns:
        [R]; nan where a resample lacks a class.
    """
    order = np.argsort(scores, kind="stable")
    ranked, labels, weights = scores[order], labels[order], weights[:, order]
    positive, negative = weights * labels, weights * (1 - labels)
    below = np.cumsum(negative, axis=1)
    first = np.searchsorted(ranked, ranked, side="left")
    last = np.searchsorted(ranked, ranked, side="right")
    padded = np.concatenate([np.zeros((len(weights), 1)), below], axis=1)
    beaten = (padded[:, first] + padded[:, last]) / 2
    pairs = positive.sum(1) * negative.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, (positive * beaten).sum(1) / pairs, np.nan)


def draw_persons(
    persons: Sequence[str], draws: int = DRAWS, seed: int = 0
) -> dict[str, npt.NDArray[np.int64]]:
    """Person -> [draws] how often they are drawn. The same persons give the same draws."""
    names = sorted(set(persons))
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return dict(zip(names, counts.T, strict=True))


def _resampled(task: Scored, draws: Mapping[str, npt.NDArray[np.int64]]) -> Floats:
    weights = np.stack([draws[p] for p in task.persons], axis=1).astype(np.float64)
    return auroc(task.scores, task.labels, weights)


def _point(task: Scored) -> float:
    return float(auroc(task.scores, task.labels, np.ones((1, len(task.scores))))[0])


def _interval(value: float, resamples: Floats) -> Interval:
    low, high = np.nanpercentile(resamples, [2.5, 97.5])
    return Interval(value=value, low=float(low), high=float(high))


def auroc_interval(task: Scored, draws: int = DRAWS) -> Interval:
    """AUROC with its 95 % interval over persons."""
    return _interval(_point(task), _resampled(task, draw_persons(task.persons, draws)))


def mean_difference(
    ours: Mapping[str, Sequence[Scored]],
    other: Mapping[str, Sequence[Scored]],
    draws: int = DRAWS,
) -> Interval:
    """Mean over tasks (and over runs within a task) of AUROC ours - other, paired by person.

    Args:
        ours: Task -> its scores from one or more runs (seeds).
        other: The same tasks, persons and units, from the runs to compare with.
        draws: Resamples; every task and run uses the same drawn persons.
    """
    people = [p for runs in ours.values() for p in runs[0].persons]
    drawn = draw_persons(people, draws)

    def mean(runs: Sequence[Scored]) -> tuple[float, Floats]:
        points = float(np.mean([_point(r) for r in runs]))
        return points, np.mean([_resampled(r, drawn) for r in runs], axis=0)

    gaps = []
    for task in ours:
        mine, theirs = mean(ours[task]), mean(other[task])
        gaps.append((mine[0] - theirs[0], mine[1] - theirs[1]))
    value = float(np.mean([g[0] for g in gaps]))
    return _interval(value, np.nanmean([g[1] for g in gaps], axis=0))
