"""recordings table + template -> reports table: a full and a strict report per recording.

Made, and read back by the audit, in parts by worker processes; put together as a stream, so
memory does not grow with the dataset.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from acula_model.counting import Counted
from pipeline import audit, findings, pool, rewriting
from pipeline.audit.summary import Summary
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import layout, remote, report_parts, report_sandbox, reports, store

ROWS_PER_PART = 1024  # a dataset of 10,000 must keep all cores busy to the end
WORDS = (15, 90)  # of a full report, least and most
_VERSION = [
    field
    for regime in report_parts.REGIMES
    for field in (
        pa.field(f"{regime}_text", pa.string()),
        pa.field(f"{regime}_hash", pa.string()),
        pa.field(f"{regime}_terms", pa.list_(pa.string())),
        pa.field(f"{regime}_sentences", pa.string()),  # JSON: [{text, findings}]
    )
]
# Empty unless a language model puts the reports into other words.
REWRITING = [
    pa.field("rewriter", pa.string()),
    pa.field("prompt_version", pa.string()),
    *(
        field
        for regime in report_parts.REGIMES
        for field in (
            pa.field(f"{regime}_rewritten", pa.bool_()),
            pa.field(f"{regime}_refusal", pa.string()),
            pa.field(f"{regime}_rewrite_key", pa.string()),
            pa.field(f"{regime}_rewrite_revision", pa.string()),
        )
    ),
]
SCHEMA = pa.schema(
    [
        pa.field("recording_id", pa.string()),
        pa.field("dataset", pa.string()),
        pa.field("template_version", pa.string()),
        *_VERSION,
        *REWRITING,
    ]
)


_NOT_REWRITTEN: dict[str, Any] = dict.fromkeys(f.name for f in REWRITING) | {
    f"{regime}_rewritten": False for regime in report_parts.REGIMES
}
Progress = Callable[[str], None]


class _Made(NamedTuple):
    """A part of the table: its row group, where it is, hash of its rows, what the audit found."""

    group: int
    path: Path
    version: str
    audit: dict[str, Summary]


def make(
    manifest: Manifest,
    settings: Settings,
    folder: Path = reports.FOLDER,
    progress: Progress = lambda _: None,
) -> store.Outcome:
    """Render both reports of every recording of one dataset; skips itself when unchanged.

    Raises:
        ValueError: The template uses an unknown variable or leaves a report empty.
        RewriteError: The rewriter of the settings does not answer; what it answered is kept.
    """
    here = layout.Dataset(settings.data_root, manifest.id)
    version = reports.template_version(manifest.id, folder)
    inputs = {
        "recordings": store.version_at(here.recordings_stamp),
        "template": version,
        "manifest": store.digest(manifest.model_dump()),
        "code": store.code_version(
            reports, report_sandbox, report_parts, findings, sys.modules[__name__]
        ),
        "audit": store.package_version(audit),
    }
    rewrite = _rewriting(manifest, settings, progress)
    if rewrite:
        inputs |= rewrite.inputs

    def work() -> tuple[str, dict[str, Any]]:
        scratch = here.reports.with_name(".reports.parts")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        remote.need(here.recordings)
        with pq.ParquetFile(here.recordings) as recordings:
            parts: list[_Made] = []
            said = f"{manifest.id}: {{}} reports rendered and read back"
            counted = Counted(progress, said, recordings.metadata.num_rows)
            jobs = (
                (manifest, group, start, given, folder, version)
                for group, start, given in _given(recordings)
            )
            done = pool.run(report_parts.render_part, jobs, settings.workers, settings.cluster)
            for part in done:
                path = scratch / f"{part.group:06d}-{part.start:06d}.parquet"
                written = _write(path, [row | _NOT_REWRITTEN for row in part.rows])
                parts.append(_Made(part.group, path, written, part.audit))
                counted.add(len(part.rows))
        parts.sort(key=lambda part: part.path)
        rewritten = rewrite(here.recordings, parts) if rewrite else {}
        _join(parts, here.reports)
        shutil.rmtree(scratch)
        return store.digest([part.version for part in parts]), _facts(parts, version) | rewritten

    return store.cached(here.reports_stamp, inputs, [here.reports], work, stored=[here.reports])


def _facts(parts: list[_Made], version: str) -> dict[str, Any]:
    audited: dict[str, Any] = {}
    for regime in report_parts.REGIMES:
        summary = Summary()
        for part in parts:
            summary.include(part.audit[regime])
        audited[regime] = summary.facts() | {"examples": [asdict(e) for e in summary.examples]}
    return {
        "reports": sum(part.audit["full"].reports for part in parts),
        "template_version": version,
        "audit": audited,
    }


def _given(recordings: pq.ParquetFile) -> Iterator[tuple[int, int, list[dict[str, Any]]]]:
    """Row group, first row, and ids and findings (JSON) of each part."""
    for group in range(recordings.num_row_groups):
        columns = ["recording_id", "findings"]
        table = recordings.read_row_group(group, columns, use_threads=False)
        for start in range(0, len(table), ROWS_PER_PART):
            yield group, start, table.slice(start, ROWS_PER_PART).to_pylist()


def _write(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write the reports of a part; returns the hash of its rows."""
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, path, compression="lz4")
    return store.table_version(table)


class _Rewriting:
    """Puts the texts of finished parts into other words, where these state the same findings."""

    def __init__(
        self, manifest: Manifest, rewriter: rewriting.Rewriter, data: Path, progress: Progress
    ) -> None:
        from pipeline.rewriting import cache, faithful, prompt, rewrite

        self._rewriter, self._progress = rewriter, progress
        self._prompt, self._cache = prompt.load(), cache.Cache(rewriting.answers_in(data))
        self._accept, self._rewrite = faithful.acceptor(manifest), rewrite
        self.inputs: dict[str, Any] = {
            "rewriting": rewrite.identity(rewriter, self._prompt),
            "rewriting_code": store.package_version(rewriting),
        }

    def __call__(self, recordings: Path, parts: list[_Made]) -> dict[str, Any]:
        """Change the files and versions of the parts; returns what became of the texts."""
        counts = self._rewrite.Counts()
        with pq.ParquetFile(recordings) as source:
            for n, (part, (*_, recorded)) in enumerate(zip(parts, _given(source), strict=True)):
                rows, found = self._rewrite.rewrite_all(
                    pq.read_table(part.path).to_pylist(),
                    {r["recording_id"]: json.loads(r["findings"]) for r in recorded},
                    self._rewriter,
                    self._accept,
                    self._cache,
                    self._prompt,
                    self._progress,
                )
                counts += found
                parts[n] = part._replace(version=_write(part.path, rows))
        return {"rewriting": counts.facts()}


def _rewriting(manifest: Manifest, settings: Settings, progress: Progress) -> _Rewriting | None:
    rewriter = rewriting.build(settings)
    return _Rewriting(manifest, rewriter, settings.data_root, progress) if rewriter else None


def _join(parts: list[_Made], target: Path) -> None:
    with (
        store.finished(target) as temporary,
        pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer,
    ):
        for _, group in groupby(parts, key=lambda part: part.group):
            tables = [pq.read_table(part.path) for part in group]
            writer.write_table(pa.concat_tables(tables).combine_chunks())
