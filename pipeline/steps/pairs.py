"""recordings + reports + subjects -> pairs, each with everything it came from; the leak check."""

import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from pipeline.records import pair_id
from pipeline.settings import Settings
from pipeline.steps import layout, marks, parts, report_table, store
from pipeline.steps.arranged import arranged

pc: Any = pyarrow.compute  # its functions are made at import: no type checker sees them
_AUDIO = [f for f in parts.FACTS if f.name != "raw_bytes"]
# Keys that the pair has anyway, and how a text came about, which stays in the reports table.
_NOT_OF_PAIRS = {"recording_id", "dataset", *(f.name for f in report_table.REWRITING)}
SCHEMA = pa.schema(
    [
        pa.field("pair_id", pa.string()),
        pa.field("recording_id", pa.string()),
        pa.field("dataset", pa.string()),
        pa.field("modality", pa.string()),
        pa.field("member", pa.string()),
        pa.field("case_id", pa.string()),
        pa.field("person_id", pa.string()),
        pa.field("identity", pa.string()),
        pa.field("split", pa.string()),
        pa.field("split_rule", pa.string()),
        pa.field("align", pa.bool_()),
        *_AUDIO,
        *parts.PLACE,
        *[f for f in report_table.SCHEMA if f.name not in _NOT_OF_PAIRS],
    ]
)
_PERSON = [
    "recording_id", "dataset", "case_id", "person_id", "identity", "split", "split_rule",
]  # fmt: skip
_REPORT = [f.name for f in report_table.SCHEMA if f.name not in _NOT_OF_PAIRS]
_RECORDING = [
    "recording_id",
    "modality",
    "member",
    *(f.name for f in _AUDIO),
    *(f.name for f in parts.PLACE),
]
# Of the task rows: who is held out, and where.
HELD_OUT = ["task", "variant", "fold", "person_id"]
Row = Mapping[str, Any]


class LeakageError(ValueError):
    """A person of the alignment set is in a task's validation or test."""


def join(settings: Settings) -> store.Outcome:
    """Write the pairs table."""
    corpus = layout.Corpus(settings.data_root)
    sources = [corpus.dataset(d) for d in settings.alignment]
    inputs = {
        "subjects": store.version_at(corpus.stamp("subjects")),
        # A changed sound changes neither persons nor reports, and yet its pair.
        "recordings": {d.id: store.version_at(d.recordings_stamp) for d in sources},
        "reports": {d.id: store.version_at(d.reports_stamp) for d in sources},
        "code": store.code_version(sys.modules[__name__]),
    }

    doubtful = marks.excluded(settings)
    if settings.exclude_marks:
        inputs["excluded_by_marks"] = sorted(doubtful)

    def work() -> tuple[str, dict[str, Any]]:
        held_out = held_out_persons(store.read_rows(corpus.table("task_rows"), HELD_OUT))
        known = _known(corpus, sources)
        ids = known["recording_id"].to_pylist()
        named = [pair_id(key) for key in ids]
        kept = [i for i, name in enumerate(named) if name not in doubtful]
        if not kept:
            raise ValueError("no dataset has a usable recording: look at the quarantine tables")
        kept.sort(key=named.__getitem__)
        order = [named[i] for i in kept]
        if len(set(order)) < len(order):
            raise ValueError("two recordings have one pair id; lengthen records.pair_id")
        left_out = [key for key, name in zip(ids, named, strict=True) if name in doubtful]
        del ids, named
        places = np.full(len(known), -1)
        places[kept] = np.arange(len(kept))
        narrow = known.take(pa.array(kept))
        del known
        align = [
            split == "train" and person not in held_out
            for split, person in zip(
                narrow["split"].to_pylist(), narrow["person_id"].to_pylist(), strict=True
            )
        ]
        narrow = narrow.append_column("pair_id", pa.array(order, pa.string()))
        narrow = narrow.append_column("align", pa.array(align, pa.bool_()))
        path = corpus.table("pairs")
        with closing(_pieces(sources, narrow, places, path.with_name("texts"))) as pieces:
            version = store.write_pieces(path, pieces, SCHEMA)
        return version, {
            "pairs": len(order),
            "aligned": sum(align),
            "by_split": dict(Counter(narrow["split"].to_pylist())),
            "by_dataset": dict(Counter(narrow["dataset"].to_pylist())),
            "hours": round(sum(narrow["duration_s"].to_pylist()) / 3600, 2),
            **marks.facts(left_out, settings),
        }

    outputs = [corpus.table("pairs")]
    return store.cached(corpus.stamp("pairs"), inputs, outputs, work, stored=outputs)


