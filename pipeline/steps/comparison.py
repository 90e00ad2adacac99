"""scores before and after + floors + tables -> results with intervals, leakage and verdicts."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acula_model import evaluation
from acula_model.evaluation import intervals
from acula_model.recipes import Recipe
from acula_model.training import job
from pipeline.manifest import Manifest, load_all
from pipeline.settings import Settings
from pipeline.steps import (
    layout,
    leakage,
    measures,
    pretraining,
    results_file,
    results_schema,
    score_files,
    store,
    task_rows,
    training,
    unit_groups,
    verdicts,
)
from pipeline.steps.measures import Sources
from pipeline.steps.results_schema import Floors, Leakage, Measured, Results, Row, Run
from pipeline.steps.score_files import Key

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where a run's scores lie, and those that they are held against."""

    run: Path
    baseline: Path
    label_leak: Path


def folders(settings: Settings, recipe: Recipe, manifests: Mapping[str, Manifest]) -> Folders:
    """Of the present inputs."""
    return Folders(
        run=training.run_folder(settings, recipe, manifests),
        baseline=training.baseline_folder(settings, recipe),
        label_leak=layout.Corpus(settings.data_root).label_leak,
    )


def make(
    settings: Settings,
    recipe: Recipe,
    manifests: Mapping[str, Manifest],
    progress: Progress = print,
    places: Folders | None = None,
) -> store.Outcome:
    """Write ``results.json``, ``results.parquet`` and ``results.schema.json`` of a run.

    ``beyond.json`` of the run's folder and ``split_checks.json`` of each dataset are taken in
    where they are there; without the second, near duplicates are not counted.

    Args:
        settings: Which datasets were evaluated.
        recipe: Of the run.
        manifests: Of the datasets.
        progress: Called with a line now and then.
        places: Other folders than those of the present inputs.

    Raises:
        FileNotFoundError: Something upstream has not been made; names the command.
        ValueError: Before and after were scored on different test units.
    """
    at = places or folders(settings, recipe, manifests)
    corpus = layout.Corpus(settings.data_root)
    known = {**load_all(), **manifests}
    checks = {d: _read(corpus.dataset(d).split_checks) for d in settings.evaluated}
    stamps = (at.run, at.baseline, at.label_leak)
    modules = (
        leakage, measures, pretraining, results_file, results_schema, score_files, unit_groups,
        verdicts, sys.modules[__name__],
    )  # fmt: skip
    inputs = {
        "scores": [store.version_at(place / "stamp.json") for place in stamps],
        "tables": [store.version_at(corpus.stamp(n)) for n in ("subjects", "pairs")],
        "checks": store.digest(checks),
        "manifests": {d: store.digest(m.model_dump()) for d, m in sorted(known.items())},
        "given": store.digest([_read(at.run / name) for name in (job.JOB, "beyond.json")]),
        "made_up": made_up(settings),
        "code": store.package_version(evaluation, *modules),
    }
    outputs = results_file.paths(at.run)

    def work() -> tuple[str, dict[str, Any]]:
        results = compare(settings, recipe, known, at, checks, progress)
        results_file.write(at.run, results)
        return store.digest(results.model_dump(by_alias=True)), facts(results)

    return store.cached(at.run / "comparison.json", inputs, outputs, work)


def made_up(settings: Settings) -> bool:
    """Whether any number is of a sample archive."""
    return any(settings.archive_of(d) == "sample" for d in settings.evaluated)


def compare(
    settings: Settings,
    recipe: Recipe,
    manifests: Mapping[str, Manifest],
    at: Folders,
    checks: Mapping[str, Any],
    progress: Progress,
) -> Results:
    """All rows of a run; see ``make``."""
    corpus = layout.Corpus(settings.data_root)
    tables = {n: store.read_table(corpus.table(n)).to_pylist() for n in ("task_rows", "task_notes")}
    columns = ["pair_id", "recording_id", "person_id", "align"]
    trained = leakage.trained_on(at.run, store.read_rows(corpus.table("pairs"), columns))
    of_task: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in tables["task_rows"]:
        of_task.setdefault((row["task"], row["variant"]), []).append(row)
    sources = Sources.read(at.run / "scores", at.baseline, at.label_leak)
    gaps = measures.differences(sources, manifests)
    rows: list[Measured] = []
    groups: dict[str, dict[str, unit_groups.Values]] = {}
    counts: dict[tuple[str, str], leakage.Counts] = {}
    for key, score in sorted(sources.after.scores.items()):
        dataset, _, name = key[0].partition("/")
        own = of_task.get(key[:2], [])
        check = checks.get(dataset)
        near = check["near"] if check else {"groups": None, "reason": "sounds were not compared"}
        if key[:2] not in counts:
            counts[key[:2]] = leakage.count(own, trained, near["groups"])
        if key[0] not in groups:
            groups[key[0]] = _groups(corpus, manifests[dataset], name, tables["task_rows"])
        rows.append(
            Measured(
                **_what(manifests[dataset], name, key, recipe),
                **measures.of_row(sources, key, manifests[dataset], name, groups[key[0]]),
                difference=gaps.get(key),
                leakage=Leakage(
                    **vars(counts[key[:2]]),
                    near_reason=near["reason"],
                    pretraining=pretraining.words(recipe, dataset),
                ),
                reason=score.reason,
                certificate=(check or {"certificates": {}})["certificates"].get(" ".join(key[:2])),
            )
        )
    progress(f"{len(rows)} scores compared with those before alignment")
    rows += _absent(tables["task_notes"], {(r.task, r.variant) for r in rows}, manifests, recipe)
    judged: list[Row] = []
    for row in rows:
        row = row.model_copy(update={"flags": verdicts.flags(row)})
        judged.append(Row(**dict(row), verdict=verdicts.decide(row)))
    return Results(
        schema=results_schema.VERSION,
        run=_run(settings, recipe, at.run),
        summary=measures.summary(sources, manifests),
        flags=verdicts.FLAGS,
        rows=judged,
        beyond=_read(at.run / "beyond.json"),
    )


