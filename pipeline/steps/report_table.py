"""recordings table + template -> reports table: a full and a strict report per recording.

Made, and read back by the audit, in parts by worker processes; put together as a stream, so
memory does not grow with the dataset.
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import Environment

from acula_model.counting import Counted
from pipeline import audit, findings, pool, rewriting
from pipeline.audit.summary import Auditor, Row, Summary, audit_rows
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import layout, remote, report_sandbox, reports, store

REGIMES = ("full", "strict")
WORDS = (15, 90)  # of a full report, least and most
_VERSION = [
    field
    for regime in REGIMES
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
        for regime in REGIMES
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
    f"{regime}_rewritten": False for regime in REGIMES
}
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a worker made of one row group of recordings.

    Attributes:
        number: Its place.
        version: Hash of its rows.
        reports: Number of rows.
        audit: Regime -> what the audit found.
    """

    number: int
    version: str
    reports: int
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
        "code": store.code_version(reports, report_sandbox, findings, sys.modules[__name__]),
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
        groups = pq.read_metadata(here.recordings).num_row_groups
        jobs = [
            (manifest, here.recordings, number, scratch, folder, version)
            for number in range(groups)
        ]
        parts: list[Part] = []
        rows = pq.read_metadata(here.recordings).num_rows
        counted = Counted(progress, f"{manifest.id}: {{}} reports rendered and read back", rows)
        for part in pool.run(render_part, jobs, settings.workers, settings.cluster):
            parts.append(part)
            counted.add(part.reports)
        parts.sort(key=lambda part: part.number)
        said = rewrite(here.recordings, scratch, parts) if rewrite else {}
        _join(scratch, here.reports, len(parts))
        shutil.rmtree(scratch)
        return store.digest([part.version for part in parts]), _facts(parts, version) | said

    return store.cached(here.reports_stamp, inputs, [here.reports], work, stored=[here.reports])


def _facts(parts: list[Part], version: str) -> dict[str, Any]:
    audited: dict[str, Any] = {}
    for regime in REGIMES:
        summary = reduce(Summary.merge, (part.audit[regime] for part in parts), Summary())
        audited[regime] = summary.facts() | {"examples": [asdict(e) for e in summary.examples]}
    return {
        "reports": sum(part.reports for part in parts),
        "template_version": version,
        "audit": audited,
    }


def render_part(
    manifest: Manifest, recordings: Path, number: int, scratch: Path, folder: Path, version: str
) -> Part:
    """Render one row group of the recordings table into a file of its own; runs in workers."""
    columns = ["recording_id", "findings"]
    source = pq.ParquetFile(recordings).read_row_group(number, columns).to_pylist()
    resolver = findings.Resolver(manifest)
    templates = report_sandbox.environment(folder, reload=False)
    rows = [
        _row(manifest, r["recording_id"], resolver(json.loads(r["findings"])), version, templates)
        for r in source
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, scratch / f"{number:06d}.parquet", compression="zstd")
    return Part(
        number=number,
        version=store.table_version(table),
        reports=len(rows),
        audit=_audit(manifest, source, rows),
    )


def _audit(
    manifest: Manifest, source: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> dict[str, Summary]:
    """Read the texts of each regime back and compare with what is recorded."""
    auditor = Auditor(manifest)
    recorded = [json.loads(r["findings"]) for r in source]
    return {
        regime: audit_rows(
            manifest,
            (
                Row(
                    recording_id=row["recording_id"],
                    findings=values,
                    sentences=[
                        (s["text"], s["findings"]) for s in json.loads(row[f"{regime}_sentences"])
                    ],
                    text=row[f"{regime}_text"],
                )
                for values, row in zip(recorded, rows, strict=True)
            ),
            auditor,
        )
        for regime in REGIMES
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

    def __call__(self, recordings: Path, scratch: Path, parts: list[Part]) -> dict[str, Any]:
        """Change the files and versions of the parts; returns what became of the texts."""
        counts = self._rewrite.Counts()
        source = pq.ParquetFile(recordings)
        for n, part in enumerate(parts):
            path = scratch / f"{part.number:06d}.parquet"
            recorded = source.read_row_group(part.number, ["recording_id", "findings"]).to_pylist()
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
            table = pa.Table.from_pylist(rows, schema=SCHEMA)
            pq.write_table(table, path, compression="zstd")
            parts[n] = replace(part, version=store.table_version(table))
        return {"rewriting": counts.facts()}


def _rewriting(manifest: Manifest, settings: Settings, progress: Progress) -> _Rewriting | None:
    rewriter = rewriting.build(settings)
    return _Rewriting(manifest, rewriter, settings.data_root, progress) if rewriter else None


def _join(scratch: Path, target: Path, count: int) -> None:
    with (
        store.finished(target) as temporary,
        pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer,
    ):
        for number in range(count):
            writer.write_table(pq.read_table(scratch / f"{number:06d}.parquet"))


def _row(
    manifest: Manifest,
    recording_id: str,
    said: Mapping[str, findings.Finding],
    version: str,
    templates: Environment,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "recording_id": recording_id,
        "dataset": manifest.id,
        "template_version": version,
    } | _NOT_REWRITTEN
    omitted = [frozenset[str](), manifest.strict_masks]  # as REGIMES
    made = reports.render_all(manifest.id, recording_id, said, omitted, templates)
    for regime, report in zip(REGIMES, made, strict=True):
        row |= {
            f"{regime}_text": report.text,
            f"{regime}_hash": report.hash,
            f"{regime}_terms": list(report.terms),
            f"{regime}_sentences": reports.TO_JSON(
                [{"text": s.text, "findings": s.findings} for s in report.sentences]
            ),
        }
    return row
