"""Twenty reports of a dataset beside their metadata -> one HTML page for a human to read."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.findings import resolve
from pipeline.manifest import Manifest
from pipeline.records import unit_hash
from pipeline.settings import Settings
from pipeline.steps import layout, pages, remote, store

TEMPLATE = "reports_page.html.j2"
SHOWN = 20


def make(manifest: Manifest, settings: Settings) -> store.Outcome:
    """Write the page; skips itself when the reports are unchanged.

    Raises:
        FileNotFoundError: The reports have not been made; names the command.
    """
    here = layout.Dataset(settings.data_root, manifest.id)
    inputs = {
        "reports": store.version_at(here.reports_stamp),
        "recordings": store.version_at(here.recordings_stamp),
        "template": pages.version(TEMPLATE),
        "code": store.code_version(pages, sys.modules[__name__]),
    }

    def work() -> tuple[str, dict[str, Any]]:
        shown, total = _examples(manifest, here)
        content = (
            pages.environment()
            .get_template(TEMPLATE)
            .render(
                manifest=manifest,
                masks=manifest.strict_masks,
                reports=shown,
                total=total,
                version=shown[0]["version"] if shown else "none",
                synthetic=settings.archive_of(manifest.id) == "sample",
            )
            .lstrip()
        )
        with store.finished(here.reports_page) as temporary:
            temporary.write_text(content, encoding="utf-8")
        return hashlib.sha256(content.encode()).hexdigest()[:16], {"shown": len(shown)}

    stamp = Path(f"{here.reports_page}.json")
    return store.cached(stamp, inputs, [here.reports_page], work)


def _examples(manifest: Manifest, here: layout.Dataset) -> tuple[list[dict[str, Any]], int]:
    ids = store.read_table(here.reports, ["recording_id"])["recording_id"].to_pylist()
    chosen = set(sorted(ids, key=lambda i: unit_hash(f"page:{i}"))[:SHOWN])
    texts = _rows(here.reports, chosen)
    facts = _rows(here.recordings, chosen, ["recording_id", "findings", "row"])
    shown: list[dict[str, Any]] = []
    for key in sorted(chosen):
        text, fact = texts[key], facts[key]
        known = resolve(manifest, json.loads(fact["findings"]))
        shown.append(
            {
                "recording_id": key,
                "version": text["template_version"],
                "findings": [
                    {
                        "name": f.name,
                        "label": f.label,
                        "said": {True: "yes", False: "no"}[f.value]
                        if isinstance(f.value, bool)
                        else str(f),
                        "unit": f.unit,
                        "status": f.status,
                        "stated_by": _worth_saying(manifest.findings[f.name].stated_by),
                    }
                    for f in known.values()
                    if f.status != "not_recorded"
                ],
                "row": fact["row"],
                "full": json.loads(text["full_sentences"]),
                "strict": text["strict_text"],
            }
        )
    return shown, len(ids)


def _worth_saying(authority: str | None) -> str | None:
    """That the publisher wrote it down goes without saying."""
    return None if authority == "publisher" else authority


def _rows(
    path: Path, chosen: set[str], columns: list[str] | None = None
) -> dict[str, dict[str, Any]]:
    remote.need(path)
    wanted = [("recording_id", "in", sorted(chosen))]
    table = pq.read_table(path, columns=columns, filters=wanted)
    return {r["recording_id"]: r for r in table.to_pylist()}
