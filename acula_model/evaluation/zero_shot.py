"""Statements in the words of reports -> classes of recordings, without a head and without labels.

A class is the mean of its statements' vectors, and a recording is as much of a class as it is
nearer to it than to the others (Radford et al., 2021, section 3.1.4). Before alignment sounds and
texts share no space, so there is no such number.
"""

# N = recordings, C = classes, K = statements of a class, Q = width of the shared space

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model.evaluation import examples as rows_of
from acula_model.evaluation import intervals, metrics, sides
from acula_model.evaluation.examples import Features, NotRun
from acula_model.evaluation.intervals import Interval
from acula_model.evaluation.metrics import Floats
from acula_model.evaluation.task import Task

RANDOM = 200  # sets of directions


@dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """AUROC of statements on the test persons of one task.

    Attributes:
        auroc: Macro one-vs-rest where there are more than two classes; chance is 0.5.
        random_low: Of the middle 95 % of AUROCs of random directions in the shared space. A
            space of few directions leaves them far from 0.5, and then a score within them shows
            nothing, whatever its interval over persons is.
        random_high: Of the same.
        units: Tested.
        persons: Of these.
    """

    auroc: Interval
    random_low: float
    random_high: float
    units: int
    persons: int


def score(
    task: Task,
    rows: Iterable[Mapping[str, Any]],
    sounds: Features,
    prompts: Sequence[npt.NDArray[np.floating]],
    seed: int = 0,
) -> ZeroShot:
    """Score the test fold of one task and variant.

    Args:
        task: Binary or multiclass.
        rows: ``TaskRow`` of it.
        sounds: recording id -> unit vector [Q] in the space of the reports.
        prompts: For each class, in the order of the labels, unit vectors [K, Q].
        seed: Of the random directions.

    Raises:
        NotRun: A regression, a class without a statement, or too few test persons of a class.
    """
    if task.kind == "regression":
        raise NotRun("a number has no classes to state")
    examples = rows_of.gather(task, [r for r in rows if r["fold"] == "test"], sounds)
    if len(prompts) != examples.classes or not all(len(p) for p in prompts):
        raise NotRun(f"{task.id} has {examples.classes} classes, and each needs a statement")
    persons = [len(set(examples.persons[examples.labels == c])) for c in range(examples.classes)]
    if min(persons) < rows_of.MIN_PERSONS:
        said = ", ".join(f"{c} {n}" for c, n in zip(task.classes, persons, strict=True))
        raise NotRun(f"fewer than {rows_of.MIN_PERSONS} persons of a class in test: {said}")
    every = np.arange(len(examples.recordings))
    vectors_NQ = examples.vectors.astype(np.float64)

    def side(prompt_CQ: Floats) -> intervals.Scored:
        near_NC = vectors_NQ @ _unit(prompt_CQ).T
        return sides.tested(examples, every, near_NC - _others(near_NC))

    found = side(np.stack([p.astype(np.float64).mean(0) for p in prompts]))
    rng = np.random.default_rng(seed)
    shape = RANDOM, examples.classes, vectors_NQ.shape[1]
    drawn = [side(d_CQ) for d_CQ in rng.standard_normal(shape)]
    low, high = np.percentile([metrics.auroc(s.outputs, s.labels) for s in drawn], [2.5, 97.5])
    units, people = sides.counted(found)
    return ZeroShot(
        auroc=intervals.interval([found]),
        random_low=float(low),
        random_high=float(high),
        units=units,
        persons=people,
    )


def _unit(x_CQ: Floats) -> Floats:
    return x_CQ / np.maximum(np.linalg.norm(x_CQ, axis=1, keepdims=True), 1e-12)


def _others(near_NC: Floats) -> Floats:
    """[N, C]: mean over the other classes."""
    total_N1 = near_NC.sum(1, keepdims=True)
    return (total_N1 - near_NC) / (near_NC.shape[1] - 1)
