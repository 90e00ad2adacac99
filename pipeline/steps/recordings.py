"""reader rows + audio -> recordings table, parts of normalised audio, quarantine table."""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from acula_model.counting import Counted
from pipeline import findings, pool, readers, records
from pipeline.manifest import Manifest
from pipeline.records import Rejected
from pipeline.settings import Settings
from pipeline.steps import archive, disk, layout, part_audio, parts, recording_rows, remote, store
from pipeline.steps.arranged import arranged
from pipeline.steps.recording_rows import Rows

SCHEMA = pa.schema(
    [
        pa.field("recording_id", pa.string()),
        pa.field("dataset", pa.string()),
        *recording_rows.SCHEMA,
        *parts.FACTS,
        *parts.PLACE,
    ]
)
QUARANTINE = pa.schema(
    [
        pa.field("dataset", pa.string()),
        pa.field("name", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("meaning", pa.string()),
    ]
)
_FACTS = [f.name for f in (*parts.FACTS, *parts.PLACE)]
Progress = Callable[[str], None]


class EmptyDataset(ValueError):
    """An archive without a single usable recording; says why."""


def prepare(manifest: Manifest, settings: Settings, progress: Progress = print) -> store.Outcome:
    """Read, normalise and table one dataset; skips itself when nothing changed.

    Raises:
        FileNotFoundError: The archive step has not run, or essential metadata are missing.
        EmptyDataset: The archive holds nothing, or sounds of which none can be used.
    """
    here = layout.Dataset(settings.data_root, manifest.id)
    reader = readers.reader(manifest.id)
    inputs = {
        "archive": store.version_at(here.archive_stamp),
        "manifest": store.digest(manifest.model_dump()),
        "code": store.code_version(
            reader, records, findings, parts, part_audio, recording_rows, sys.modules[__name__]
        ),
        "audio": parts.audio.VERSION,
    }

    def work() -> tuple[str, dict[str, Any]]:
        root = archive.root(manifest, settings, progress)
        here.parts.mkdir(parents=True, exist_ok=True)
        with disk.scratch(here.folder / "reading") as scratch:
            rows = Rows(manifest, reader.read(root), root, scratch / "rows")
            keys, redone = _normalise(root, here, rows.items, settings, progress)
            heard = _Heard([here.parts / f"{key}.parquet" for key in keys])
            conflicts = heard.conflicts(rows)
            refused = rows.refused + [
                Rejected(name=member, reason=reason, detail=detail or "")
                for member, reason, detail in heard.refused
            ]
            refused += [
                Rejected(name=member, reason="conflicting_duplicate", detail=conflicts[native_id])
                for native_id, member, _, _ in sorted(rows.items)
                if native_id in conflicts
            ]
            kept = sorted(heard.sounds.keys() - conflicts.keys())
            reasons = Counter(r.reason for r in refused)
            # Metadata alone are a state that a folder of one's own may be in: the rows are
            # counted. Sounds of which none can be used, or nothing at all, are a mistake.
            if not kept and (rows or not refused):
                why = f"refused: {dict(reasons)}" if reasons else "it holds no recording at all"
                raise EmptyDataset(f"{manifest.id}: no usable recording in {root}; {why}")
            if not kept:
                progress(f"{manifest.id}: metadata without any audio in {root}; {dict(reasons)}")
            totals = _Totals()
            pieces = totals.of(_pieces(manifest.id, rows, heard, kept, scratch))
            versions = [
                store.write_pieces(here.recordings, pieces, SCHEMA),
                store.write_table(here.quarantine, _quarantine(manifest.id, refused), QUARANTINE),
            ]
        if kept:  # last, and never for an archive that lost its audio: parts are dear
            parts.clean(here.parts, set(keys))
        return store.digest(versions), {
            "recordings": len(kept),
            "seconds": round(totals.seconds, 1),
            "persons": len(totals.persons),
            "parts_made": redone,
            "quarantined": len(refused),
            "quarantine_by_reason": dict(sorted(reasons.items())),
        }

    outputs = [here.recordings, here.quarantine, here.parts]
    return store.cached(here.recordings_stamp, inputs, outputs, work, stored=outputs, say=progress)


def _normalise(
    root: Path,
    here: layout.Dataset,
    items: Sequence[parts.Item],
    settings: Settings,
    progress: Progress,
) -> tuple[list[str], int]:
    """Keys of the parts, all of which are there now, and how many had to be made."""
    plan = parts.plan(items)
    jobs = [
        (root, here.parts, here.id, key, bucket)
        for key, bucket in plan.items()
        if not all(remote.exists(here.parts / f"{key}.{kind}") for kind in ("tar", "parquet"))
    ]
    items_left = sum(len(j[4]) for j in jobs)
    counted = Counted(progress, f"{here.id}: {{}} recordings normalised", items_left)
    for key, rows in pool.run(part_audio.make, jobs, settings.workers, settings.cluster):
        parts.record(here.parts, key, rows)
        counted.add(len(rows))
    remote.need(*(here.parts / f"{key}.parquet" for key in plan), say=progress)
    return list(plan), len(jobs)


class _Heard:
    """The facts of all parts, and what of each is needed at once.

    Args:
        tables: Of the parts.

    Attributes:
        ids: In the order of the tables.
        sounds: Id -> hash of its sound, of those that can be used.
        refused: Member, reason and detail of the others, by their ids.
    """

    def __init__(self, tables: Sequence[Path]):
        self._tables = tables
        self.ids: list[str] = []
        self.sounds: dict[str, str] = {}
        refused: list[tuple[str, str, str, str]] = []
        for table in self._read(["native_id", "member", "reason", "detail", "audio_sha256"]):
            for row in table.to_pylist():
                self.ids.append(row["native_id"])
                if row["reason"]:
                    refused.append((row["native_id"], row["member"], row["reason"], row["detail"]))
                else:
                    self.sounds[row["native_id"]] = row["audio_sha256"]
        self.refused = [r[1:] for r in sorted(refused)]

    def _read(self, columns: list[str]) -> Iterator[pa.Table]:
        for path in self._tables:
            yield pq.read_table(path, columns=columns, use_threads=False)

    def __iter__(self) -> Iterator[pa.Table]:
        return self._read(["native_id", *_FACTS])

    def conflicts(self, rows: Rows) -> dict[str, str]:
        """Recordings with equal sound whose task labels differ: nobody can say which is right.

        A label that is not recorded contradicts nothing.
        """
        often = {sound for sound, n in Counter(self.sounds.values()).items() if n > 1}
        labels = {
            item[0]: json.loads(said)
            for item, said in zip(rows.items, rows.labels, strict=True)
            if self.sounds.get(item[0]) in often
        }
        same: dict[str, list[str]] = defaultdict(list)
        for native_id in sorted(labels):
            same[self.sounds[native_id]].append(native_id)
        conflicts: dict[str, str] = {}
        for ids in same.values():
            said: dict[str, set[str]] = defaultdict(set)
            for native_id in ids:
                for name, value in labels[native_id].items():
                    said[name].add(json.dumps(value))
            if any(len(values) > 1 for values in said.values()):
                for native_id in ids:
                    others = [i for i in ids if i != native_id]
                    conflicts[native_id] = f"same sound as {', '.join(others)}"
        return conflicts


def _pieces(
    dataset: str, rows: Rows, heard: _Heard, kept: Sequence[str], scratch: Path
) -> Iterator[pa.Table]:
    """Rows beside their audio facts, in the order of ids, a row group at a time."""
    rank = {native_id: n for n, native_id in enumerate(kept)}
    size = store.ROWS_PER_GROUP
    sizes = [min(size, len(kept) - at) for at in range(0, len(kept), size)]
    of_rows = np.array([rank.get(item[0], -1) for item in rows.items], np.int64)
    of_facts = np.array([rank.get(native_id, -1) for native_id in heard.ids], np.int64)
    del rank
    said = arranged(rows, of_rows, sizes, scratch / "said")
    facts = arranged(heard, of_facts, sizes, scratch / "facts")
    for left, right in zip(said, facts, strict=True):
        ids = [records.recording_id(dataset, i) for i in left["native_id"].to_pylist()]
        table = left.append_column("recording_id", pa.array(ids, pa.string()))
        table = table.append_column("dataset", pa.array([dataset] * len(ids), pa.string()))
        for name in _FACTS:
            table = table.append_column(name, right[name])
        yield table


class _Totals:
    """Counts over pieces that pass by."""

    def __init__(self) -> None:
        self.seconds, self.persons = 0.0, set[str]()

    def of(self, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The pieces as they are."""
        for piece in pieces:
            self.seconds += sum(piece["duration_s"].to_pylist())
            self.persons |= {p for p in piece["person"].unique().to_pylist() if p}
            yield piece


def _quarantine(dataset: str, refused: list[Rejected]) -> list[dict[str, str]]:
    ordered = sorted(refused, key=lambda r: (r.reason, r.name))
    return [
        {
            "dataset": dataset,
            "name": r.name,
            "reason": r.reason,
            "detail": r.detail,
            "meaning": records.REASONS[r.reason],
        }
        for r in ordered
    ]
