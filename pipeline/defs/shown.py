"""What an asset's page in the Dagster UI shows besides numbers: small tables and pictures."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from pipeline.defs.outcome import table
from pipeline.explorer import PORT
from pipeline.manifest import Manifest
from pipeline.steps import layout, store

_PAIR = ["pair_id", "dataset", "recording_id", "person_id", "split", "align", "duration_s"]
_SOUND = ["full_text", "part", "offset", "size"]


def explore(query: str) -> dg.MarkdownMetadataValue:
    """How to hear and search what the page only counts."""
    address = f"http://127.0.0.1:{PORT}/{query}"
    return dg.MetadataValue.md(f"Hear, search and mark them: `acula explore`, then <{address}>")


def recordings(here: layout.Dataset) -> Callable[[], dict[str, Any]]:
    """How long, at what rate, and what was refused why."""

    def shown() -> dict[str, Any]:
        from pipeline.steps import overview, thumbnails

        heard = store.read_table(here.recordings, ["duration_s", "native_rate"])
        refused = store.read_table(here.quarantine)
        lengths = overview.durations(heard["duration_s"])
        rates = overview.rates(heard["native_rate"])
        reasons = overview.refusals(refused)
        bars = {
            "recordings by duration, seconds": [(r["seconds"], r["recordings"]) for r in lengths],
            "recordings by native sample rate, Hz": [(r["hertz"], r["recordings"]) for r in rates],
            "not used, by reason": [(r["reason"], r["count"]) for r in reasons],
        }
        found: dict[str, Any] = {}
        if filled := {title: rows for title, rows in bars.items() if rows}:
            found["histograms"] = dg.MetadataValue.md(thumbnails.bars(filled))
        if reasons:
            counts = [{k: r[k] for k in ("reason", "count")} for r in reasons]
            found["quarantine_by_reason"] = table(counts)
            found["not_used"] = dg.MetadataValue.md(thumbnails.refusals(reasons, here.id))
        found["explore"] = explore(f"?dataset={here.id}")
        return found | {
            name: table(rows)
            for name, rows in {"durations": lengths, "native_rates": rates}.items()
            if rows
        }

    return shown


def pairs(corpus: layout.Corpus, manifests: Mapping[str, Manifest]) -> Callable[[], dict[str, Any]]:
    """Sides, classes by side, three pairs to look at, and how to trace one."""

    def shown() -> dict[str, Any]:
        from acula_model.front_end import MelFrontEnd
        from pipeline.steps import overview, thumbnails

        known = store.read_table(corpus.table("pairs"), _PAIR)
        columns = ["task", "variant", "person_id", "fold", "label"]
        tasks = store.read_table(corpus.table("task_rows"), columns)
        tested = {
            person
            for person, fold in zip(
                tasks["person_id"].to_pylist(), tasks["fold"].to_pylist(), strict=True
            )
            if fold in ("test", "each")
        }
        chosen = thumbnails.choose(known, tested)
        rows = store.read_table(corpus.table("pairs"), _PAIR + _SOUND).take(chosen).to_pylist()
        found: dict[str, Any] = {}
        if rows:
            drawn = thumbnails.examples(rows, corpus, MelFrontEnd())
            command = f"`acula trace {rows[0]['pair_id']} --verify`"
            found = {
                "example_pairs": dg.MetadataValue.md(drawn),
                "trace": dg.MetadataValue.md(f"From a pair to its bytes: {command}"),
            }
        found["explore"] = explore("?kind=pair")
        found["by_dataset"] = table(overview.sides(known))
        found["classes_by_split"] = table(overview.classes(tasks, manifests), most=120)
        return found

    return shown
