"""scores, history, pairs, quarantine, manifests -> one HTML page that needs nothing else.

The page carries its pictures and sounds, loads nothing (a content security policy says so to
the browser) and holds no time stamp: the same inputs give the same bytes.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Template

from acula_model import encoders, front_end, metrics
from acula_model.recipes import Recipe
from pipeline import RESOURCES, records
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import (
    embeddings,
    label_leak,
    layout,
    page_datasets,
    page_figures,
    page_leak,
    page_scores,
    pages,
    store,
    training,
)

TEMPLATE = RESOURCES / "templates" / "results_page.html.j2"
_CODE = (page_datasets, page_figures, page_leak, page_scores, metrics, front_end, records)


@dataclass(frozen=True, kw_only=True)
class _Sources:
    """Folders of this recipe's results."""

    floor: Path
    run: Path
    vectors: Path
    leak: Path

    @property
    def files(self) -> list[Path]:
        results = (
            self.floor / "encoder",
            self.floor / "shortcut",
            self.run / "scores",
            *(self.leak / source for source in label_leak.SOURCES),
        )
        names = ("scores.parquet", "predictions.parquet")
        return [self.run / "history.json", *(place / n for place in results for n in names)]


def make(settings: Settings, recipe: Recipe, manifests: Mapping[str, Manifest]) -> store.Outcome:
    """Write the page of one recipe's run; skips itself when nothing that it shows changed.

    Raises:
        FileNotFoundError: Something upstream has not been made; names the command.
        ValueError: Scores to compare are of different test units.
    """
    corpus = layout.Corpus(settings.data_root)
    sources = _Sources(
        floor=training.baseline_folder(settings, recipe),
        run=training.run_folder(settings, recipe, manifests),
        vectors=embeddings.folder(settings, recipe),
        leak=corpus.label_leak,
    )
    stamps = {n: corpus.stamp(n) for n in ("subjects", "pairs", "shards")} | {
        n: place / "stamp.json" for n, place in vars(sources).items()
    }
    for dataset in settings.alignment:
        here = corpus.dataset(dataset)
        stamps |= {
            f"{dataset} archive": here.archive_stamp,
            f"{dataset} recordings": here.recordings_stamp,
        }
    inputs = {
        "versions": {name: store.version_at(path) for name, path in stamps.items()},
        "scores": [hashlib.sha256(p.read_bytes()).hexdigest()[:16] for p in sources.files],
        "run": [sources.run.name, recipe.name, recipe.key],
        "manifests": {d: store.digest(m.model_dump()) for d, m in sorted(manifests.items())},
        "template": pages.version(TEMPLATE.name),
        "code": store.code_version(*_CODE, sys.modules[__name__]),
    }

    def work() -> tuple[str, dict[str, Any]]:
        page, facts = _render(settings, recipe, manifests, sources)
        content = page.lstrip().encode()
        with store.finished(corpus.page) as temporary:
            temporary.write_bytes(content)
        return hashlib.sha256(content).hexdigest()[:16], facts | {"bytes": len(content)}

    return store.cached(corpus.page.with_name("stamp.json"), inputs, [corpus.page], work)


def _render(
    settings: Settings, recipe: Recipe, manifests: Mapping[str, Manifest], sources: _Sources
) -> tuple[str, dict[str, Any]]:
    corpus = layout.Corpus(settings.data_root)
    pairs, task_rows, index = (
        store.read_table(path).to_pylist()
        for path in (corpus.table("pairs"), corpus.table("task_rows"), corpus.shard_index)
    )
    after, before, shortcut = (
        page_scores.load(place)
        for place in (sources.run / "scores", sources.floor / "encoder", sources.floor / "shortcut")
    )
    rows = page_scores.rows(
        after, before, shortcut, pairs, task_rows, manifests, settings.alignment
    )
    verdict = page_scores.gap(after, before)
    mel = encoders.build(recipe.encoder, **recipe.encoder_config).front_end
    place_of = {r["pair_id"]: r for r in index}
    tested = {r["person_id"] for r in task_rows if r["fold"] in ("test", "each")}
    examples = [
        page_figures.example(
            row, manifests[row["dataset"]], corpus.shards, place_of[row["pair_id"]], mel
        )
        for row in page_figures.choose(pairs, tested)
    ]
    run_facts = json.loads((sources.run / "stamp.json").read_text())["facts"]
    history = json.loads((sources.run / "history.json").read_text())
    datasets = page_datasets.describe(corpus, settings, manifests, pairs)
    page = _template().render(
        recipe=recipe,
        run=sources.run.name,
        teacher=json.loads((sources.vectors / "stamp.json").read_text())["facts"],
        rows=rows,
        variants=page_scores.VARIANTS,
        verdict=verdict,
        floor=page_scores.gap(after, shortcut),
        leak=page_leak.lines(sources.leak, manifests, settings.alignment),
        history=history,
        curves=page_figures.curves(history, run_facts["best_epoch"]),
        datasets=datasets,
        synthetic=[d.manifest.id for d in datasets if d.source == "sample"],
        left_out=[m for d, m in sorted(manifests.items()) if d not in settings.alignment],
        reasons=_reasons(datasets),
        examples=examples,
        front_end=mel,
        draws=metrics.DRAWS,
        seconds=page_figures.SECONDS,
    )
    return page, {
        "mean_difference": [round(v, 4) for v in vars(verdict.interval).values()]
        if verdict
        else None,
        "tasks_run": sum(r.reason is None for r in rows),
        "tasks_not_run": sum(r.reason is not None for r in rows),
        "rows_with_shared_persons": sum(r.leaks for r in rows),
        "examples": len(examples),
    }


def _reasons(datasets: list[page_datasets.Described]) -> list[tuple[str, str]]:
    """Quarantine reasons that occur, with what they mean."""
    seen = Counter[str]()
    for dataset in datasets:
        seen += dataset.quarantine
    return [(reason, meaning) for reason, meaning in records.REASONS.items() if seen[reason]]


def _template() -> Template:
    environment = pages.environment()
    environment.filters |= {"three": _three, "signed": _signed, "many": _many}
    return environment.get_template(TEMPLATE.name)


def _three(value: float) -> str:
    """Three decimals, with a minus sign that is one."""
    text = f"{value:.3f}"
    return text.replace("-", "\u2212") if float(text) else "0.000"


def _signed(value: float) -> str:
    return f"+{text}" if (text := _three(value))[0] != "\u2212" and float(text) else text


def _many(count: int, noun: str, plural: str = "") -> str:
    """``1 person``, ``2 persons``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
