"""Does alignment learn which report belongs to which sound? A table over arms and seeds.

On a fresh sample corpus (a seed that nothing was tuned on) and the tasks declared in the
manifests, each arm trains the demo recipe from several seeds and is probed:

    before     the encoder as initialised
    masked     masked modelling alone
    shuffled   alignment with reports shuffled within dataset and modality
    aligned    alignment with the true reports

Printed: mean AUROC of each arm, and aligned minus each other arm with the 95 % interval of
the difference, paired over test persons (the same persons are drawn for both arms).

    python -m benchmarks.learning --corpus-seed 7 --seeds 3 --data /tmp/learning
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from acula_model import metrics
from acula_model.recipes import SAMPLE, Recipe
from pipeline import pool
from pipeline import settings as configuration
from pipeline.manifest import load_all
from pipeline.steps import archive, layout, pairs, recordings, report_table, shards, store, subjects

ARMS = ("before", "masked", "shuffled", "aligned")


def corpus(data_root: Path, seed: int, scale: float) -> configuration.Settings:
    """Make the sample corpus up to shards and teacher vectors; returns its settings."""
    from pipeline.steps import embeddings

    manifests = load_all()
    settings = configuration.load(
        data_root=data_root,
        archives="sample",
        sample_seed=seed,
        sample_scale=scale,
        datasets=[d for d, m in manifests.items() if m.use == "alignment"],
    )
    for dataset in settings.alignment:
        archive.obtain(manifests[dataset], settings)
        recordings.prepare(manifests[dataset], settings)
        report_table.make(manifests[dataset], settings)
    subjects.decide(settings, manifests)
    pairs.join(settings)
    shards.write(settings, manifests)
    embeddings.embed(settings, SAMPLE)
    return settings


def arm_recipe(arm: str, seed: int) -> Recipe:
    """The demo recipe, changed for one arm."""
    changes: dict[str, Any] = {
        "before": {"epochs": 0},
        "masked": {"alignment_weight": 0.0},
        "shuffled": {"shuffle_reports": True},
        "aligned": {},
    }[arm]
    return dataclasses.replace(SAMPLE, seed=seed, name=f"{arm}-{seed}", **changes)


def train_arm(arm: str, seed: int, settings: configuration.Settings) -> tuple[str, int, list[Any]]:
    """Train and probe one arm from one seed; runs in a worker with one thread."""
    import torch

    from acula_model import features, mels, probe, train
    from pipeline.steps import embeddings, training

    torch.set_num_threads(1)
    place = layout.Corpus(settings.data_root)
    rows = store.read_table(place.table("pairs")).to_pylist()
    tasks = [
        t
        for t in store.read_table(place.table("task_rows")).to_pylist()
        if t["variant"] == "subject_clean"
    ]
    recipe = arm_recipe(arm, seed)
    model = train.Aligner(recipe, text_width=1).encoder
    windows = mels.load(place.shards, place.mels, model.front_end)
    if recipe.epochs:
        made_of = [recipe.key, store.version_at(place.stamp("shards")), training.code()]
        folder = settings.data_root / "arms" / f"{recipe.name}-{store.digest(made_of)}"
        result = train.align(
            recipe,
            windows,
            embeddings.load(settings, SAMPLE),
            [r["pair_id"] for r in rows if r["align"]],
            embeddings.gauge_pairs(rows, tasks),
            folder,
            lambda line: print(arm, seed, line),  # noqa: T201
        )
        model = train.checkpoint.load(result.folder).encoder
    wanted = {t["recording_id"] for t in tasks}
    ids = [i for i, m in windows.meta.items() if m["recording_id"] in wanted]
    vectors = features.embed(model, windows, ids)
    found = {windows.meta[i]["recording_id"]: v for i, v in vectors.items()}
    by_case = [
        f"{d}/{n}"
        for d, m in load_all().items()
        for n, t in m.tasks.items()
        if t.aggregate == "case"
    ]
    _, predictions = probe.run(found, tasks, by_case)
    return arm, seed, predictions


def scored(predictions: list[Any]) -> dict[str, metrics.Scored]:
    """Task -> scores of one arm and seed."""
    by_task: dict[str, list[Any]] = {}
    for p in predictions:
        by_task.setdefault(p.task, []).append(p)
    return {
        task: metrics.Scored(
            scores=np.array([p.score for p in own]),
            labels=np.array([p.label for p in own]),
            persons=[p.person_id for p in own],
        )
        for task, own in sorted(by_task.items())
    }


def table(
    data_root: Path, corpus_seed: int, seeds: int, scale: float, arms: Sequence[str] = ARMS
) -> dict[str, Any]:
    """Make the corpus, train the arms, compare ``aligned`` with each other one."""
    settings = corpus(data_root, corpus_seed, scale)
    jobs = [(arm, seed, settings) for seed in range(seeds) for arm in reversed(arms)]
    found: dict[str, dict[str, list[metrics.Scored]]] = {arm: {} for arm in arms}
    for arm, _, predictions in sorted(pool.run(train_arm, jobs), key=lambda r: r[:2]):
        for task, score in scored(predictions).items():
            found[arm].setdefault(task, []).append(score)
    tasks = sorted(found["aligned"])
    mean_of = {
        arm: {
            t: float(np.mean([metrics.auroc_interval(s, draws=1).value for s in found[arm][t]]))
            for t in tasks
        }
        for arm in arms
    }
    return {
        "tasks": tasks,
        "mean_auroc": {
            arm: round(float(np.mean(list(v.values()))), 4) for arm, v in mean_of.items()
        },
        "auroc": {t: {arm: round(mean_of[arm][t], 3) for arm in arms} for t in tasks},
        "aligned_minus": {
            arm: dataclasses.asdict(metrics.mean_difference(found["aligned"], found[arm]))
            for arm in arms
            if arm != "aligned"
        },
    }


def show(result: dict[str, Any]) -> str:
    """The table as text."""
    arms = list(result["mean_auroc"])
    lines = [f"{'task':28}" + "".join(f"{arm:>10}" for arm in arms)]
    lines += [
        f"{task:28}" + "".join(f"{row[arm]:10.3f}" for arm in arms)
        for task, row in result["auroc"].items()
    ]
    lines.append(f"{'mean':28}" + "".join(f"{result['mean_auroc'][arm]:10.3f}" for arm in arms))
    lines += [
        f"aligned - {arm:9} {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]"
        for arm, d in result["aligned_minus"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus-seed", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=2.0)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    made = table(arguments.data, arguments.corpus_seed, arguments.seeds, arguments.scale)
    print(show(made))  # noqa: T201
    (arguments.data / "learning.json").write_text(json.dumps(made, indent=1))
