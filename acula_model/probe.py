"""Frozen features + task rows -> AUROC of a linear probe per task, with interval and floor.

Standardised features, L2 logistic regression, its strength chosen on validation persons.
The same probe reads encoder embeddings, metadata and anything else that has rows of numbers.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model import metrics

Floats = npt.NDArray[np.float64]
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of logistic regression
MIN_PER_CLASS = 2
_VAL_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class Score:
    """Result of one task and variant. ``reason`` is set when it could not be run.

    Attributes:
        task: ``<dataset>/<task>``.
        variant: ``subject_clean`` or ``as_published``.
        auroc: On the test fold, with ``low`` and ``high`` of its 95 % interval over persons.
        majority: Share of the larger class in test: the accuracy of always saying it.
            Its AUROC is 0.5 by definition.
        strength: C chosen on validation.
        shared_persons: Persons of test who are also in train or validation.
        counts: fold -> [negative, positive] units.
        reason: Why the task was not run.
    """

    task: str
    variant: str
    auroc: float | None = None
    low: float | None = None
    high: float | None = None
    majority: float | None = None
    strength: float | None = None
    shared_persons: int = 0
    counts: dict[str, list[int]]
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Score of one test unit (a recording, or a case where the task aggregates)."""

    task: str
    variant: str
    unit: str
    person_id: str
    label: int
    score: float


def run(
    features: Mapping[str, npt.NDArray[np.floating]],
    task_rows: Iterable[Mapping[str, Any]],
    by_case: Iterable[str] = (),
) -> tuple[list[Score], list[Prediction]]:
    """Probe every task and variant.

    Args:
        features: recording id -> [D].
        task_rows: task, variant, recording_id, case_id, person_id, fold, label.
        by_case: Tasks whose unit is the case: scores of its recordings are averaged.

    Returns:
        One score per task and variant, in order, and the predictions behind them.
    """
    aggregated = set(by_case)
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in task_rows:
        grouped.setdefault((row["task"], row["variant"]), []).append(row)
    scores: list[Score] = []
    predictions: list[Prediction] = []
    for (task, variant), rows in sorted(grouped.items()):
        score, units = _one(task, variant, rows, features, task in aggregated)
        scores.append(score)
        predictions += units
    return scores, predictions


def _one(
    task: str,
    variant: str,
    rows: Sequence[Mapping[str, Any]],
    features: Mapping[str, npt.NDArray[np.floating]],
    by_case: bool,
) -> tuple[Score, list[Prediction]]:
    heard = [r for r in rows if r["recording_id"] in features]
    folds = {f: [r for r in heard if r["fold"] == f] for f in ("train", "val", "test")}
    known = {r["person_id"] for f in ("train", "val") for r in folds[f]}
    shared = len(known & {r["person_id"] for r in folds["test"]})
    counts = {f: _counts(own, by_case) for f, own in folds.items()}
    if not folds["val"]:
        folds["train"], folds["val"] = _cut(folds["train"])
    short = [f for f in ("train", "test") if min(_counts(folds[f], by_case)) < MIN_PER_CLASS]
    if short:
        reason = f"fewer than {MIN_PER_CLASS} of a class in {' and '.join(short)}"
        if not heard:
            reason = "no recording has features"
        return Score(
            task=task, variant=variant, counts=counts, shared_persons=shared, reason=reason
        ), []
    # Two recordings of one person are no sample of a class, and no interval over persons.
    alone = [f for f in ("train", "test") if min(_persons(folds[f])) < MIN_PER_CLASS]
    if alone:
        reason = f"fewer than {MIN_PER_CLASS} persons of a class in {' and '.join(alone)}"
        return Score(
            task=task, variant=variant, counts=counts, shared_persons=shared, reason=reason
        ), []
    units, strength = _fit(folds, features, by_case)
    scored = metrics.Scored(
        scores=np.array([u[3] for u in units]),
        labels=np.array([u[2] for u in units]),
        persons=[u[1] for u in units],
    )
    interval = metrics.auroc_interval(scored)
    score = Score(
        task=task,
        variant=variant,
        auroc=interval.value,
        low=interval.low,
        high=interval.high,
        majority=max(scored.labels.mean(), 1 - scored.labels.mean()),
        strength=strength,
        shared_persons=shared,
        counts=counts,
    )
    return score, [
        Prediction(task=task, variant=variant, unit=u, person_id=p, label=y, score=s)
        for u, p, y, s in units
    ]


def _counts(rows: Sequence[Mapping[str, Any]], by_case: bool) -> list[int]:
    units = {(r["case_id"] if by_case else r["recording_id"]): r["label"] for r in rows}
    return [sum(v == 0 for v in units.values()), sum(v == 1 for v in units.values())]


def _persons(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Persons with a negative and with a positive label."""
    return [len({r["person_id"] for r in rows if r["label"] == label}) for label in (0, 1)]


def _cut(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Validation persons out of train, by a hash of the person."""
    sides: tuple[list[Any], list[Any]] = ([], [])
    for row in rows:
        chance = int(hashlib.sha256(f"val:{row['person_id']}".encode()).hexdigest()[:8], 16) / 2**32
        sides[chance < _VAL_SHARE].append(row)
    return sides


def _fit(
    folds: Mapping[str, Sequence[Mapping[str, Any]]],
    features: Mapping[str, npt.NDArray[np.floating]],
    by_case: bool,
) -> tuple[list[tuple[str, str, int, float]], float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    def table(fold: str) -> Floats:
        return np.stack([features[r["recording_id"]] for r in folds[fold]]).astype(np.float64)

    scaler = StandardScaler().fit(table("train"))
    inputs = {f: scaler.transform(table(f)) for f in folds if folds[f]}
    labels = [r["label"] for r in folds["train"]]
    best = (-1.0, STRENGTHS[0], list[tuple[str, str, int, float]]())
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000, class_weight="balanced")
        model.fit(inputs["train"], labels)
        units = _units(folds["test"], model.decision_function(inputs["test"]), by_case)
        quality = 0.5
        if folds["val"] and min(_counts(folds["val"], by_case)) > 0:
            held = _units(folds["val"], model.decision_function(inputs["val"]), by_case)
            quality = float(
                metrics.auroc(
                    np.array([u[3] for u in held]),
                    np.array([u[2] for u in held]),
                    np.ones((1, len(held))),
                )[0]
            )
        if quality > best[0]:
            best = (quality, strength, units)
    return best[2], best[1]


def _units(
    rows: Sequence[Mapping[str, Any]], scores: Floats, by_case: bool
) -> list[tuple[str, str, int, float]]:
    """(unit, person, label, mean score), sorted by unit."""
    found: dict[str, tuple[str, int, list[float]]] = {}
    for row, score in zip(rows, scores, strict=True):
        unit = row["case_id"] if by_case else row["recording_id"]
        found.setdefault(unit, (row["person_id"], row["label"], []))[2].append(float(score))
    return [(u, p, y, float(np.mean(s))) for u, (p, y, s) in sorted(found.items())]
