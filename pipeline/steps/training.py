"""shards + teacher vectors + task rows -> floors, aligned encoder and its probe scores."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import acula_model
from acula_model import checkpoint, encoders, hub, mels
from acula_model.recipes import Recipe
from acula_model.training import job
from acula_model.training.model import Aligner
from pipeline import findings
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import card, embeddings, layout, pairs, probing, remote, shortcuts, store

Progress = Callable[[str], None]
# Of acula_model, what no weight depends on: a new score must not train again.
_AFTER_TRAINING = ("evaluation/", "cli.py", "model.py", "model_card.py", "embedding.py")


def baseline(
    settings: Settings,
    recipe: Recipe,
    manifests: Mapping[str, Manifest],
    progress: Progress = print,
) -> store.Outcome:
    """Probe the encoder as it is before alignment, and metadata that hear no sound."""
    corpus = layout.Corpus(settings.data_root)
    inputs = _scored(corpus, manifests, settings) | {
        "encoder": _encoder(recipe),
        "code": [weights_code(), probing.code(), store.code_version(shortcuts, findings)],
    }
    place = baseline_folder(settings, recipe)

    def work() -> tuple[str, dict[str, Any]]:
        model = Aligner(recipe, text_width=1).encoder
        at = place / "encoder"
        facts = probing.probe(settings, manifests, model, place.name, at, progress)
        floor = shortcuts.score(settings, manifests, place / "shortcut", progress)
        return store.digest([facts, floor]), facts

    outputs = [place / kind / "scores.parquet" for kind in ("encoder", "shortcut")]
    return store.cached(place / "stamp.json", inputs, outputs, work)


def baseline_folder(settings: Settings, recipe: Recipe) -> Path:
    """``baseline_scores/<hash>`` of the encoder that the recipe starts from, and of its code.

    Embeddings are kept under this name, so other code must not find them.
    """
    key = store.digest([_encoder(recipe), weights_code()])
    return layout.Corpus(settings.data_root).baselines / key


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
    launch: job.Launch | None = None,
) -> store.Outcome:
    """Align the encoder in processes of its own, then probe it; a killed run goes on.

    Args:
        settings: Where everything lies, and how many processes train.
        recipe: What to do.
        manifests: Of the datasets of this run.
        progress: Called with a line now and then.
        launch: Runs the training command and waits for it; a plain child if not given.

    Raises:
        LeakageError: A person of the alignment set is held out by a task.
        FileNotFoundError: Something upstream has not been made; names the command.
        TrainingError: Training failed; says why.
    """
    corpus = layout.Corpus(settings.data_root)
    place = run_folder(settings, recipe, manifests)
    trained = _train(settings, recipe, manifests, place, progress, launch)
    inputs = _scored(corpus, manifests, settings) | {
        "trained": trained.version,
        "code": [probing.code(), store.code_version(card)],
    }

    def work() -> tuple[str, dict[str, Any]]:
        encoder = checkpoint.load(place / "checkpoint").encoder
        at = place / "scores"
        found = probing.probe(settings, manifests, encoder, place.name, at, progress)
        before = baseline_folder(settings, recipe)
        made_up = any(settings.archive_of(d) == "sample" for d in settings.alignment)
        rows = store.read_rows(corpus.table("pairs"), ["dataset", "align"])
        card.write(place / "checkpoint", rows, manifests, place / "scores", before, made_up)
        facts = found | trained.facts
        return store.digest(facts), facts

    outputs = [place / "scores" / "scores.parquet", place / "checkpoint"]
    return store.cached(place / "stamp.json", inputs, outputs, work)


def _train(
    settings: Settings,
    recipe: Recipe,
    manifests: Mapping[str, Manifest],
    place: Path,
    progress: Progress,
    launch: job.Launch | None,
) -> store.Outcome:
    corpus = layout.Corpus(settings.data_root)
    inputs = _training_inputs(corpus, settings, recipe, manifests)

    def work() -> tuple[str, dict[str, Any]]:
        columns = ["pair_id", "person_id", "split", "align"]  # no texts: they may be many
        rows = store.read_table(corpus.table("pairs"), columns).to_pylist()
        tasks = store.read_table(corpus.table("task_rows"), pairs.HELD_OUT).to_pylist()
        pairs.assert_no_leakage(rows, tasks)
        front_end = encoders.build(recipe.encoder, **recipe.encoder_config).front_end
        remote.need(corpus.shards, say=progress)
        mels.load(corpus.shards, corpus.mels, front_end, progress)
        result = job.run(
            job.Job(
                recipe=recipe,
                folder=place,
                shards=corpus.shards,
                mels=corpus.mels,
                vectors=embeddings.table(settings, recipe),
                vectors_digest=embeddings.version(settings, recipe),
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
            progress,
        )
        store.write_json(place / "history.json", result.history)
        config = json.loads((result.folder / checkpoint.CONFIG).read_text())
        return config["sha256"][:16], {
            "run": place.name,
            "best_epoch": result.best_epoch,
            "held_out_cka": result.history[result.best_epoch - 1]["held_out_cka"],
            "epochs": len(result.history),
        }

    outputs = [place / "checkpoint", place / "history.json"]
    return store.cached(place / "trained.json", inputs, outputs, work)


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


def weights_code() -> str:
    """Version of everything that decides weights and embeddings, given their inputs."""
    return store.package_version(
        acula_model, embeddings, pairs, sys.modules[__name__], without=_AFTER_TRAINING
    )


def _scored(
    corpus: layout.Corpus, manifests: Mapping[str, Manifest], settings: Settings
) -> dict[str, Any]:
    """What scores depend on besides the encoder."""
    versions = {name: store.version_at(corpus.stamp(name)) for name in ("shards", "subjects")}
    made_of = store.stamped(corpus.stamp("subjects"))["inputs"]["recordings"]
    if set(made_of) != set(settings.evaluated):
        raise ValueError(
            f"the tasks were made of {', '.join(sorted(made_of))}, the settings name "
            f"{', '.join(settings.evaluated)}: run `dagster asset materialize --select "
            "'*train_alignment'` first"
        )
    return versions | {
        "tasks": {t: repr(task) for t, task in probing.tasks(manifests).items()},
        "heads": settings.heads,
    }


def _training_inputs(
    corpus: layout.Corpus, settings: Settings, recipe: Recipe, manifests: Mapping[str, Manifest]
) -> dict[str, Any]:
    _scored(corpus, manifests, settings)  # the same refusal of other datasets
    return {
        "shards": store.version_at(corpus.stamp("shards")),
        "subjects": store.version_at(corpus.stamp("subjects")),
        "recipe": recipe.key,
        "encoder": _encoder(recipe),
        "vectors": embeddings.version(settings, recipe),
        "code": weights_code(),
    }
