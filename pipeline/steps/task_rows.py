"""recordings + their persons + published lists -> the rows of every task, and what was left out.

``subject_clean`` follows the one split of each person, or leaves out one person after another.
The other variants copy what was published, faults included, so that persons on both sides can be
counted instead of hidden. Whatever is in no row is in a note, with a count.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.manifest import Manifest
from pipeline.sources import NO_LISTS
from pipeline.steps.published import Lists, key_of, key_of_recording
from pipeline.tasks import ListedPersons, ListedSplit, Task, Variant

CLEAN = "subject_clean"
NOT_RUN = "not_run"
# Notes of the table; those of LEFT_OUT are about recordings or listed names that have no row.
LEFT_OUT = {
    "elsewhere": "the task is asked of other recordings of the dataset",
    "no_label": "the label is not recorded",
    "other_label": "the label is in no class of the task",
    "no_side": "the publisher put the recording on no side",
    "other_person": "the published evaluation does not name the person",
    "unlisted": "the recording has a label, and the published list does not name it",
    "listed_absent": "the published list names it, and it is not among the usable recordings",
    "listed_twice": "the published list names it again",
    "listed_ambiguous": "several recordings have the name that is listed",
    "listed_unreadable": "the name in the published list does not follow the dataset's rule",
    "listed_other_label": "the published label is in no class of the task",
}
NOTES = LEFT_OUT | {
    "label_differs": "kept with the published label, which is not that of the metadata",
    NOT_RUN: "the variant has no rows; the reason says what is missing",
}
SCHEMA = pa.schema(
    [
        pa.field("task", pa.string()),  # <dataset>/<task>
        pa.field("variant", pa.string()),
        pa.field("recording_id", pa.string()),
        pa.field("case_id", pa.string()),
        pa.field("person_id", pa.string()),
        pa.field("fold", pa.string()),  # train | val | test | each
        pa.field("label", pa.float64()),  # index of a class, or a number in the task's unit
    ]
)
NOTES_SCHEMA = pa.schema(
    [
        pa.field("task", pa.string()),
        pa.field("variant", pa.string()),
        pa.field("note", pa.string()),  # one of NOTES
        pa.field("count", pa.int64()),  # of recordings or listed names
        pa.field("reason", pa.string()),
    ]
)
Row = Mapping[str, Any]
Placed = tuple["_Known", str, float]  # recording, fold, label


@dataclass(frozen=True)
class Built:
    """Rows of ``task_rows`` and of ``task_notes``, both in order."""

    rows: list[dict[str, Any]]
    notes: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Known:
    recording: Row
    subject: Row
    findings: Mapping[str, Any]


def build(
    recordings: Iterable[Row],
    subjects: Iterable[Row],
    manifests: Mapping[str, Manifest],
    lists: Mapping[str, Lists] | None = None,
) -> Built:
    """Label and fold of each recording in each task and variant it belongs to.

    Args:
        recordings: Columns native_id, person, official_split, findings and keys.
        subjects: Who is who, as ``subjects.group`` decides it.
        manifests: Of the recordings' datasets.
        lists: The published lists at hand, by dataset.

    Raises:
        ValueError: A published list does not fit the manifest; names both.
    """
    who = {s["recording_id"]: s for s in subjects}
    known: dict[str, list[_Known]] = {dataset: [] for dataset in manifests}
    for r in sorted(recordings, key=lambda r: r["recording_id"]):
        own = _Known(r, who[r["recording_id"]], json.loads(r["findings"]))
        known[r["dataset"]].append(own)
    built = Built([], [])
    for dataset, manifest in sorted(manifests.items()):
        at_hand = (lists or {}).get(dataset, Lists())
        for name, task in sorted(manifest.tasks.items()):
            _task(built, f"{dataset}/{name}", task, known[dataset], manifest, at_hand)
    return built


def absent(manifest: Manifest, reason: str) -> list[dict[str, Any]]:
    """The notes of a dataset whose recordings are not part of this run."""
    return [
        _note(f"{manifest.id}/{name}", variant, NOT_RUN, 0, reason)
        for name, task in sorted(manifest.tasks.items())
        for variant in sorted((CLEAN, *task.variants))
    ]


def _task(
    built: Built, task_id: str, task: Task, known: list[_Known], manifest: Manifest, lists: Lists
) -> None:
    for variant in sorted((CLEAN, *task.variants)):
        how = task.variants.get(variant)
        placed: Iterable[Placed | str] = ()
        reason = "no usable recording carries this label"
        if not isinstance(how, ListedSplit):
            placed = (_place(task, how, one) for one in known)
        elif missing := [p for p in how.files if p not in lists.values]:
            reason = lists.missing.get(missing[0], f"{missing[0]} was not given")
        else:
            reason = "none of the recordings that the published list names is here"
            placed = _by_list(f"{task_id} {variant}", task, how, known, manifest, lists)
        rows: list[dict[str, Any]] = []
        notes = Counter[str]()
        for found in placed:
            if isinstance(found, str):
                notes[found] += 1
                continue
            one, fold, label = found
            rows.append(
                {
                    "task": task_id,
                    "variant": variant,
                    "recording_id": one.recording["recording_id"],
                    "case_id": one.subject["case_id"],
                    "person_id": one.subject["person_id"],
                    "fold": fold,
                    "label": label,
                }
            )
        built.rows.extend(sorted(rows, key=lambda r: r["recording_id"]))
        built.notes.extend(
            _note(task_id, variant, note, n, NOTES[note]) for note, n in sorted(notes.items())
        )
        if not rows:
            built.notes.append(_note(task_id, variant, NOT_RUN, 0, reason))


def _note(task: str, variant: str, note: str, count: int, reason: str) -> dict[str, Any]:
    return {"task": task, "variant": variant, "note": note, "count": count, "reason": reason}


def _label(task: Task, one: _Known) -> float | str:
    """The label, or which note says why there is none."""
    if any(one.findings.get(name) not in allowed for name, allowed in task.where.items()):
        return "elsewhere"
    value = one.findings.get(task.label)
    if value is None:
        return "no_label"
    label = task.label_of(value)
    return "other_label" if label is None else label


def _place(task: Task, how: Variant | None, one: _Known) -> Placed | str:
    label = _label(task, one)
    if isinstance(label, str):
        return label
    if task.scheme == "leave_one_person_out":
        if isinstance(how, ListedPersons) and one.recording["person"] not in how.persons:
            return "other_person"
        return one, "each", label
    fold = one.recording["official_split"] if how == "official" else one.subject["split"]
    return (one, fold, label) if fold else "no_side"


def _by_list(
    what: str, task: Task, how: ListedSplit, known: list[_Known], manifest: Manifest, lists: Lists
) -> Iterator[Placed | str]:
    """Rows of the published arrays, by position; what the list does not name comes last."""
    rule = manifest.published or NO_LISTS
    columns = [lists.values[path] for path in how.files]
    if len({len(c) for c in columns}) > 1:
        raise ValueError(f"{what}: {', '.join(how.files)} have {[len(c) for c in columns]} values")
    by_key: dict[str | None, list[_Known]] = defaultdict(list)
    for one in known:
        by_key[key_of_recording(rule, one.recording["native_id"])].append(one)
    named: set[str] = set()
    for name, side, published_label in zip(*columns, strict=True):
        if side not in how.read_sides:
            raise ValueError(f"{what}: {how.sides} has a side {side!r}; the manifest reads none")
        key, label = key_of(rule, str(name)), _published_label(task, how, published_label)
        same = by_key.get(key, [])
        if key is None:
            yield "listed_unreadable"
        elif key in named:
            yield "listed_twice"
        elif label is None:
            yield "listed_other_label"
        elif len(same) != 1:
            yield "listed_ambiguous" if same else "listed_absent"
        else:
            if _label(task, same[0]) != label:
                yield "label_differs"
            yield same[0], how.read_sides[side], label
        named.add(key or "")
    for key, own in by_key.items():
        if key not in named:
            yield from ("unlisted" for one in own if isinstance(_label(task, one), float))


def _published_label(task: Task, how: ListedSplit, value: Any) -> float | None:
    if task.kind == "regression":
        return task.label_of(value)
    classes = list(task.codes)
    read = how.read_labels or {str(i): name for i, name in enumerate(classes)}
    name = read.get(str(value))
    return None if name is None else float(classes.index(name))
