"""results, history, pairs, quarantine, manifests -> one HTML page that needs nothing else.

The page carries its pictures, sounds and its one script, loads nothing (a content security policy
says so to the browser), names no person and holds no time stamp: the same inputs give the same
bytes.
"""

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acula_model import encoders, evaluation, front_end
from acula_model.front_end import FrontEnd
from acula_model.recipes import Recipe
from pipeline import RESOURCES, records
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import (
    embeddings,
    label_leak,
    layout,
    page_beyond,
    page_curves,
    page_datasets,
    page_examples,
    page_forest,
    page_format,
    page_history,
    page_leak,
    page_map,
    page_points,
    page_scores,
    pages,
    pairs,
    probing,
    remote,
    shards,
    store,
    training,
)

TEMPLATE = RESOURCES / "templates" / "results_page.html.j2"
PARTS = "results"  # folder of what the template includes
_CODE = (
    page_beyond, page_curves, page_datasets, page_examples, page_forest, page_format, page_history,
    page_leak, page_map, page_points, page_scores, front_end, records,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Sources:
    """Folders of this recipe's results, and embeddings of the probed recordings."""

    floor: Path
    run: Path
    vectors: Path
    leak: Path
    before: list[Path]
    after: list[Path]

    @property
    def stamped(self) -> dict[str, Path]:
        found = {"floor": self.floor, "run": self.run, "vectors": self.vectors, "leak": self.leak}
        return {name: place / "stamp.json" for name, place in found.items()}

    @property
    def files(self) -> list[Path]:
        names = ("scores.parquet", "predictions.parquet")
        leaks = [self.leak / s / n for s in label_leak.SOURCES for n in names]
        run = [self.run / n for n in ("results.json", "history.json", "scores/predictions.parquet")]
        return [*run, *leaks, *self.before, *self.after]


def make(settings: Settings, recipe: Recipe, manifests: Mapping[str, Manifest]) -> store.Outcome:
    """Write the page of one recipe's run; skips itself when nothing that it shows changed.

    Raises:
        FileNotFoundError: Something upstream has not been made; names the command.
        ValueError: results.json is of another schema, or the page would name a person.
    """
    corpus = layout.Corpus(settings.data_root)
    mel = encoders.build(recipe.encoder, **recipe.encoder_config).front_end
    probed = probing.probed(settings)
    floor = training.baseline_folder(settings, recipe)
    run = training.run_folder(settings, recipe, manifests)
    sources = _Sources(
        floor=floor,
        run=run,
        vectors=embeddings.folder(settings, recipe),
        leak=corpus.label_leak,
        before=page_points.files(settings, probed, mel.key, floor.name),
        after=page_points.files(settings, probed, mel.key, run.name),
    )
    stamps = {n: corpus.stamp(n) for n in ("subjects", "pairs", "shards")} | sources.stamped
    for dataset in settings.evaluated:
        here = corpus.dataset(dataset)
        stamps |= {
            f"{dataset} archive": here.archive_stamp,
            f"{dataset} recordings": here.recordings_stamp,
        }
    inputs = {
        "versions": {name: store.version_at(path) for name, path in stamps.items()},
        "files": [_digest(p) for p in sources.files],
        "run": [sources.run.name, recipe.name, recipe.key],
        "manifests": {d: store.digest(m.model_dump()) for d, m in sorted(manifests.items())},
        "template": pages.version(TEMPLATE.name, PARTS),
        "code": store.package_version(evaluation, *_CODE, sys.modules[__name__]),
    }

    def work() -> tuple[str, dict[str, Any]]:
        page, facts = _render(settings, recipe, manifests, sources, mel)
        persons = store.read_table(corpus.table("task_rows"), ["person_id"])["person_id"]
        assert_nobody_is_named(page, set(persons.unique().to_pylist()))
        content = page.lstrip().encode()
        with store.finished(corpus.page) as temporary:
            temporary.write_bytes(content)
        return hashlib.sha256(content).hexdigest()[:16], facts | {"bytes": len(content)}

    return store.cached(corpus.page.with_name("stamp.json"), inputs, [corpus.page], work)


def assert_nobody_is_named(page: str, persons: set[str]) -> None:
    """Refuse a page that names a person.

    Raises:
        ValueError: Says how many it would name, not whom.
    """
    datasets = {p.partition("/")[0] for p in persons}
    if not datasets:
        return
    said = set(re.findall(rf"\b(?:{'|'.join(map(re.escape, datasets))})/[\w.:+-]+", page))
    if named := {s.rstrip(".:") for s in said} & persons:
        raise ValueError(
            f"the results page would name {len(named)} persons by their ids: "
            "find which table holds them (results.json comes first) and leave them out"
        )


def _digest(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: run `dagster asset materialize --select '*results_page'`"
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _render(
    settings: Settings,
    recipe: Recipe,
    manifests: Mapping[str, Manifest],
    sources: _Sources,
    mel: FrontEnd,
) -> tuple[str, dict[str, Any]]:
    corpus = layout.Corpus(settings.data_root)
    predictions = sources.run / "scores" / "predictions.parquet"
    said = store.read_rows(predictions, page_curves.PREDICTED)
    results = page_scores.load(sources.run / "results.json", said)
    history = json.loads((sources.run / "history.json").read_text())
    datasets = page_datasets.describe(corpus, settings, manifests)
    examples = _examples(corpus, manifests, mel)
    embedded = page_map.draw(
        {
            "before alignment": page_points.vectors(sources.before),
            "after alignment": page_points.vectors(sources.after),
        },
        page_points.attributes(settings, manifests),
    )
    script = (pages.FOLDER / PARTS / "page.js").read_text(encoding="utf-8")
    environment = pages.environment()
    environment.filters |= page_format.FILTERS
    environment.tests["estimate"] = page_beyond.is_estimate
    page = environment.get_template(TEMPLATE.name).render(
        recipe=recipe,
        run=sources.run.name,
        teacher=json.loads((sources.vectors / "stamp.json").read_text())["facts"],
        results=results,
        marks=page_scores.MARKS,
        mark_words=page_scores.MARK_WORDS,
        forests=page_forest.draw(results.lines),
        leak=page_leak.lines(sources.leak, manifests, settings.alignment),
        beyond=page_beyond.sections(results.beyond),
        map=embedded,
        history=history,
        curves=page_history.curves(history, results.run["best_epoch"]),
        datasets=datasets,
        synthetic=[d.manifest.id for d in datasets if d.source == "sample"],
        reasons=_reasons(datasets),
        examples=examples,
        front_end=mel,
        script=script,
        permission=pages.permission(script),
    )
    change = results.summary["difference"]
    return page, {
        "mean_difference": [round(change[n], 4) for n in ("value", "low", "high")]
        if change
        else None,
        "tasks_run": sum(x.run for x in results.lines),
        "tasks_not_run": sum(not x.run for x in results.lines),
        "verdicts": dict(Counter(x.row["verdict"]["mark"] for x in results.lines)),
        "points_on_map": embedded.points if embedded else 0,
        "examples": len(examples),
    }


def _examples(
    corpus: layout.Corpus, manifests: Mapping[str, Manifest], mel: FrontEnd
) -> list[page_examples.Example]:
    in_test = store.one_of("fold", ("test", "each"))
    rows = store.read_rows(corpus.table("task_rows"), ["person_id", "fold"], in_test)
    tested = {r["person_id"] for r in rows}
    table, columns = corpus.table("pairs"), ["pair_id", "dataset", "split", "person_id"]
    drawn = page_examples.choose(store.read_rows(table, columns), tested)
    own = store.one_of("pair_id", [r["pair_id"] for r in drawn])
    whole = {r["pair_id"]: r for r in store.read_rows(table, pairs.SCHEMA.names, own)}
    chosen = [whole[r["pair_id"]] for r in drawn]
    index = store.read_rows(corpus.shard_index, shards.INDEX.names, own)
    place_of = {r["pair_id"]: r for r in index}
    remote.need(*(corpus.shards / place_of[r["pair_id"]]["shard"] for r in chosen))
    return [
        page_examples.example(
            row, manifests[row["dataset"]], corpus.shards, place_of[row["pair_id"]], mel
        )
        for row in chosen
    ]


def _reasons(datasets: list[page_datasets.Described]) -> list[tuple[str, str]]:
    """Quarantine reasons that occur, with what they mean."""
    seen = Counter[str]()
    for dataset in datasets:
        seen += dataset.quarantine
    return [(reason, meaning) for reason, meaning in records.REASONS.items() if seen[reason]]
