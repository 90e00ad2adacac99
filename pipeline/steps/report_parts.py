"""Some rows of a recordings table -> their reports, rendered and read back; runs in workers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import Environment

from pipeline import findings
from pipeline.audit.summary import Auditor, Row, Summary
from pipeline.manifest import Manifest
from pipeline.steps import report_sandbox, reports, store

REGIMES = ("full", "strict")
ROWS_PER_PART = 1024  # a dataset of 10,000 must keep all cores busy to the end
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


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a worker made of some rows of one row group of recordings.

    Attributes:
        group: The row group.
        start: Its first row there.
        version: Hash of its rows.
        reports: Number of rows.
        audit: Regime -> what the audit found.
    """

    group: int
    start: int
    version: str
    reports: int
    audit: dict[str, Summary]

    def file(self, scratch: Path) -> Path:
        """Where its reports are until they are put together."""
        return _file(scratch, self.group, self.start)


def _file(scratch: Path, group: int, start: int) -> Path:
    return scratch / f"{group:06d}-{start:06d}.parquet"


def source(recordings: pq.ParquetFile, group: int, start: int) -> list[dict[str, Any]]:
    """Ids and findings, still as JSON, of the rows of a part."""
    table = recordings.read_row_group(group, ["recording_id", "findings"], use_threads=False)
    return table.slice(start, ROWS_PER_PART).to_pylist()


def render_part(
    manifest: Manifest,
    recordings: Path,
    group: int,
    start: int,
    scratch: Path,
    folder: Path,
    version: str,
) -> Part:
    """Render some rows of the recordings table into a file of their own; runs in workers."""
    with pq.ParquetFile(recordings) as table:
        given = source(table, group, start)
    tools = _tools(manifest, folder, version)
    rows: list[dict[str, Any]] = []
    audited = {regime: Summary() for regime in REGIMES}
    for recording in given:
        values = json.loads(recording["findings"])
        said = tools.resolve(values)
        row = _row(manifest, recording["recording_id"], said, version, tools.templates)
        rows.append(row)
        for regime, summary in audited.items():
            report = _read(row, regime, values)
            defects = tools.auditor.defects(report, said)
            summary.add(report.recording_id, report.text, defects, len(report.sentences))
    made = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(made, _file(scratch, group, start), compression="zstd")
    return Part(
        group=group,
        start=start,
        version=store.table_version(made),
        reports=len(rows),
        audit=audited,
    )


def _read(row: dict[str, Any], regime: str, values: Mapping[str, Any]) -> Row:
    """A report as it stands in the table, for the audit."""
    return Row(
        recording_id=row["recording_id"],
        findings=values,
        sentences=[(s["text"], s["findings"]) for s in json.loads(row[f"{regime}_sentences"])],
        text=row[f"{regime}_text"],
    )


class _Tools(NamedTuple):
    resolve: findings.Resolver
    templates: Environment
    auditor: Auditor


_TOOLS: dict[tuple[str, Path, str], _Tools] = {}  # of the last dataset: a worker does many parts


def _tools(manifest: Manifest, folder: Path, version: str) -> _Tools:
    key = (store.digest(manifest.model_dump()), folder, version)
    tools = _TOOLS.get(key)
    if tools is None:
        templates = report_sandbox.environment(folder, reload=False)
        tools = _Tools(findings.Resolver(manifest), templates, Auditor(manifest))
        _TOOLS.clear()
        _TOOLS[key] = tools
    return tools


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
