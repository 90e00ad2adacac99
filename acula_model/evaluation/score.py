"""What an evaluation leaves behind: a score per task and a prediction per test unit."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

_NESTED = ("units", "persons", "classes", "flags", "details")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One task and variant, by one protocol and head on one set of features.

    Attributes:
        task: ``<dataset>/<task>``.
        variant: Of the split: ``subject_clean``, ``as_published``, ...
        protocol: ``default``, ``published`` or ``floor``.
        head: ``linear``, ``mlp``, ``attentive``, ``finetune``; for a floor, its name.
        features: What the head read: ``encoder``, ``shortcut``, ...
        metric: ``auroc`` (macro one-vs-rest where there are more classes) or ``mae``.
        value: On test; a mean over seeds where the protocol has seeds. None if not run.
        low: Of the 95 % interval over persons (cluster bootstrap).
        high: Of the same.
        sd_over_seeds: Spread between seeds. They vary the head's start and the order of its
            batches, never the split, so this is no interval.
        floor: 0.5, or the MAE of always saying the training mean.
        identity_lookup: Metric of repeating the label that this person had in train or
            validation: what sharing persons between folds gives away. The floor if none is shared.
        shuffled: Mean metric of the same head on labels shuffled between persons.
        shuffled_low: Of the middle 95 % of those shuffles.
        shuffled_high: Of the same.
        strength: Of the penalty, as chosen on validation persons (C, or alpha of a ridge).
        units: fold -> number of recordings, or of cases where the task aggregates.
        persons: fold -> number of persons.
        classes: fold -> number of units of each class; empty for regression.
        shared_persons: Persons of test who are also in train or validation.
        flags: Short words for what a reader must know; ``FLAGS`` explains them.
        reason: Why the task was not run.
        details: JSON values: calibration, operating points, curves, agreement, resampling.
    """

    task: str
    variant: str
    protocol: str
    head: str
    features: str
    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    sd_over_seeds: float | None = None
    floor: float | None = None
    identity_lookup: float | None = None
    shuffled: float | None = None
    shuffled_low: float | None = None
    shuffled_high: float | None = None
    strength: float | None = None
    units: Mapping[str, int] = field(default_factory=dict)
    persons: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, list[int]] = field(default_factory=dict)
    shared_persons: int = 0
    flags: tuple[str, ...] = ()
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """A flat row for a table: what is nested is JSON."""
        found = asdict(self)
        return found | {name: json.dumps(found[name], allow_nan=False) for name in _NESTED}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The score that ``row`` was made of; NaN in a number's column is None."""
        found: dict[str, Any] = {k: None if v != v else v for k, v in row.items()}
        found.update({name: json.loads(found[name]) for name in _NESTED})
        found["flags"] = tuple(found["flags"])
        return cls(**found)


FLAGS = {
    "below_chance": "the whole interval lies below chance: look for swapped labels",
    "worse_than_mean": "worse than always saying the training mean",
    "constant_features": "the features do not vary, so nothing can be read from them",
    "includes_chance": "the interval includes chance: nothing is shown",
    "lone_person": "a tested class is one person, about whose like the interval knows nothing",
    "few_persons": "fewer than 10 tested persons (of a class): their interval is too narrow",
    "too_small": "so few persons that only a huge effect could be detected",
    "shares_persons": "test persons are also in train or validation",
    "resamples_failed": "more than 1 % of the resamples lacked a class",
    "shuffled_differs": "shuffled labels do not give chance: look for a fault in the evaluation",
    "not_converged": "the head's solver stopped before it converged",
}


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What one head said about one test unit, as a mean over seeds.

    Attributes:
        unit: A recording, or a case where the task aggregates.
        label: Class index, or a number in the task's unit.
        score: Probability of the positive class, or the predicted number; for more than two
            classes the probability of the class that the unit has.
        probabilities: Of every class, where there are more than two.
    """

    task: str
    variant: str
    protocol: str
    head: str
    features: str
    unit: str
    person_id: str
    label: float
    score: float
    probabilities: list[float] | None = None