def _known(corpus: layout.Corpus, sources: Sequence[layout.Dataset]) -> pa.Table:
    """What decides about the recordings of all datasets, in their order: narrow columns."""
    people = store.read_table(corpus.table("subjects"), _PERSON)
    found: list[pa.Table] = []
    for here in sources:
        recordings = store.read_table(here.recordings, ["recording_id", "duration_s"])
        ids = recordings["recording_id"]
        reports = store.read_table(here.reports, ["recording_id"])["recording_id"]
        places = pc.index_in(ids, value_set=people["recording_id"])
        for step, missing in (
            (f"{here.id}/reports", pc.invert(pc.is_in(ids, value_set=reports))),
            ("subjects", pc.is_null(places)),
        ):
            if count := pc.sum(missing).as_py():
                raise ValueError(
                    f"{count} recordings of {here.id} are missing in `{step}`: materialise it again"
                )
        if not ids.equals(reports):
            raise ValueError(
                f"`{here.id}/reports` is of other recordings than there are now: materialise it "
                "again"
            )
        own = people.take(places).append_column("duration_s", recordings["duration_s"])
        found.append(own.combine_chunks())
    return pa.concat_tables(found)


def _pieces(
    sources: Sequence[layout.Dataset],
    narrow: pa.Table,
    places: npt.NDArray[np.int64],
    beside: Path,
) -> Generator[pa.Table]:
    """The pairs in order, some row groups at a time: their texts need not fit in memory."""
    size = 2 * store.ROWS_PER_GROUP
    sizes = [min(size, len(narrow) - at) for at in range(0, len(narrow), size)]
    batches = (batch for here in sources for batch in _joined(here))
    for number, piece in enumerate(arranged(batches, places, sizes, beside)):
        own = narrow.slice(number * size, len(piece))
        for name in own.column_names:
            if name not in piece.column_names:
                piece = piece.append_column(name, own[name])
        yield piece


def _joined(here: layout.Dataset) -> Iterator[pa.Table]:
    """Recordings of a dataset beside their reports, which are in the same order."""
    recordings = store.read_batches(here.recordings, _RECORDING)
    reports = store.read_batches(here.reports, _REPORT)
    for left, right in zip(recordings, reports, strict=True):
        table = pa.table(left)
        for name in _REPORT:
            table = table.append_column(name, pa.chunked_array([right[name]]))
        yield table


def held_out_persons(task_rows: Iterable[Row]) -> dict[str, set[str]]:
    """Person -> the tasks and variants that hold them in validation or test."""
    held: dict[str, set[str]] = {}
    for row in task_rows:
        if row["fold"] != "train":
            where = sys.intern(f"{row['task']} {row['variant']} {row['fold']}")
            held.setdefault(row["person_id"], set()).add(where)
    return held


def leaks(pairs: Iterable[Row], task_rows: Iterable[Row]) -> dict[str, set[str]]:
    """Persons of the alignment set that some task holds out, with where; empty is right."""
    return shared({r["person_id"] for r in pairs if r["align"]}, held_out_persons(task_rows))


def shared(aligned: Set[str], held: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Of those who are held out, by persons, whom alignment hears, too."""
    return {person: held[person] for person in sorted(aligned & held.keys())}


def assert_no_leakage(pairs: Iterable[Row], task_rows: Iterable[Row]) -> None:
    """Refuse an alignment set that shares a person with any task's validation or test.

    Raises:
        LeakageError: Names up to five persons and where they are held out.
    """
    if found := leaks(pairs, task_rows):
        some = "; ".join(f"{p} in {', '.join(sorted(w))}" for p, w in list(found.items())[:5])
        raise LeakageError(
            f"{len(found)} persons of the alignment set are held out by a task: {some}. "
            "Materialise `subjects` and `pairs` again; if it stays, the split rules are wrong"
        )
