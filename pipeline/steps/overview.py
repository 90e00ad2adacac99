"""tables -> the few rows that tell what is in them: durations, rates, refusals, sides, classes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest import Manifest
from pipeline.records import REASONS
from pipeline.steps.task_rows import CLEAN

SPLITS = ("train", "val", "test")
EDGES = (0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120)  # seconds
RATES = 12  # rows of the table of sample rates
Rows = list[dict[str, Any]]


def durations(seconds: pa.ChunkedArray) -> Rows:
    """Recordings by duration; empty bins at either end are left out."""
    counts = [0] * (len(EDGES) + 1)
    for value in seconds.to_pylist():
        counts[sum(value >= edge for edge in EDGES)] += 1
    names = [
        f"< {EDGES[0]:g}",
        *(f"{a:g} to {b:g}" for a, b in pairwise(EDGES)),
    ]
    names.append(f">= {EDGES[-1]:g}")
    filled = [i for i, count in enumerate(counts) if count]
    if not filled:
        return []
    return _shares(
        [("seconds", names[i], counts[i]) for i in range(filled[0], filled[-1] + 1)],
    )


def rates(native: pa.ChunkedArray) -> Rows:
    """Recordings by the original's sample rate; beyond a dozen, the rare ones are one row."""
    counted = Counter(native.to_pylist())
    common = [rate for rate, _ in counted.most_common(RATES - (len(counted) > RATES))]
    rows = [("hertz", f"{rate:,}", counted[rate]) for rate in sorted(common)]
    if rare := sum(counted.values()) - sum(counted[rate] for rate in common):
        rows.append(("hertz", f"{len(counted) - len(common)} others", rare))
    return _shares(rows)


def _shares(rows: list[tuple[str, str, int]]) -> Rows:
    total = sum(count for *_, count in rows)
    return [
        {head: name, "recordings": count, "share": f"{100 * count / total:.1f} %"}
        for head, name, count in rows
    ]


def refusals(quarantine: pa.Table) -> Rows:
    """Reason, how often, what it means, and one example; the most frequent first."""
    counted = Counter(quarantine["reason"].to_pylist())
    rows: Rows = []
    for reason, count in counted.most_common():
        one = quarantine.filter(pc.field("reason") == reason).slice(0, 1).to_pylist()[0]
        example = f"{one['name']}: {one['detail']}" if one["detail"] else one["name"]
        rows.append(
            {"reason": reason, "count": count, "meaning": REASONS[reason], "example": example}
        )
    return rows


def sides(pairs: pa.Table) -> Rows:
    """Pairs of each dataset by split, with persons and hours.

    Args:
        pairs: Columns dataset, split, align, person_id and duration_s.
    """
    rows: Rows = []
    for dataset in sorted(set(pairs["dataset"].to_pylist())):
        own = pairs.filter(pc.field("dataset") == dataset)
        by_split = Counter(own["split"].to_pylist())
        rows.append(
            {
                "dataset": dataset,
                **{split: by_split[split] for split in SPLITS},
                "aligned": own["align"].to_pylist().count(True),
                "persons": len(set(own["person_id"].to_pylist())),
                "hours": round(sum(own["duration_s"].to_pylist()) / 3600, 2),
            }
        )
    return rows


def classes(task_rows: pa.Table, manifests: Mapping[str, Manifest]) -> Rows:
    """Recordings of each class by fold, in each task's split that shares no person.

    A regression has one row with the range of its label. Folds of a task that leaves out one
    person after another are in the column ``each``.

    Args:
        task_rows: Columns task, variant, fold and label.
        manifests: Of the datasets that tasks belong to.
    """
    counted: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    ranges: dict[str, list[float]] = defaultdict(list)
    clean = task_rows.filter(pc.field("variant") == CLEAN)
    for name, fold, label in _triples(clean):
        dataset, _, own = name.partition("/")
        task = manifests[dataset].tasks[own]
        if task.kind == "regression":
            ranges[name].append(label)
        counted[name, "" if task.kind == "regression" else list(task.codes)[int(label)]][fold] += 1
    shown = [*SPLITS, *(["each"] if any(folds["each"] for folds in counted.values()) else [])]
    return [
        {
            "task": name,
            "class": kind or f"{min(ranges[name]):.3g} to {max(ranges[name]):.3g}",
            **{fold: folds[fold] for fold in shown},
        }
        for (name, kind), folds in sorted(counted.items())
    ]


def _triples(rows: pa.Table) -> Iterable[tuple[str, str, float]]:
    return zip(*(rows[n].to_pylist() for n in ("task", "fold", "label")), strict=True)
