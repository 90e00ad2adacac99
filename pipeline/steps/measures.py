"""Scores and predictions of two encoders and of the floors -> the numbers of one row of results."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from acula_model.evaluation import intervals, subgroups
from acula_model.evaluation.intervals import Scored
from acula_model.evaluation.score import Prediction, Score
from acula_model.evaluation.task import Kind
from pipeline.manifest import Manifest
from pipeline.steps import score_files
from pipeline.steps.results_schema import (
    Difference,
    Floors,
    Gap,
    Group,
    Interval,
    Leak,
    Mean,
    OfDataset,
    Side,
    Summary,
)
from pipeline.steps.score_files import Key
from pipeline.steps.task_rows import CLEAN
from pipeline.steps.unit_groups import Values

HEADLINE = (CLEAN, "default", "linear")
# Of a row that was not run.
NOTHING: dict[str, Any] = {
    "before": None, "after": None, "beyond_shortcut": None, "units": {}, "persons": {},
    "classes": {}, "flags": [], "details": {}, "subgroups": [],
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one set of features scored, and said."""

    scores: Mapping[Key, Score]
    predictions: Mapping[Key, list[Prediction]]

    @classmethod
    def read(cls, place: Path) -> Self:
        """From a folder of ``score_files``."""
        return cls(
            scores={score_files.key(s): s for s in score_files.scores(place)},
            predictions=score_files.predictions(place),
        )


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Everything that was scored."""

    before: Found
    after: Found
    shortcut: Found
    full: Found
    strict: Found

    @classmethod
    def read(cls, after: Path, baseline: Path, label_leak: Path) -> Self:
        """From folders as ``training`` and ``label_leak`` leave them."""
        return cls(
            before=Found.read(baseline / "encoder"),
            after=Found.read(after),
            shortcut=Found.read(baseline / "shortcut"),
            full=Found.read(label_leak / "full"),
            strict=Found.read(label_leak / "strict"),
        )


def paired(ours: Found, key: Key, other: Found, other_key: Key, kind: Kind) -> Any:
    """Ours - other with interval and p, or None where one of them said nothing.

    Raises:
        ValueError: The two are of different test units; names the task.
    """
    mine, theirs = ours.predictions.get(key), other.predictions.get(other_key)
    if not mine or not theirs:
        return None
    if [p.unit for p in mine] != [p.unit for p in theirs]:
        raise ValueError(
            f"{key[0]} {key[1]}: the scores to compare are of different test units; run "
            "`dagster asset materialize --select 'baseline_scores,train_alignment'` again"
        )
    return intervals.difference(subgroups.scored(mine, kind), subgroups.scored(theirs, kind))


def differences(sources: Sources, manifests: Mapping[str, Manifest]) -> dict[Key, Difference]:
    """After - before of every score that has both; Holm over the tasks of one way of scoring.

    Raises:
        ValueError: The two are of different test units; names the task.
    """
    raw: dict[tuple[str, ...], dict[str, intervals.Difference]] = defaultdict(dict)
    for key in sorted(sources.after.predictions):
        kind = _kind(manifests, key[0])
        gap = paired(sources.after, key, sources.before, key, kind)
        if gap is not None:
            raw[key[1:]][key[0]] = gap
    found: dict[Key, Difference] = {}
    for way, tasks in raw.items():
        corrected = intervals.holm({task: gap.p for task, gap in tasks.items()})
        for task, gap in tasks.items():
            variant, protocol, head = way
            found[task, variant, protocol, head] = Difference(
                **_gap(gap), p_holm=corrected[task], minimum_detectable=_number(gap.detectable)
            )
    return found


def of_row(
    sources: Sources, key: Key, manifest: Manifest, name: str, groups: Mapping[str, Values]
) -> dict[str, Any]:
    """The fields of ``results_schema.Measured`` that come out of scores.

    Args:
        sources: Everything that was scored.
        key: Of the row.
        manifest: Of its dataset.
        name: Of its task in the manifest.
        groups: unit -> attribute -> value.
    """
    after, before = sources.after.scores[key], sources.before.scores.get(key)
    kind = manifest.tasks[name].kind
    # Metadata have one head; a score of any protocol must clear the same bar.
    plain: Key = (*key[:2], "default", "linear")
    beyond = paired(sources.after, key, sources.shortcut, plain, kind)
    details = {"after": dict(after.details)}
    if before is not None:
        details["before"] = dict(before.details)
    return {
        "before": _side(before),
        "after": _side(after),
        "beyond_shortcut": beyond and Gap(**_gap(beyond)),
        "floors": _floors(sources, after, plain),
        "units": dict(after.units),
        "persons": dict(after.persons),
        "classes": dict(after.classes),
        "flags": list(after.flags),
        "details": details,
        "subgroups": _subgroups(sources, key, kind, groups),
    }


def summary(sources: Sources, manifests: Mapping[str, Manifest]) -> Summary:
    """Mean AUROC over the tasks that have both scores on splits without shared persons."""
    ours: dict[str, Scored] = {}
    other: dict[str, Scored] = {}
    for key in sorted(sources.after.predictions):
        theirs = sources.before.predictions.get(key)
        if key[1:] == HEADLINE and theirs:
            kind = _kind(manifests, key[0])
            if kind != "regression":
                ours[key[0]] = subgroups.scored(sources.after.predictions[key], kind)
                other[key[0]] = subgroups.scored(theirs, kind)
    datasets = sorted({task.partition("/")[0] for task in ours})
    variant, protocol, _ = HEADLINE
    return Summary(
        variant=variant,
        protocol=protocol,
        metric="auroc",
        datasets=[
            OfDataset(dataset=d, **_mean(ours, other, [t for t in ours if t.startswith(f"{d}/")]))
            for d in datasets
        ],
        **_mean(ours, other, list(ours)),
    )


def _mean(
    ours: Mapping[str, Scored], other: Mapping[str, Scored], tasks: list[str]
) -> dict[str, Any]:
    if not tasks:
        return dict.fromkeys(Mean.model_fields) | {"tasks": 0}
    gap = intervals.mean_difference({t: [ours[t]] for t in tasks}, {t: [other[t]] for t in tasks})
    return {
        "tasks": len(tasks),
        "before": sum(other[t].value for t in tasks) / len(tasks),
        "after": sum(ours[t].value for t in tasks) / len(tasks),
        "difference": Gap(**_gap(gap)),
    }


def _kind(manifests: Mapping[str, Manifest], task: str) -> Kind:
    dataset, _, name = task.partition("/")
    return manifests[dataset].tasks[name].kind


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _edges(low: float | None, high: float | None) -> dict[str, float | None]:
    return {"low": _number(low), "high": _number(high)}


def _gap(gap: intervals.Difference) -> dict[str, Any]:
    return {"value": gap.value, **_edges(gap.low, gap.high), "p": gap.p}


def _side(score: Score | None) -> Side | None:
    if score is None or score.value is None:
        return None
    edges = _edges(score.low, score.high)
    return Side(value=score.value, **edges, sd_over_seeds=score.sd_over_seeds)


def _interval(
    value: float | None, low: float | None = None, high: float | None = None
) -> Interval | None:
    return None if value is None else Interval(value=value, **_edges(low, high))


def _floors(sources: Sources, after: Score, plain: Key) -> Floors:
    silent = sources.shortcut.scores.get(plain)
    words = [found.scores.get(plain) for found in (sources.full, sources.strict)]
    told = [s.value if s else None for s in words]
    return Floors(
        chance=after.floor,
        majority=after.details.get("majority"),
        shortcut=silent and _interval(silent.value, silent.low, silent.high),
        identity_lookup=after.identity_lookup,
        shuffled=_interval(after.shuffled, after.shuffled_low, after.shuffled_high),
        label_leak=None if told == [None, None] else Leak(full=told[0], strict=told[1]),
    )


def _subgroups(sources: Sources, key: Key, kind: Kind, groups: Mapping[str, Values]) -> list[Group]:
    """Of both encoders; a value that everybody has is no group."""
    said = sources.after.predictions.get(key, [])
    after = subgroups.by_attribute(said, kind, groups) if said else []
    theirs = sources.before.predictions.get(key, [])
    before = {
        (g.attribute, g.value): g.metric
        for g in (subgroups.by_attribute(theirs, kind, groups) if theirs else ())
    }
    values: dict[str, int] = defaultdict(int)
    for group in after:
        values[group.attribute] += 1
    return [
        Group(
            attribute=g.attribute,
            value=g.value,
            units=g.units,
            persons=g.persons,
            before=_number(before.get((g.attribute, g.value))),
            after=_number(g.metric),
            **_edges(g.low, g.high),
            too_small=g.too_small,
        )
        for g in after
        if values[g.attribute] > 1
    ]
