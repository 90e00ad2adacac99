"""recordings table + template -> reports table: a full and a strict report per recording."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import findings
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import layout, reports, store

REGIMES = ("full", "strict")
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
SCHEMA = pa.schema(
    [
        pa.field("recording_id", pa.string()),
        pa.field("dataset", pa.string()),
        pa.field("template_version", pa.string()),
        *_VERSION,
    ]
)


def make(manifest: Manifest, settings: Settings, folder: Path = reports.FOLDER) -> store.Outcome:
    """Render both reports of every recording of one dataset; skips itself when unchanged.

    Raises:
        ValueError: The template uses an unknown variable or leaves a report empty.
    """
    here = layout.Dataset(settings.data_root, manifest.id)
    version = reports.template_version(manifest.id, folder)
    inputs = {
        "recordings": store.version_at(here.recordings_stamp),
        "template": version,
        "manifest": store.digest(manifest.model_dump()),
        "code": store.code_version(reports, findings, sys.modules[__name__]),
    }

    def work() -> tuple[str, dict[str, Any]]:
        source = store.read_table(here.recordings, ["recording_id", "findings"]).to_pylist()
        rows = [
            _row(manifest, r["recording_id"], json.loads(r["findings"]), version, folder)
            for r in source
        ]
        words = [len(r["full_text"].split()) for r in rows]
        facts = {
            "reports": len(rows),
            "distinct_texts": len({r["full_text"] for r in rows}),
            "words_min": min(words, default=0),
            "words_mean": round(sum(words) / max(len(words), 1), 1),
            "words_max": max(words, default=0),
            "template_version": version,
        }
        return store.write_table(here.reports, rows, SCHEMA), facts

    return store.cached(here.reports_stamp, inputs, [here.reports], work)


def _row(
    manifest: Manifest, recording_id: str, values: dict[str, Any], version: str, folder: Path
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "recording_id": recording_id,
        "dataset": manifest.id,
        "template_version": version,
    }
    omitted = {"full": frozenset[str](), "strict": manifest.strict_masks}
    for regime in REGIMES:
        report = reports.render(manifest, recording_id, values, omitted[regime], folder)
        row |= {
            f"{regime}_text": report.text,
            f"{regime}_hash": report.hash,
            f"{regime}_terms": list(report.terms),
            f"{regime}_sentences": json.dumps(
                [asdict(s) for s in report.sentences], ensure_ascii=False
            ),
        }
    return row
