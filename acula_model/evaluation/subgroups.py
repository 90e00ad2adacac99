"""Predictions by sex, age band, device, site or dataset: does the number hold for everyone?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from acula_model.evaluation import intervals
from acula_model.evaluation.intervals import Scored
from acula_model.evaluation.score import Prediction
from acula_model.evaluation.task import Kind

# Fewer persons of a class (of all, in regression) than this, and an interval is wider than
# anything it could show: at 10 against 10 an AUROC of 0.8 has a standard error of 0.10 (Hanley
# and McNeil, 1982).
MIN_PERSONS = 10


@dataclass(frozen=True, kw_only=True)
class Subgroup:
    """One metric within one value of an attribute.

    Attributes:
        attribute: Such as ``sex``.
        value: Of the attribute; ``unknown`` where a unit has none.
        units: Test units.
        persons: Persons of each class; of all, in regression.
        metric: AUROC or MAE; None where a class is missing.
        low: Of the 95 % interval over persons.
        high: Of the same.
        too_small: Fewer than 10 persons of a class: not to be compared with anything.
    """

    attribute: str
    value: str
    units: int
    persons: list[int]
    metric: float | None
    low: float | None
    high: float | None
    too_small: bool


def scored(predictions: Sequence[Prediction], kind: Kind) -> Scored:
    """The test side that predictions of one task, variant and head make."""
    if kind == "multiclass":
        outputs = np.array([p.probabilities for p in predictions], np.float64)
    else:
        outputs = np.array([p.score for p in predictions], np.float64)
    return Scored(
        outputs=outputs,
        labels=np.array([p.label for p in predictions], np.float64),
        persons=[p.person_id for p in predictions],
        kind=kind,
    )


def by_attribute(
    predictions: Sequence[Prediction],
    kind: Kind,
    attributes: Mapping[str, Mapping[str, str | None]],
) -> list[Subgroup]:
    """Score every value of every attribute.

    Args:
        predictions: Of one task, variant, protocol and head.
        kind: Of the task.
        attributes: unit -> attribute -> value, already in bands where it is a number.

    Returns:
        Sorted by attribute and value; values nobody has are not in it.
    """
    names = sorted({name for own in attributes.values() for name in own})
    found: list[Subgroup] = []
    for name in names:
        values: dict[str, list[Prediction]] = {}
        for one in predictions:
            value = attributes.get(one.unit, {}).get(name)
            values.setdefault("unknown" if value is None else str(value), []).append(one)
        classes = sorted({p.label for p in predictions})
        found += [_one(name, v, values[v], kind, classes) for v in sorted(values)]
    return found


def _one(
    attribute: str, value: str, own: Sequence[Prediction], kind: Kind, classes: Sequence[float]
) -> Subgroup:
    if kind == "regression":
        persons = [len({p.person_id for p in own})]
    else:
        persons = [len({p.person_id for p in own if p.label == c}) for c in classes]
    known = len(classes) > 1 or kind == "regression"
    interval = intervals.interval([scored(own, kind)]) if known and min(persons) else None
    return Subgroup(
        attribute=attribute,
        value=value,
        units=len(own),
        persons=persons,
        metric=interval and interval.value,
        low=interval and interval.low,
        high=interval and interval.high,
        too_small=min(persons) < MIN_PERSONS,
    )
