"""recordings + reports + subjects -> pairs, each with everything it came from; the leak check."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from pipeline.records import pair_id
from pipeline.settings import Settings
from pipeline.steps import layout, marks, parts, report_table, store

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
        people = {r["recording_id"]: r for r in _rows(corpus, "subjects")}
        tasks = _rows(corpus, "task_rows")
        held_out = held_out_persons(tasks)
        rows: list[dict[str, Any]] = []
        left_out: list[str] = []
        for here in sources:
            texts = {r["recording_id"]: r for r in store.read_table(here.reports).to_pylist()}
            for recording in store.read_table(here.recordings, _RECORDING).to_pylist():
                key = recording["recording_id"]
                if pair_id(key) in doubtful:
                    left_out.append(key)
                    continue
                person = people[key]
                align = person["split"] == "train" and person["person_id"] not in held_out
                row = recording | person | texts[key] | {"pair_id": pair_id(key), "align": align}
                rows.append({name: row[name] for name in SCHEMA.names})
        if not rows:
            raise ValueError("no dataset has a usable recording: look at the quarantine tables")
        rows.sort(key=lambda r: r["pair_id"])
        if len({r["pair_id"] for r in rows}) < len(rows):
            raise ValueError("two recordings have one pair id; lengthen records.pair_id")
        version = store.write_table(corpus.table("pairs"), rows, SCHEMA)
        return version, {
            "pairs": len(rows),
            "aligned": sum(r["align"] for r in rows),
            "by_split": dict(Counter(r["split"] for r in rows)),
            "by_dataset": dict(Counter(r["dataset"] for r in rows)),
            "hours": round(sum(r["duration_s"] for r in rows) / 3600, 2),
            **marks.facts(left_out, settings),
        }

    outputs = [corpus.table("pairs")]
    return store.cached(corpus.stamp("pairs"), inputs, outputs, work, stored=outputs)


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
