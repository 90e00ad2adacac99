"""reader rows + audio -> recordings table, parts of normalised audio, quarantine table."""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from acula_model.counting import Counted
from pipeline import findings, pool, readers, records
from pipeline.manifest import Manifest
from pipeline.records import Recording, Rejected
from pipeline.settings import Settings
from pipeline.steps import archive, layout, parts, remote, store

SCHEMA = pa.schema(
    [
        pa.field("recording_id", pa.string()),
        pa.field("dataset", pa.string()),
        pa.field("native_id", pa.string()),
        pa.field("member", pa.string()),
        pa.field("modality", pa.string()),
        pa.field("case_id", pa.string()),
        pa.field("person", pa.string()),
        pa.field("linked", pa.list_(pa.string())),
        pa.field("proxy", pa.string()),
        pa.field("official_split", pa.string()),
        pa.field("findings", pa.string()),  # JSON: name -> code or number
        pa.field("row", pa.string()),  # JSON: the metadata as they stood
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
        "code": store.code_version(reader, records, findings, parts, sys.modules[__name__]),
        "audio": parts.audio.VERSION,
    }

    def work() -> tuple[str, dict[str, Any]]:
        root = archive.root(manifest, settings, progress)
        rows, refused = _read(manifest, reader.read(root))
        audio, used, redone = _normalise(root, here, rows, settings, progress)
        table, more = _join(manifest, rows, audio)
        refused += more
        reasons = Counter(r.reason for r in refused)
        # Metadata alone are a state that a folder of one's own may be in: the rows are counted.
        # Sounds of which none can be used, or nothing at all, are a mistake.
        if not table and (rows or not refused):
            raise EmptyDataset(
                f"{manifest.id}: no usable recording in {root}"
                + (f"; refused: {dict(reasons)}" if reasons else "; it holds no recording at all")
            )
        if not table:
            progress(f"{manifest.id}: metadata without any audio in {root}; {dict(reasons)}")
        versions = [
            store.write_table(here.recordings, table, SCHEMA),
            store.write_table(here.quarantine, _quarantine(manifest.id, refused), QUARANTINE),
        ]
        if table:  # last, and never for an archive that lost its audio: parts are dear
            parts.clean(here.parts, used)
        return store.digest(versions), {
            "recordings": len(table),
            "seconds": round(sum(r["duration_s"] for r in table), 1),
            "persons": len({r["person"] for r in table if r["person"]}),
            "parts_made": redone,
            "quarantined": len(refused),
            "quarantine_by_reason": dict(sorted(reasons.items())),
        }

    outputs = [here.recordings, here.quarantine, here.parts]
    return store.cached(here.recordings_stamp, inputs, outputs, work, stored=outputs, say=progress)


def _read(
    manifest: Manifest, read: Iterable[Recording | Rejected]
) -> tuple[list[Recording], list[Rejected]]:
    """Rows by native id; a row with an unknown code or a second row of one id is refused."""
    rows: dict[str, Recording] = {}
    refused: list[Rejected] = []
    for row in read:
        if isinstance(row, Rejected):
            refused.append(row)
            continue
        try:
            findings.resolve(manifest, row.findings)
        except findings.UnknownCode as error:
            refused.append(Rejected(name=row.member, reason="unknown_code", detail=str(error)))
            continue
        if row.native_id in rows:
            detail = f"a second recording is called {row.native_id}"
            refused.append(Rejected(name=row.member, reason="bad_metadata", detail=detail))
            continue
        rows[row.native_id] = row
    return [rows[k] for k in sorted(rows)], refused


def _normalise(
    root: Path, here: layout.Dataset, rows: list[Recording], settings: Settings, progress: Progress
) -> tuple[dict[str, dict[str, Any]], set[str], int]:
    """Audio facts by native id, the parts they are in, and how many had to be made."""
    here.parts.mkdir(parents=True, exist_ok=True)
    items: list[parts.Item] = []
    for row in rows:
        stat = (root / row.member).stat()
        items.append((row.native_id, row.member, stat.st_size, stat.st_mtime_ns))
    plan = parts.plan(items)
    jobs = [
        (root, here.parts, here.id, key, bucket)
        for key, bucket in plan.items()
        if not all(remote.exists(here.parts / f"{key}.{kind}") for kind in ("tar", "parquet"))
    ]
    items_left = sum(len(j[4]) for j in jobs)
    counted = Counted(progress, f"{here.id}: {{}} recordings normalised", items_left)
    for count in pool.run(parts.make, jobs, settings.workers, settings.cluster):
        counted.add(count)
    tables = [here.parts / f"{key}.parquet" for key in plan]
    remote.need(*tables, say=progress)
    facts = [f for table in tables for f in pq.read_table(table).to_pylist()]
    return {f["native_id"]: f for f in facts}, set(plan), len(jobs)


def _join(
    manifest: Manifest, rows: list[Recording], audio: dict[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[Rejected]]:
    table: list[dict[str, Any]] = []
    refused: list[Rejected] = []
    for row in rows:
        heard = audio[row.native_id]
        if heard["reason"]:
            refused.append(
                Rejected(name=row.member, reason=heard["reason"], detail=heard["detail"] or "")
            )
            continue
        facts = {k: heard[k] for k in (*(f.name for f in parts.FACTS), "part", "offset", "size")}
        entry = as_row(row) | facts
        entry["recording_id"] = records.recording_id(manifest.id, row.native_id)
        entry["dataset"] = manifest.id
        table.append(entry)
    conflicts = _conflicts(manifest, table)
    refused += [
        Rejected(name=r["member"], reason="conflicting_duplicate", detail=conflicts[r["native_id"]])
        for r in table
        if r["native_id"] in conflicts
    ]
    return [r for r in table if r["native_id"] not in conflicts], refused


def as_row(recording: Recording) -> dict[str, Any]:
    """What a reader says, as columns of the table."""
    return asdict(recording) | {
        "findings": json.dumps(recording.findings, sort_keys=True, ensure_ascii=False),
        "row": json.dumps(recording.row, sort_keys=True, ensure_ascii=False),
    }


def _conflicts(manifest: Manifest, table: list[dict[str, Any]]) -> dict[str, str]:
    """Recordings with equal sound whose task labels differ: nobody can say which is right.

    A label that is not recorded contradicts nothing.
    """
    by_sound: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table:
        by_sound[row["audio_sha256"]].append(row)
    labels = sorted({t.label for t in manifest.tasks.values()})
    conflicts: dict[str, str] = {}
    for same in by_sound.values():
        found = [json.loads(r["findings"]) for r in same]
        said = [{json.dumps(f[n]) for f in found if n in f} for n in labels]
        if any(len(values) > 1 for values in said):
            for row in same:
                others = [r["native_id"] for r in same if r is not row]
                conflicts[row["native_id"]] = f"same sound as {', '.join(others)}"
    return conflicts


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
