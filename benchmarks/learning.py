"""Does alignment learn which report belongs to which sound? A table over arms and seeds.

On a fresh sample corpus (a seed that nothing was tuned on) and the tasks declared in the
manifests, each arm trains the sample recipe from several seeds and is probed:

    before            the encoder as initialised
    masked_only       masked modelling alone
    shuffled_reports  alignment with reports shuffled within dataset and modality
    random_text       a random vector for every report in place of the teacher's
    bag_of_words      which words occur, in place of the teacher's
    release_cov       the published release's loss, which ignores the pairing
    infonce           the contrastive loss with several positives
    two_passes        a clean pass for the alignment beside the masked one
    aligned           debiased CKA with the true reports: the recipe as it is

Printed: mean AUROC of each arm, and aligned minus each other arm with the 95 % interval of
the difference, paired over test persons (the same persons are drawn for both arms).

    python -m benchmarks.learning --corpus-seed 7 --seeds 3 --data /tmp/learning
"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from acula_model import encoders, mels, recipes
from acula_model.evaluation import examples
from acula_model.evaluation.intervals import Scored, mean_difference
from acula_model.evaluation.protocols import default
from acula_model.evaluation.task import Task
from acula_model.front_end import FrontEnd
from acula_model.recipes import Recipe
from pipeline import pool
from pipeline import settings as configuration
from pipeline.manifest import load_all
from pipeline.steps import archive, layout, pairs, recordings, report_table, shards, store, subjects

ARMS = (
    "before",
    "masked_only",
    "shuffled_reports",
    "random_text",
    "bag_of_words",
    "release_cov",
    "infonce",
    "two_passes",
    "aligned",
)
# The same question asked of fewer recordings of a dataset: once in a mean is enough.
ASKED_AGAIN = ("icbhi/copd_meditron", "zchsound/symptomatic_clean", "zchsound/symptomatic_noise")


def arm_recipe(arm: str, seed: int, base: str = "sample", epochs: int | None = None) -> Recipe:
    """The recipe of an arm, which is a change of the sample recipe."""
    changed = arm if arm in recipes.CHANGES else ""
    recipe = recipes.named(f"{base}+{changed}" if changed else base)
    epochs = recipe.epochs if epochs is None else epochs
    return dataclasses.replace(recipe, seed=seed, epochs=epochs, name=f"{arm}-{seed}")


def corpus(
    data_root: Path, seed: int, scale: float, arms: Sequence[str] = ARMS
) -> configuration.Settings:
    """Make the sample corpus up to shards, spectra and teacher vectors; returns its settings."""
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
    for recipe in {r.teacher: r for r in (arm_recipe(arm, 0) for arm in arms)}.values():
        embeddings.embed(settings, recipe)
    place, front_end = layout.Corpus(data_root), encoders.build(recipes.SAMPLE.encoder).front_end
    mels.load(place.shards, place.mels, front_end)  # once, not by every worker
    return settings


@functools.cache
def corpus_of(data_root: Path, front_end: FrontEnd) -> tuple[mels.Mels, list[dict[str, Any]]]:
    """Spectra and pairs, opened once by a worker for all its arms."""
    place = layout.Corpus(data_root)
    rows = store.read_table(place.table("pairs")).to_pylist()
    return mels.load(place.shards, place.mels, front_end), rows


def train_arm(
    arm: str, seed: int, settings: configuration.Settings, base: str, epochs: int | None = None
) -> tuple[str, int, dict[str, Scored]]:
    """Train and probe one arm from one seed; runs in a worker with one thread."""
    import torch

    from acula_model import checkpoint, features
    from acula_model.teachers import vectors
    from acula_model.training import loop
    from acula_model.training.model import Aligner
    from pipeline.steps import embeddings, probing, training

    torch.set_num_threads(1)
    place = layout.Corpus(settings.data_root)
    everything = probing.task_rows(settings)
    tasks = [
        t
        for t in everything
        if t["variant"] == "subject_clean"
        and t["task"].partition("/")[0] in settings.alignment
        and t["task"] not in ASKED_AGAIN
    ]
    recipe = arm_recipe(arm, seed, base, epochs)
    model = Aligner(recipe, text_width=1).encoder
    source, rows = corpus_of(settings.data_root, model.front_end)
    if arm != "before":
        made_of = [recipe.key, store.version_at(place.stamp("shards")), training.weights_code()]
        given = loop.Given(
            source=source,
            vectors=vectors.read(embeddings.table(settings, recipe))[0],
            aligned=[r["pair_id"] for r in rows if r["align"]],
            gauge=embeddings.gauge_pairs(rows, everything),
        )
        result = loop.align(
            recipe,
            given,
            settings.data_root / "arms" / f"{recipe.name}-{store.digest(made_of)}",
            lambda line: print(arm, seed, line),  # noqa: T201
        )
        model = checkpoint.load(result.folder).encoder
    wanted = {t["recording_id"] for t in tasks}
    ids = [i for i, m in source.meta.items() if m["recording_id"] in wanted]
    found = {
        source.meta[i]["recording_id"]: v for i, v in features.embed(model, source, ids).items()
    }
    declared = probing.tasks({d: load_all()[d] for d in settings.alignment})
    by_task: dict[str, list[dict[str, Any]]] = {}
    for row in tasks:
        by_task.setdefault(row["task"], []).append(row)
    return arm, seed, {t: probed(declared[t], own, found) for t, own in sorted(by_task.items())}


def probed(task: Task, rows: list[dict[str, Any]], found: examples.Features) -> Scored:
    """The default protocol's head on the test side; its floors and intervals are not asked for."""
    given = examples.gather(task, rows, found)
    examples.check_size(given)
    outcome = default.run(given, shuffles=0)
    at_U, said_SUC = examples.per_unit(given, outcome.rows, outcome.outputs)
    return Scored(
        outputs=said_SUC[0, :, 1],
        labels=given.labels[at_U],
        persons=given.persons[at_U].tolist(),
    )


