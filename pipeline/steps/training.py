"""shards + teacher vectors + task rows -> floors, aligned encoder and its probe scores."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import acula_model
from acula_model import checkpoint, encoders, features, hub, mels, probe
from acula_model.recipes import Recipe
from acula_model.training import job, ranks
from acula_model.training.model import Aligner
from pipeline import findings
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import card, embeddings, layout, pairs, score_files, shortcuts, store

Progress = Callable[[str], None]


def baseline(
    settings: Settings,
    recipe: Recipe,
    manifests: Mapping[str, Manifest],
    progress: Progress = print,
) -> store.Outcome:
    """Probe the encoder as it is before alignment, and metadata that hear no sound."""
    corpus = layout.Corpus(settings.data_root)
    inputs = _inputs(corpus, manifests, settings) | {
        "encoder": _encoder(recipe),
        "shortcuts": store.code_version(shortcuts),
    }
    place = baseline_folder(settings, recipe)

    def work() -> tuple[str, dict[str, Any]]:
        rows = _probed(_table(corpus, "task_rows"), settings)
        by_case = _by_case(settings, manifests)
        model = Aligner(recipe, text_width=1).encoder
        windows = mels.load(corpus.shards, corpus.mels, model.front_end, progress)
        _probe(model, windows, rows, by_case, place / "encoder")
        heard_nothing = shortcuts.features(
            _table(corpus, "pairs"), _findings(corpus, settings), manifests
        )
        score_files.write(place / "shortcut", *probe.run(heard_nothing, rows, by_case))
        facts = _summary(place / "encoder")
        return store.digest([facts, _summary(place / "shortcut")]), facts

    outputs = [place / kind / "scores.parquet" for kind in ("encoder", "shortcut")]
    return store.cached(place / "stamp.json", inputs, outputs, work)


def baseline_folder(settings: Settings, recipe: Recipe) -> Path:
    """``baseline_scores/<hash>`` of the encoder that the recipe starts from."""
    return layout.Corpus(settings.data_root).baselines / store.digest(_encoder(recipe))


def run_folder(settings: Settings, recipe: Recipe, manifests: Mapping[str, Manifest]) -> Path:
    """``runs/<recipe>-<hash>`` for the present inputs."""
    corpus = layout.Corpus(settings.data_root)
    key = store.digest(_training_inputs(corpus, settings, recipe, manifests))
    return corpus.runs / f"{recipe.name}-{key[:8]}"


def align(
    settings: Settings,
    recipe: Recipe,
    manifests: Mapping[str, Manifest],
    progress: Progress = print,
    launch: job.Launch = job.start,
) -> store.Outcome:
    """Align the encoder in processes of its own, then probe it; a killed run goes on.

    Args:
        settings: Where everything lies, and how many processes train.
        recipe: What to do.
        manifests: Of the datasets of this run.
        progress: Called with a line now and then.
        launch: Runs the training command and waits for it.

    Raises:
        LeakageError: A person of the alignment set is held out by a task.
        FileNotFoundError: Something upstream has not been made; names the command.
        TrainingError: Training failed; says why.
    """
    corpus = layout.Corpus(settings.data_root)
    inputs = _training_inputs(corpus, settings, recipe, manifests)
    place = run_folder(settings, recipe, manifests)

    def work() -> tuple[str, dict[str, Any]]:
        rows, tasks = _table(corpus, "pairs"), _table(corpus, "task_rows")
        pairs.assert_no_leakage(rows, tasks)
        front_end = encoders.build(recipe.encoder, **recipe.encoder_config).front_end
        windows = mels.load(corpus.shards, corpus.mels, front_end, progress)
        result = job.run(
            job.Job(
                recipe=recipe,
                folder=place,
                shards=corpus.shards,
                mels=corpus.mels,
                vectors=embeddings.table(settings, recipe),
                aligned=[r["pair_id"] for r in rows if r["align"]],
                gauge=embeddings.gauge_pairs(rows, tasks),
                only_heard=_only_heard(recipe, rows),
                about={"teacher": embeddings.teacher(settings, recipe)},
                teacher=embeddings.state(settings, recipe),
                key=store.digest(inputs),
                trackers=settings.trackers,
                parent=job.this_process(),
            ),
            settings.train_processes or job.devices(),
            launch,
        )
        store.write_json(place / "history.json", result.history)
        encoder = checkpoint.load(result.folder).encoder
        _probe(encoder, windows, tasks, _by_case(settings, manifests), place / "scores")
        before = baseline_folder(settings, recipe)
        made_up = any(settings.archive_of(d) == "sample" for d in settings.alignment)
        card.write(result.folder, rows, manifests, place / "scores", before, made_up)
        facts = _summary(place / "scores") | {
            "run": place.name,
            "best_epoch": result.best_epoch,
            "held_out_cka": result.history[result.best_epoch - 1]["held_out_cka"],
            "epochs": len(result.history),
        }
        return store.digest(facts), facts

    outputs = [place / "scores" / "scores.parquet", place / "checkpoint"]
    return store.cached(place / "stamp.json", inputs, outputs, work)


def _only_heard(recipe: Recipe, rows: list[dict[str, Any]]) -> list[str]:
    """Test persons' sounds, without their reports, in the transductive regime and no other."""
    if recipe.regime != "transductive":
        return []
    return [r["pair_id"] for r in rows if r["split"] == "test"]


