"""recordings + reports + subjects -> pairs, each with everything it came from; the leak check."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute

from pipeline.records import pair_id
from pipeline.settings import Settings
from pipeline.steps import layout, marks, parts, report_table, store

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
        people = store.read_table(corpus.table("subjects"), _PERSON)
        held_out = held_out_persons(_rows(corpus, "task_rows"))
        joined = pa.concat_tables([_joined(here, people) for here in sources])
        ids = joined["recording_id"].to_pylist()
        kept = [i for i, key in enumerate(ids) if pair_id(key) not in doubtful]
        if not kept:
            raise ValueError("no dataset has a usable recording: look at the quarantine tables")
        keys = {pair_id(ids[i]): i for i in kept}
        if len(keys) < len(kept):
            raise ValueError("two recordings have one pair id; lengthen records.pair_id")
        order = sorted(keys)
        table = _taken(joined, [keys[k] for k in order])
        del joined
        align = [
            split == "train" and person not in held_out
            for split, person in zip(
                table["split"].to_pylist(), table["person_id"].to_pylist(), strict=True
            )
        ]
        table = table.append_column("pair_id", pa.array(order, pa.string()))
        table = table.append_column("align", pa.array(align, pa.bool_()))
        version = store.write_table(corpus.table("pairs"), table, SCHEMA)
        left_out = [key for key in ids if pair_id(key) in doubtful]
        return version, {
            "pairs": len(order),
            "aligned": sum(align),
            "by_split": dict(Counter(table["split"].to_pylist())),
            "by_dataset": dict(Counter(table["dataset"].to_pylist())),
            "hours": round(sum(table["duration_s"].to_pylist()) / 3600, 2),
            **marks.facts(left_out, settings),
        }

    outputs = [corpus.table("pairs")]
    return store.cached(corpus.stamp("pairs"), inputs, outputs, work, stored=outputs)


def _taken(table: pa.Table, places: Sequence[int]) -> pa.Table:
    """Rows in this order, in pieces: a column of texts may be larger than one array can be."""
    size = 16 * store.ROWS_PER_GROUP
    pieces = (places[i : i + size] for i in range(0, len(places), size))
    return pa.concat_tables([table.take(pa.array(piece, pa.int64())) for piece in pieces])


def _joined(here: layout.Dataset, people: pa.Table) -> pa.Table:
    """Recordings of a dataset beside their reports and persons, as columns: texts are many."""
    recordings = store.read_table(here.recordings, _RECORDING)
    reports = store.read_table(here.reports, ["recording_id", *_REPORT])
    for table, step in ((reports, f"{here.id}/reports"), (people, "subjects")):
        places = pc.index_in(recordings["recording_id"], value_set=table["recording_id"])
        if places.null_count:
            raise ValueError(
                f"{places.null_count} recordings of {here.id} are missing in `{step}`: materialise "
                "it again"
            )
        found = table.drop_columns(["recording_id"]).take(places)
        for name in found.column_names:
            recordings = recordings.append_column(name, found[name])
    return recordings


def _rows(corpus: layout.Corpus, name: str) -> list[dict[str, Any]]:
    return store.read_table(corpus.table(name)).to_pylist()


def held_out_persons(task_rows: Iterable[Row]) -> dict[str, set[str]]:
    """Person -> the tasks and variants that hold them in validation or test."""
    held: dict[str, set[str]] = {}
    for row in task_rows:
        if row["fold"] != "train":
            where = f"{row['task']} {row['variant']} {row['fold']}"
            held.setdefault(row["person_id"], set()).add(where)
    return held


def leaks(pairs: Iterable[Row], task_rows: Iterable[Row]) -> dict[str, set[str]]:
    """Persons of the alignment set that some task holds out, with where; empty is right."""
    held = held_out_persons(task_rows)
    aligned = {r["person_id"] for r in pairs if r["align"]}
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