def table(
    data_root: Path,
    corpus_seed: int,
    seeds: int,
    scale: float,
    arms: Sequence[str] = ARMS,
    base: str = "sample",
    epochs: int | None = None,
    once: Sequence[str] = (),
) -> dict[str, Any]:
    """Make the corpus, train the arms, compare ``aligned`` with each other one.

    Args:
        data_root: Gets the corpus and the runs.
        corpus_seed: Of the sample archives.
        seeds: Runs of an arm.
        scale: Size of the sample archives.
        arms: Which ones; ``aligned`` must be among them.
        base: Recipe that the arms change.
        epochs: Of every arm; the recipe's if not given.
        once: Arms with one run, compared with the run of ``aligned`` from the same seed.
    """
    settings = corpus(data_root, corpus_seed, scale, arms)
    jobs = [
        (arm, seed, settings, base, epochs)
        for seed in range(seeds)
        for arm in reversed(arms)
        if seed == 0 or arm not in once
    ]
    found: dict[str, dict[str, list[Scored]]] = {arm: {} for arm in arms}
    for arm, _, scored in sorted(pool.run(train_arm, jobs), key=lambda r: r[:2]):
        for task, score in scored.items():
            found[arm].setdefault(task, []).append(score)
    tasks = sorted(found["aligned"])
    auroc = {
        arm: {t: float(np.mean([s.value for s in found[arm][t]])) for t in tasks} for arm in arms
    }
    return {
        "tasks": tasks,
        "mean_auroc": {arm: round(float(np.mean(list(v.values()))), 4) for arm, v in auroc.items()},
        "auroc": {t: {arm: round(auroc[arm][t], 3) for arm in arms} for t in tasks},
        "aligned_minus": {
            arm: dataclasses.asdict(mean_difference(_first(found["aligned"], own), own))
            for arm, own in found.items()
            if arm != "aligned"
        },
    }


def _first(
    ours: dict[str, list[Scored]], other: dict[str, list[Scored]]
) -> dict[str, list[Scored]]:
    """As many runs of each task as the other has."""
    return {task: runs[: len(other[task])] for task, runs in ours.items()}


def show(result: dict[str, Any]) -> str:
    """The table as text."""
    arms = list(result["mean_auroc"])
    width = 2 + max(map(len, arms))
    lines = [f"{'task':28}" + "".join(f"{arm:>{width}}" for arm in arms)]
    lines += [
        f"{task:28}" + "".join(f"{row[arm]:{width}.3f}" for arm in arms)
        for task, row in result["auroc"].items()
    ]
    means = result["mean_auroc"]
    lines.append(f"{'mean':28}" + "".join(f"{means[arm]:{width}.3f}" for arm in arms))
    lines += [
        f"aligned - {arm:16} {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]"
        for arm, d in result["aligned_minus"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus-seed", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=2.0)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--base", default="sample", help="recipe that the arms change")
    parser.add_argument("--epochs", type=int, help="of every arm; the recipe's if not given")
    given = parser.parse_args()
    made = table(
        given.data, given.corpus_seed, given.seeds, given.scale, given.arms, given.base,
        given.epochs,
    )  # fmt: skip
    print(show(made))  # noqa: T201
    (given.data / "learning.json").write_text(json.dumps(made, indent=1))