def _encoder(recipe: Recipe) -> list[Any]:
    content = None
    if recipe.weights and Path(recipe.weights).exists():
        stat = Path(recipe.weights).stat()
        content = [stat.st_size, stat.st_mtime_ns]
    elif recipe.weights and hub.parse(recipe.weights) is None:
        raise FileNotFoundError(
            f"recipe {recipe.name} starts from {recipe.weights}, which is missing: put the "
            "published OPERA-GT checkpoint (encoder-operaGT.ckpt) there"
        )
    return [recipe.encoder, recipe.encoder_config, recipe.weights, content, recipe.seed]


def code() -> str:
    """Version of everything that decides a score, given its inputs."""
    return store.package_version(
        acula_model, embeddings, findings, pairs, score_files, shortcuts, sys.modules[__name__]
    )


def _inputs(
    corpus: layout.Corpus, manifests: Mapping[str, Manifest], settings: Settings
) -> dict[str, Any]:
    shards = store.version_at(corpus.stamp("shards"))
    made_of = json.loads(corpus.stamp("subjects").read_text())["inputs"]["recordings"]
    if set(made_of) != set(settings.evaluated):
        raise ValueError(
            f"the shards were made of {', '.join(sorted(made_of))}, the settings name "
            f"{', '.join(settings.evaluated)}: run `dagster asset materialize --select "
            "'*train_alignment'` first"
        )
    return {
        "shards": shards,
        "subjects": store.version_at(corpus.stamp("subjects")),
        "by_case": _by_case(settings, manifests),
        "code": code(),
    }


def _training_inputs(
    corpus: layout.Corpus, settings: Settings, recipe: Recipe, manifests: Mapping[str, Manifest]
) -> dict[str, Any]:
    return _inputs(corpus, manifests, settings) | {
        "recipe": recipe.key,
        "encoder": _encoder(recipe),
        "vectors": store.version_at(embeddings.folder(settings, recipe) / "stamp.json"),
    }


def _probed(task_rows: list[dict[str, Any]], settings: Settings) -> list[dict[str, Any]]:
    """Rows of the tasks whose recordings are in the shards; all of them are binary."""
    return [r for r in task_rows if r["task"].partition("/")[0] in settings.alignment]


def _by_case(settings: Settings, manifests: Mapping[str, Manifest]) -> list[str]:
    return [
        f"{d}/{name}"
        for d in settings.alignment
        for name, task in manifests[d].tasks.items()
        if task.aggregate == "case"
    ]


def _table(corpus: layout.Corpus, name: str) -> list[dict[str, Any]]:
    return store.read_table(corpus.table(name)).to_pylist()


def _findings(corpus: layout.Corpus, settings: Settings) -> dict[str, Any]:
    """recording id -> findings, of every recording."""
    found: dict[str, Any] = {}
    for dataset in settings.alignment:
        path = corpus.dataset(dataset).recordings
        for row in store.read_table(path, ["recording_id", "findings"]).to_pylist():
            found[row["recording_id"]] = json.loads(row["findings"])
    return found


def _probe(
    encoder: Any,
    windows: mels.Mels,
    task_rows: list[dict[str, Any]],
    by_case: list[str],
    place: Path,
) -> None:
    wanted = {r["recording_id"] for r in task_rows}
    ids = [i for i, m in windows.meta.items() if m["recording_id"] in wanted]
    vectors = features.embed(encoder.to(ranks.pick("auto")), windows, ids)
    found = {windows.meta[i]["recording_id"]: v for i, v in vectors.items()}
    place.mkdir(parents=True, exist_ok=True)
    np.savez(
        place / "embeddings.npz",
        ids=np.array(list(found)),
        vectors=np.stack(list(found.values())),
        about=np.array(json.dumps(encoder.description)),  # weights, front end, window policy
    )
    score_files.write(place, *probe.run(found, task_rows, by_case))


def _summary(place: Path) -> dict[str, Any]:
    scores = pd.read_parquet(place / "scores.parquet")
    clean = scores[(scores["variant"] == "subject_clean") & scores["auroc"].notna()]
    return {
        "mean_auroc": round(float(clean["auroc"].mean()), 4) if len(clean) else None,
        "tasks_run": len(clean),
        "auroc": {
            t: round(float(a), 4) for t, a in zip(clean["task"], clean["auroc"], strict=True)
        },
        "not_run": {f"{r.task} {r.variant}": r.reason for r in scores.itertuples() if r.reason},
    }
