"""recordings + their persons + published lists -> the rows of every task, and what was left out.

``subject_clean`` follows the one split of each person, or leaves out one person after another.
The other variants copy what was published, faults included, so that persons on both sides can be
counted instead of hidden. Whatever is in no row is in a note, with a count.
"""

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from pipeline.manifest import Manifest
from pipeline.sources import NO_LISTS, PublishedLists
from pipeline.steps.published import Lists, key_of, key_of_recording
from pipeline.tasks import ListedPersons, ListedSplit, Task, Variant

pc: Any = pyarrow.compute  # its functions are made at import: no type checker sees them
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
# Of the recordings table: what labels and folds follow from.
_KEYS = ["recording_id", "native_id", "person", "official_split"]
COLUMNS = [*_KEYS, "findings"]
Placed = tuple[int, str, float]  # which recording, fold, label


@dataclass(frozen=True)
class Built:
    """Rows of ``task_rows`` and of ``task_notes``, both in order."""

    rows: pa.Table
    notes: list[dict[str, Any]]

    def __add__(self, other: "Built") -> "Built":
        return Built(pa.concat_tables([self.rows, other.rows]), self.notes + other.notes)


@dataclass(frozen=True)
class _Known:
    """The recordings of one dataset by columns, in the order of their ids.

    Attributes:
        subjects: Who is who.
        native_ids: Of each recording; as ``persons``.
        persons: As the dataset calls them.
        official: The publisher's side.
        split: Ours.
        labels: Task -> label of each recording, or which note says why there is none.
    """

    subjects: pa.Table
    native_ids: pa.ChunkedArray
    persons: Sequence[str | None]
    official: Sequence[str | None]
    split: Sequence[str | None]
    labels: Mapping[str, Sequence[float | str]]


def build(
    manifest: Manifest,
    recordings: Iterable[pa.RecordBatch],
    subjects: pa.Table,
    lists: Lists | None = None,
) -> Built:
    """Label and fold of each recording of one dataset in each task and variant it belongs to.

    Args:
        manifest: Of the dataset.
        recordings: ``COLUMNS`` of all its recordings, in any order.
        subjects: Who is who, as ``persons.group`` returns it; other datasets may be there, too.
        lists: The published lists at hand.

    Raises:
        ValueError: A published list does not fit the manifest; names both.
    """
    known = _known(manifest, recordings, subjects)
    built = Built(SCHEMA.empty_table(), [])
    for name, task in sorted(manifest.tasks.items()):
        built += _task(name, task, known, manifest, lists or Lists())
    return built


def _known(manifest: Manifest, recordings: Iterable[pa.RecordBatch], subjects: pa.Table) -> _Known:
    kept = [pa.schema([pa.field(name, pa.string()) for name in _KEYS]).empty_table()]
    labels: dict[str, list[float | str]] = {name: [] for name in manifest.tasks}
    for batch in recordings:
        kept.append(pa.table({name: batch[name] for name in _KEYS}))
        for text in batch["findings"].to_pylist():
            findings = json.loads(text)
            for name, task in manifest.tasks.items():
                labels[name].append(_label(task, findings))
    rows = pa.concat_tables(kept)
    order = pc.sort_indices(rows["recording_id"])
    own = subjects.slice(max(pc.index(subjects["dataset"], manifest.id).as_py(), 0), len(order))
    if not own["recording_id"].equals(rows["recording_id"].take(order)):
        raise ValueError(f"{manifest.id}: its recordings are not those whose persons are known")
    at = order.to_numpy()
    return _Known(
        own,
        rows["native_id"].take(order),
        _few(rows["person"].take(order)),
        _few(rows["official_split"].take(order)),
        _few(own["split"]),
        {name: [found[i] for i in at] for name, found in labels.items()},
    )


def _few(column: pa.ChunkedArray) -> list[str | None]:
    """A column of few distinct texts, each of them one Python object."""
    encoded = column.combine_chunks().dictionary_encode()
    names = [*encoded.dictionary.to_pylist(), None]
    return [names[i] for i in encoded.indices.fill_null(len(names) - 1).to_numpy()]


def absent(manifest: Manifest, reason: str) -> list[dict[str, Any]]:
    """The notes of a dataset whose recordings are not part of this run."""
    return [
        _note(f"{manifest.id}/{name}", variant, NOT_RUN, 0, reason)
        for name, task in sorted(manifest.tasks.items())
        for variant in sorted((CLEAN, *task.variants))
    ]


