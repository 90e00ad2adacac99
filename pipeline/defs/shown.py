"""What an asset's page in the Dagster UI shows besides numbers: small tables and pictures.

It is kept beside the table that it is of: drawing takes seconds, and most runs change nothing, yet
the latest materialisation should show it, too.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from pipeline import records
from pipeline.defs.outcome import table
from pipeline.explorer import PORT
from pipeline.manifest import Manifest
from pipeline.steps import layout, store

_PAIR = ["pair_id", "dataset", "recording_id", "person_id", "split", "align", "duration_s"]
_SOUND = ["full_text", "part", "offset", "size"]
Seen = dict[str, Any]


def explore(query: str) -> dg.MarkdownMetadataValue:
    """How to hear and search what the page only counts."""
    address = f"http://127.0.0.1:{PORT}/{query}"
    return dg.MetadataValue.md(f"Hear, search and mark them: `acula explore`, then <{address}>")


def recordings(here: layout.Dataset) -> Callable[[], Seen]:
    """How long, at what rate, and what was refused why."""

    def look() -> Seen:
        from pipeline.steps import overview, thumbnails

        heard = store.read_table(here.recordings, ["duration_s", "native_rate"])
        lengths = overview.durations(heard["duration_s"])
        rates = overview.rates(heard["native_rate"])
        reasons = overview.refusals(store.read_table(here.quarantine))
        bars = {
            "recordings by duration, seconds": [(r["seconds"], r["recordings"]) for r in lengths],
            "recordings by native sample rate, Hz": [(r["hertz"], r["recordings"]) for r in rates],
            "not used, by reason": [(r["reason"], r["count"]) for r in reasons],
        }
        filled = {title: rows for title, rows in bars.items() if rows}
        return {
            "histograms": thumbnails.bars(filled) if filled else None,
            "reasons": [{k: r[k] for k in ("reason", "count")} for r in reasons],
            "not_used": thumbnails.refusals(reasons, here.id),
            "durations": lengths,
            "native_rates": rates,
        }

    def shown() -> Seen:
        seen = _kept(here.recordings_shown, [here.recordings_stamp], None, look)
        found: Seen = {}
        if seen["histograms"]:
            found["histograms"] = dg.MetadataValue.md(seen["histograms"])
        if seen["reasons"]:
            found["quarantine_by_reason"] = table(seen["reasons"])
            found["not_used"] = dg.MetadataValue.md(seen["not_used"])
        found["explore"] = explore(f"?dataset={here.id}")
        return found | {n: table(seen[n]) for n in ("durations", "native_rates") if seen[n]}

    return shown


def pairs(corpus: layout.Corpus, manifests: Mapping[str, Manifest]) -> Callable[[], Seen]:
    """Sides, classes by side, three pairs to look at, and how to trace one."""

    def look() -> Seen:
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
        chosen = known["pair_id"].take(thumbnails.choose(known, tested)).to_pylist()
        own = store.one_of("pair_id", chosen)
        rows = list(store.read_rows(corpus.table("pairs"), _PAIR + _SOUND, own))
        rows.sort(key=lambda r: chosen.index(r["pair_id"]))
        return {
            "first": next(iter(chosen), None),
            "example_pairs": thumbnails.examples(rows, corpus, MelFrontEnd()),
            "by_dataset": overview.sides(known),
            "classes_by_split": overview.classes(tasks, manifests),
        }

    def shown() -> Seen:
        asked = {d: m.model_dump()["tasks"] for d, m in sorted(manifests.items())}
        stamps = [corpus.stamp("pairs"), corpus.stamp("subjects")]
        seen = _kept(corpus.pairs_shown, stamps, asked, look)
        found: Seen = {}
        if seen["first"]:
            command = f"`acula trace {seen['first']} --verify`"
            found = {
                "example_pairs": dg.MetadataValue.md(seen["example_pairs"]),
                "trace": dg.MetadataValue.md(f"From a pair to its bytes: {command}"),
            }
        found["explore"] = explore("?kind=pair")
        found["by_dataset"] = table(seen["by_dataset"])
        found["classes_by_split"] = table(seen["classes_by_split"], most=120)
        return found

    return shown


def _kept(path: Path, stamps: list[Path], further: Any, look: Callable[[], Seen]) -> Seen:
    """What ``look`` sees, in JSON values; it looks again when what it sees may have changed.

    Args:
        path: Where it is kept.
        stamps: Of the steps whose tables are looked at.
        further: What it depends on besides.
        look: Reads tables and draws.
    """
    from acula_model import front_end, front_end_base
    from pipeline.steps import overview, page_examples, thumbnails

    modules = (
        front_end, front_end_base, overview, page_examples, records, thumbnails,
        sys.modules[__name__],
    )  # fmt: skip
    inputs = {
        "tables": [store.version_at(stamp) for stamp in stamps],
        "further": further,
        "code": store.code_version(*modules),
    }

    def work() -> tuple[str, Seen]:
        seen = json.dumps(look())  # as text: stamps sort keys, and columns have an order
        return store.digest(seen), {"seen": seen}

    return json.loads(store.cached(path, inputs, [], work).facts["seen"])