def facts(results: Results) -> dict[str, Any]:
    """Counts that fit into a log."""
    clean = [r for r in results.rows if r.variant == task_rows.CLEAN]
    gap = results.summary.difference
    marks = [r.verdict.mark for r in results.rows]
    return {
        "rows": len(results.rows),
        **{mark: marks.count(mark) for mark in ("ok", "warn", "bad", "none")},
        "mean_difference": gap and [gap.value, gap.low, gap.high],
        "bad_on_clean_splits": {
            f"{r.task} {r.protocol} {r.head}": r.verdict.words
            for r in clean
            if r.verdict.mark == "bad"
        },
        "leakage_on_clean_splits": {r.task: said for r in clean if (said := _leaks(r))},
    }


def _leaks(row: Row) -> dict[str, int]:
    counted = {n: getattr(row.leakage, n) for n in leakage.COUNTED}
    return {n: number for n, number in counted.items() if number}


def _what(manifest: Manifest, name: str, key: Key, recipe: Recipe) -> dict[str, Any]:
    task = manifest.evaluation_task(name)
    return {
        "task": task.id,
        "title": task.title,
        "dataset": manifest.id,
        "kind": task.kind,
        "unit": task.unit,
        "metric": task.metric,
        "variant": key[1],
        "protocol": key[2],
        "head": key[3],
        "regime": recipe.regime,
        "class_names": list(task.classes) if task.kind != "regression" else [],
    }


def _groups(
    corpus: layout.Corpus, manifest: Manifest, name: str, rows: Sequence[Mapping[str, Any]]
) -> dict[str, unit_groups.Values]:
    task = manifest.tasks[name]
    of_case = task.aggregate == "case"
    unit_of = {
        r["recording_id"]: r["case_id"] if of_case else r["recording_id"]
        for r in rows
        if r["task"] == f"{manifest.id}/{name}"
    }
    recordings = store.read_rows(corpus.dataset(manifest.id).recordings, unit_groups.COLUMNS)
    return unit_groups.of_units(manifest, name, recordings, unit_of)


def _absent(
    notes: Sequence[Mapping[str, Any]],
    there: set[tuple[str, str]],
    manifests: Mapping[str, Manifest],
    recipe: Recipe,
) -> list[Measured]:
    """Tasks and variants without rows, with what is missing."""
    found: list[Measured] = []
    for note in notes:
        dataset, _, name = note["task"].partition("/")
        if note["note"] != task_rows.NOT_RUN or (note["task"], note["variant"]) in there:
            continue
        if dataset not in manifests or name not in manifests[dataset].tasks:
            continue
        key = (note["task"], note["variant"], "default", "linear")
        nobody = leakage.Counts(
            shared_persons=0, aligned_persons=0, heard_persons=0, near_duplicates=None
        )
        found.append(
            Measured(
                **_what(manifests[dataset], name, key, recipe),
                **measures.NOTHING,
                difference=None,
                floors=Floors(**dict.fromkeys(Floors.model_fields)),
                leakage=Leakage(
                    **vars(nobody),
                    near_reason="the task was not run",
                    pretraining=pretraining.words(recipe, dataset),
                ),
                reason=note["reason"],
                certificate=None,
            )
        )
    return found


def _run(settings: Settings, recipe: Recipe, place: Path) -> Run:
    known = json.loads((place / "stamp.json").read_text())["facts"]
    return Run(
        name=place.name,
        recipe=recipe.name,
        regime=recipe.regime,
        encoder=recipe.encoder,
        teacher=recipe.teacher,
        best_epoch=known.get("best_epoch"),
        made_up=made_up(settings),
        weights=recipe.weights or "random start",
        draws=intervals.DRAWS,
    )


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
