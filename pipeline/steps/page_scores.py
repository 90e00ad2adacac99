"""probe scores of a run and of its floors -> a row per task and variant, and a verdict.

Every number of the results page that compares something is made here, from the predictions
and not from rounded scores, so that differences are paired by person.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from acula_model import metrics
from acula_model.metrics import Interval, Scored
from pipeline.manifest import Manifest
from pipeline.steps import store

VARIANTS = ("subject_clean", "as_published")
Key = tuple[str, str]  # task, variant
TableRow = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Scores and test predictions of one probed encoder (or of metadata), by task and variant."""

    scores: Mapping[Key, TableRow]
    tests: Mapping[Key, Scored]
    units: Mapping[Key, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the score table. Intervals are None where the task was not run.

    Attributes:
        units: Negative and positive test units.
        persons: Persons in test.
        identity: How persons of test are known: ``id``, ``proxy``, ``none``.
        shared: Persons of test who are also in the probe's train or validation.
        learned: Persons of the alignment set whom this task holds out; must be 0.
        reason: Why the task was not run.
    """

    task: str
    title: str
    dataset: str
    variant: str
    units: tuple[int, int]
    persons: int
    identity: tuple[str, ...]
    shared: int
    learned: int
    reason: str | None
    after: Interval | None = None
    before: Interval | None = None
    difference: Interval | None = None
    shortcut: Interval | None = None
    majority: float | None = None

    @property
    def leaks(self) -> bool:
        return self.shared > 0 or self.learned > 0

    @property
    def deaf(self) -> bool:
        """Metadata that hear no sound do as well as the aligned encoder."""
        return bool(self.after and self.shortcut and self.shortcut.value >= self.after.value)


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Mean difference over the tasks of ``subject_clean`` and whether it excludes zero."""

    interval: Interval
    tasks: int

    @property
    def sign(self) -> Literal["above", "below", "unclear"]:
        if self.interval.low > 0:
            return "above"
        return "below" if self.interval.high < 0 else "unclear"


def load(place: Path) -> Result:
    """Read ``scores.parquet`` and ``predictions.parquet`` of one folder."""
    found: dict[Key, list[TableRow]] = {}
    for row in store.read_table(place / "predictions.parquet").to_pylist():
        found.setdefault((row["task"], row["variant"]), []).append(row)
    tests = {
        key: Scored(
            scores=np.array([r["score"] for r in own], np.float64),
            labels=np.array([r["label"] for r in own], np.int64),
            persons=[r["person_id"] for r in own],
        )
        for key, own in found.items()
    }
    scores = store.read_table(place / "scores.parquet").to_pylist()
    return Result(
        scores={(s["task"], s["variant"]): s for s in scores},
        tests=tests,
        units={key: [r["unit"] for r in own] for key, own in found.items()},
    )


def difference(ours: Result, other: Result, keys: Iterable[Key]) -> Interval | None:
    """Mean AUROC of ours - other over the keys that both have; None if there is none.

    Raises:
        ValueError: The two were scored on different test units.
    """
    both = [k for k in keys if k in ours.tests and k in other.tests]
    for key in both:
        if ours.units[key] != other.units[key]:
            raise ValueError(
                f"{' '.join(key)}: the scores to compare are of different test units; "
                "materialise `baseline_scores` and `train_alignment` again"
            )
    if not both:
        return None
    names = {k: " ".join(k) for k in both}
    return metrics.mean_difference(
        {names[k]: [ours.tests[k]] for k in both}, {names[k]: [other.tests[k]] for k in both}
    )


def gap(ours: Result, other: Result) -> Gap | None:
    """The verdict: mean difference over all tasks that share no person."""
    keys = sorted(k for k in ours.tests if k in other.tests and k[1] == "subject_clean")
    found = difference(ours, other, keys)
    return Gap(interval=found, tasks=len(keys)) if found else None


def rows(
    after: Result,
    before: Result,
    shortcut: Result,
    pairs: Sequence[TableRow],
    task_rows: Sequence[TableRow],
    manifests: Mapping[str, Manifest],
    datasets: Sequence[str],
) -> list[Row]:
    """Every task of the run's datasets in each variant; ``subject_clean`` first."""
    declared = [
        (f"{d}/{name}", d, task) for d in datasets for name, task in manifests[d].tasks.items()
    ]
    aligned = {p["person_id"] for p in pairs if p["align"]}
    identity = {p["recording_id"]: p["identity"] for p in pairs}
    held: dict[Key, set[str]] = {}
    test: dict[Key, list[TableRow]] = {}
    for row in task_rows:
        key = (row["task"], row["variant"])
        if row["fold"] != "train":
            held.setdefault(key, set()).add(row["person_id"])
        if row["fold"] == "test":
            test.setdefault(key, []).append(row)
    table: list[Row] = []
    for variant in VARIANTS:
        for name, dataset, task in declared:
            key = (name, variant)
            score = after.scores.get(key)
            if score is None and variant == "as_published":
                continue
            counts = json.loads(score["counts"])["test"] if score else (0, 0)
            own = test.get(key, [])
            table.append(
                Row(
                    task=name,
                    title=task.title,
                    dataset=dataset,
                    variant=variant,
                    units=(counts[0], counts[1]),
                    persons=len({r["person_id"] for r in own}),
                    identity=tuple(sorted({identity[r["recording_id"]] for r in own})),
                    shared=score["shared_persons"] if score else 0,
                    learned=len(aligned & held.get(key, set())),
                    reason=score["reason"] if score else "no recording carries this label",
                    after=interval(after, key),
                    before=interval(before, key),
                    difference=difference(after, before, [key]),
                    shortcut=interval(shortcut, key),
                    majority=score["majority"] if score else None,
                )
            )
    return table


def interval(result: Result, key: Key) -> Interval | None:
    """A score with its interval, or None where the task was not run."""
    score = result.scores.get(key)
    if score is None or score["auroc"] is None or math.isnan(score["auroc"]):
        return None
    return Interval(value=score["auroc"], low=score["low"], high=score["high"])
