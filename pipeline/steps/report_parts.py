"""Findings of some recordings -> their reports, rendered and read back; runs in workers.

Which import neither pyarrow nor pandas, as that takes longer than a thousand reports.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment

from pipeline import findings
from pipeline.audit.summary import Auditor, Row, Summary
from pipeline.manifest import Manifest
from pipeline.steps import report_sandbox, reports

REGIMES = ("full", "strict")


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a worker made of some recordings.

    Attributes:
        group, start: The row group of the recordings table that they are of, and the first row.
        rows: Columns of their reports, without those of rewriting.
        audit: Regime -> what the audit found.
    """

    group: int
    start: int
    rows: list[dict[str, Any]]
    audit: dict[str, Summary]


def render_part(
    manifest: Manifest,
    group: int,
    start: int,
    recordings: Sequence[Mapping[str, str]],
    folder: Path,
    version: str,
) -> Part:
    """Render and read back the reports of recordings, given by id and findings in JSON."""
    tools = _tools(manifest, folder, version)
    rows: list[dict[str, Any]] = []
    audited = {regime: Summary() for regime in REGIMES}
    for recording in recordings:
        values = json.loads(recording["findings"])
        said = tools.resolve(values)
        row = _row(manifest, recording["recording_id"], said, version, tools.templates)
        rows.append(row)
        for regime, summary in audited.items():
            report = _read(row, regime, values)
            defects = tools.auditor.defects(report, said)
            summary.add(report.recording_id, report.text, defects, len(report.sentences))
    return Part(group=group, start=start, rows=rows, audit=audited)


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
    key = (manifest.model_dump_json(), folder, version)
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
    }
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