def _task(name: str, task: Task, known: _Known, manifest: Manifest, lists: Lists) -> Built:
    built = Built(SCHEMA.empty_table(), [])
    task_id, labels = f"{manifest.id}/{name}", known.labels[name]
    for variant in sorted((CLEAN, *task.variants)):
        how = task.variants.get(variant)
        placed: Iterable[Placed | str] = ()
        reason = "no usable recording carries this label"
        if not isinstance(how, ListedSplit):
            placed = _by_rule(task, how, known, labels)
        elif missing := [p for p in how.files if p not in lists.values]:
            reason = lists.missing.get(missing[0], f"{missing[0]} was not given")
        else:
            reason = "none of the recordings that the published list names is here"
            rule = manifest.published or NO_LISTS
            placed = _by_list(f"{task_id} {variant}", task, how, known, labels, rule, lists)
        rows, notes = _rows(task_id, variant, known.subjects, placed)
        said = [_note(task_id, variant, note, n, NOTES[note]) for note, n in sorted(notes.items())]
        if not len(rows):
            said.append(_note(task_id, variant, NOT_RUN, 0, reason))
        built += Built(rows, said)
    return built


def _rows(
    task: str, variant: str, subjects: pa.Table, placed: Iterable[Placed | str]
) -> tuple[pa.Table, Counter[str]]:
    """Rows in the order of the recordings' ids, and how often each note was given instead."""
    where, labels = array("q"), array("d")
    folds: list[str] = []
    notes = Counter[str]()
    for one in placed:
        if isinstance(one, str):
            notes[one] += 1
            continue
        at, fold, label = one
        where.append(at)
        folds.append(fold)
        labels.append(label)
    order = np.argsort(np.array(where))
    who = subjects.take(pa.array(np.array(where)[order]))
    columns = [pa.repeat(task, len(order)), pa.repeat(variant, len(order))]
    columns += [who[name] for name in ("recording_id", "case_id", "person_id")]
    columns += [pa.array(folds, pa.string()).take(pa.array(order)), np.array(labels)[order]]
    return pa.table(columns, schema=SCHEMA), notes


def _note(task: str, variant: str, note: str, count: int, reason: str) -> dict[str, Any]:
    return {"task": task, "variant": variant, "note": note, "count": count, "reason": reason}


def _label(task: Task, findings: Mapping[str, Any]) -> float | str:
    """The label, or which note says why there is none."""
    if any(findings.get(name) not in allowed for name, allowed in task.where.items()):
        return "elsewhere"
    value = findings.get(task.label)
    if value is None:
        return "no_label"
    label = task.label_of(value)
    return "other_label" if label is None else label


def _by_rule(
    task: Task, how: Variant | None, known: _Known, labels: Sequence[float | str]
) -> Iterator[Placed | str]:
    folds = known.official if how == "official" else known.split
    for at, label in enumerate(labels):
        if isinstance(label, str):
            yield label
        elif task.scheme == "leave_one_person_out":
            left_out = isinstance(how, ListedPersons) and known.persons[at] not in how.persons
            yield "other_person" if left_out else (at, "each", label)
        else:
            fold = folds[at]
            yield (at, fold, label) if fold else "no_side"


def _by_list(
    what: str,
    task: Task,
    how: ListedSplit,
    known: _Known,
    labels: Sequence[float | str],
    rule: PublishedLists,
    lists: Lists,
) -> Iterator[Placed | str]:
    """Rows of the published arrays, by position; what the list does not name comes last."""
    columns = [lists.values[path] for path in how.files]
    if len({len(c) for c in columns}) > 1:
        raise ValueError(f"{what}: {', '.join(how.files)} have {[len(c) for c in columns]} values")
    by_key: dict[str | None, list[int]] = defaultdict(list)
    for at, native_id in enumerate(known.native_ids.to_pylist()):
        by_key[key_of_recording(rule, native_id)].append(at)
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
            if labels[same[0]] != label:
                yield "label_differs"
            yield same[0], how.read_sides[side], label
        named.add(key or "")
    for key, own in by_key.items():
        if key not in named:
            yield from ("unlisted" for at in own if isinstance(labels[at], float))


def _published_label(task: Task, how: ListedSplit, value: Any) -> float | None:
    if task.kind == "regression":
        return task.label_of(value)
    classes = list(task.codes)
    read = how.read_labels or {str(i): name for i, name in enumerate(classes)}
    name = read.get(str(value))
    return None if name is None else float(classes.index(name))
