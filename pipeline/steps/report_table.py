"""recordings table + template -> reports table: a full and a strict report per recording.

Made, and read back by the audit, in parts by worker processes; put together as a stream, so
memory does not grow with the dataset.
"""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from acula_model.counting import Counted
from pipeline import audit, findings, pool, rewriting
from pipeline.audit.summary import Summary
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import layout, remote, report_parts, report_sandbox, reports, store

WORDS = (15, 90)  # of a full report, least and most
Progress = Callable[[str], None]


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
        about = pq.read_metadata(here.recordings)
        jobs = (
            (manifest, here.recordings, group, start, scratch, folder, version)
            for group in range(about.num_row_groups)
            for start in range(0, about.row_group(group).num_rows, report_parts.ROWS_PER_PART)
        )
        parts: list[report_parts.Part] = []
        said = f"{manifest.id}: {{}} reports rendered and read back"
        counted = Counted(progress, said, about.num_rows)
        for part in pool.run(report_parts.render_part, jobs, settings.workers, settings.cluster):
            parts.append(part)
            counted.add(part.reports)
        parts.sort(key=lambda part: (part.group, part.start))
        rewritten = rewrite(here.recordings, scratch, parts) if rewrite else {}
        _join(scratch, here.reports, parts)
        shutil.rmtree(scratch)
        return store.digest([part.version for part in parts]), _facts(parts, version) | rewritten

    return store.cached(here.reports_stamp, inputs, [here.reports], work, stored=[here.reports])


def _facts(parts: list[report_parts.Part], version: str) -> dict[str, Any]:
    audited: dict[str, Any] = {}
    for regime in report_parts.REGIMES:
        summary = Summary()
        for part in parts:
            summary.include(part.audit[regime])
        audited[regime] = summary.facts() | {"examples": [asdict(e) for e in summary.examples]}
    return {
        "reports": sum(part.reports for part in parts),
        "template_version": version,
        "audit": audited,
    }


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

    def __call__(
        self, recordings: Path, scratch: Path, parts: list[report_parts.Part]
    ) -> dict[str, Any]:
        """Change the files and versions of the parts; returns what became of the texts."""
        counts = self._rewrite.Counts()
        source = pq.ParquetFile(recordings)
        for n, part in enumerate(parts):
            path = part.file(scratch)
            recorded = report_parts.source(source, part.group, part.start)
            rows, found = self._rewrite.rewrite_all(
                pq.read_table(path).to_pylist(),
                {r["recording_id"]: json.loads(r["findings"]) for r in recorded},
                self._rewriter,
                self._accept,
                self._cache,
                self._prompt,
                self._progress,
            )
            counts += found
            table = pa.Table.from_pylist(rows, schema=report_parts.SCHEMA)
            pq.write_table(table, path, compression="zstd")
            parts[n] = replace(part, version=store.table_version(table))
        return {"rewriting": counts.facts()}


def _rewriting(manifest: Manifest, settings: Settings, progress: Progress) -> _Rewriting | None:
    rewriter = rewriting.build(settings)
    return _Rewriting(manifest, rewriter, settings.data_root, progress) if rewriter else None


def _join(scratch: Path, target: Path, parts: list[report_parts.Part]) -> None:
    with (
        store.finished(target) as temporary,
        pq.ParquetWriter(temporary, report_parts.SCHEMA, compression="zstd") as writer,
    ):
        for _, group in groupby(parts, key=lambda part: part.group):
            tables = [pq.read_table(part.file(scratch)) for part in group]
            writer.write_table(pa.concat_tables(tables).combine_chunks())
