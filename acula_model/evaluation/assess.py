"""What a head said of the tested -> its score with interval, floors, curves and warnings."""

# S = seeds, K = shuffles, U = units, C = number of classes

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from acula_model.evaluation import examples as rows_of
from acula_model.evaluation import floors, intervals, metrics
from acula_model.evaluation.examples import Examples, Index
from acula_model.evaluation.intervals import Interval, Scored
from acula_model.evaluation.metrics import Floats
from acula_model.evaluation.protocols import Outcome
from acula_model.evaluation.score import Prediction, Score
from acula_model.evaluation.subgroups import MIN_PERSONS

# A score whose smallest detectable effect is larger says nothing: 0.2 of AUROC, or of the floor's
# MAE. Published gaps between encoders are mostly below 0.1.
TOO_SMALL = 0.2
_SPECIFICITY = 0.95  # as cough benchmarks report it
_MAX_FAILED = 0.01  # of the resamples


@dataclass(frozen=True, kw_only=True)
class Names:
    """What a score and its predictions are called."""

    variant: str
    protocol: str
    head: str
    features: str


def not_run(examples: Examples | None, task: str, metric: str, names: Names, reason: str) -> Score:
    """A score without a number."""
    known = _sizes(examples) if examples is not None else {}
    return Score(task=task, metric=metric, reason=reason, **vars(names), **known)


def assess(examples: Examples, outcome: Outcome, names: Names) -> tuple[Score, list[Prediction]]:
    """Score an outcome; see ``Score`` for what is in it."""
    task = examples.task
    at_U, outputs_SUC = rows_of.per_unit(examples, outcome.rows, outcome.outputs)
    runs = [_scored(examples, at_U, said_UC) for said_UC in outputs_SUC]
    found = intervals.interval(runs)
    whole = _scored(examples, at_U, outputs_SUC.mean(0))
    usual = _floor(examples, floors.majority(examples))
    floor = usual.value if task.kind == "regression" else 0.5
    _, shuffled_KUC = rows_of.per_unit(examples, outcome.rows, outcome.shuffled)
    chance_K = [_scored(examples, at_U, said_UC).value for said_UC in shuffled_KUC]
    details: dict[str, Any] = {
        "se": found.se,
        "minimum_detectable": found.detectable,
        "resamples": {"draws": found.draws, "failed": found.failed},
        **outcome.notes,
    }
    flags = {*outcome.flags, *_flags(examples, found)}
    if task.kind == "regression":
        gain = intervals.difference(whole, usual)
        details |= _agreement(whole) | {
            "against_floor": {"value": gain.value, "low": gain.low, "high": gain.high, "p": gain.p},
            "minimum_detectable": gain.detectable,
        }
        flags |= {"worse_than_mean"} if gain.low > 0 else set()
        flags |= {"includes_chance"} if gain.low <= 0 <= gain.high else set()
        flags |= {"too_small"} if gain.detectable > TOO_SMALL * floor else set()
    else:
        details |= _calibration(whole) | {
            "classes": list(task.classes),
            "majority": float(np.bincount(whole.labels.astype(int)).max() / len(whole.labels)),
        }
    low = high = None
    if chance_K:
        low, high = (float(edge) for edge in np.percentile(chance_K, [2.5, 97.5]))
        if task.kind != "regression" and not low <= 0.5 <= high:
            flags.add("shuffled_differs")
    score = Score(
        task=task.id,
        metric=task.metric,
        value=found.value,
        low=found.low,
        high=found.high,
        sd_over_seeds=float(np.std([r.value for r in runs], ddof=1)) if len(runs) > 1 else None,
        floor=floor,
        identity_lookup=_floor(examples, floors.identity_lookup(examples)).value,
        shuffled=float(np.mean(chance_K)) if chance_K else None,
        shuffled_low=low,
        shuffled_high=high,
        strength=outcome.strength,
        flags=tuple(sorted(flags)),
        details=details,
        **_sizes(examples),
        **vars(names),
    )
    return score, _predictions(examples, at_U, outputs_SUC.mean(0), names)


def _scored(examples: Examples, at_U: Index, said_UC: Floats) -> Scored:
    kind = examples.task.kind
    column = {"regression": 0, "binary": 1, "multiclass": slice(None)}[kind]
    return Scored(
        outputs=said_UC[:, column],
        labels=examples.labels[at_U],
        persons=examples.persons[at_U].tolist(),
        kind=kind,
    )


def _floor(examples: Examples, outcome: Outcome) -> Scored:
    at_U, said_UC = rows_of.per_unit(examples, outcome.rows, outcome.outputs[0])
    return _scored(examples, at_U, said_UC)


def _flags(examples: Examples, found: Interval) -> set[str]:
    flags = {
        "constant_features": examples.constant,
        "shares_persons": examples.shared_persons > 0,
        "resamples_failed": found.failed > _MAX_FAILED * found.draws,
    }
    tested = np.isin(examples.folds, ("test", "each"))
    groups = [tested]
    if examples.task.kind != "regression":
        flags["below_chance"] = found.high < 0.5
        flags["includes_chance"] = found.low <= 0.5 <= found.high
        flags["too_small"] = found.detectable > TOO_SMALL
        groups = [tested & (examples.labels == c) for c in range(examples.classes)]
    least = min(len(set(examples.persons[group])) for group in groups)
    flags["lone_person"] = least == 1
    flags["few_persons"] = least < MIN_PERSONS
    return {name for name, true in flags.items() if true}


def _calibration(whole: Scored) -> dict[str, Any]:
    said, labels = whole.outputs, whole.labels
    found: dict[str, Any] = {
        "brier": metrics.brier(said, labels),
        "ece": metrics.calibration_error(said, labels),
        "reliability": metrics.reliability(said, labels),
    }
    if whole.kind == "binary":
        found["operating_point"] = metrics.sensitivity_at(said, labels, _SPECIFICITY)
        found["roc"] = metrics.roc_points(said, labels)
    else:
        found["auroc_by_class"] = [
            metrics.auroc(said[:, c], (labels == c) * 1.0) for c in range(said.shape[1])
        ]
    return found


def _agreement(whole: Scored) -> dict[str, Any]:
    """Besides the usual, the error per person: the benchmark averages over held-out persons."""
    error, persons = np.abs(whole.outputs - whole.labels), np.array(whole.persons)
    each = [error[persons == p].mean() for p in np.unique(persons)]
    return {
        **metrics.regression(whole.outputs, whole.labels),
        "bland_altman": metrics.bland_altman(whole.outputs, whole.labels),
        "mae_over_persons": {"mean": float(np.mean(each)), "sd": float(np.std(each))},
    }


def _sizes(examples: Examples) -> Mapping[str, Any]:
    folds = examples.by_fold()
    return {
        "units": {f: len(set(examples.units[at])) for f, at in folds.items()},
        "persons": {f: len(set(examples.persons[at])) for f, at in folds.items()},
        "classes": {f: rows_of.class_counts(examples, at) for f, at in folds.items()},
        "shared_persons": examples.shared_persons,
    }


def _predictions(
    examples: Examples, at_U: Index, said_UC: Floats, names: Names
) -> list[Prediction]:
    kind = examples.task.kind
    found: list[Prediction] = []
    for at, said_C in zip(at_U, said_UC, strict=True):
        label = float(examples.labels[at])
        column = {"regression": 0, "binary": 1, "multiclass": int(label)}[kind]
        found.append(
            Prediction(
                task=examples.task.id,
                unit=str(examples.units[at]),
                person_id=str(examples.persons[at]),
                label=label,
                score=float(said_C[column]),
                probabilities=said_C.tolist() if kind == "multiclass" else None,
                **vars(names),
            )
        )
    return found
