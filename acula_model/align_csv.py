"""A csv of sounds and reports -> an aligned encoder: what the AcuLa release's script does.

Its users keep their file and their options. What differs is said in README.md: the loss sees the
pairing, the teacher runs once per report, and no line is dropped without a word.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from acula_model import csv_pairs
from acula_model.recipes import Recipe
from acula_model.training import start
from acula_model.training.loop import Result
from acula_model.training.trackers import TrackerName

QUEUE = 512  # pairs
# The release's names of encoders -> ours; all others are the same.
BACKBONES = {"operaGT": "opera_gt", "operaCT": "opera_ct", "operaCE": "opera_ce"}


def recipe(
    *,
    audio_backbone: str,
    audio_ckpt: str | None,
    teacher: str,
    llm_type: str,
    alignment_layer: int,
    max_text_length: int,
    epochs: int,
    batch_size: int,
    grad_accum_steps: int,
    lr: float,
    weight_decay: float,
    lambda_align: float,
    lambda_mam: float,
    alignment_loss: str,
    seed: int,
) -> Recipe:
    """The release's options as a recipe.

    A sum of gradients cannot show an alignment loss the pairs of two batches together, and CKA of
    few pairs is noise: a queue shows every batch 512 pairs at least. The release's own loss stays
    as it was.
    """
    config = {}
    if teacher == "hugging_face":
        config = {"model": llm_type, "layer": alignment_layer, "max_tokens": max_text_length}
    elif teacher == "sentence":
        config = {"model": llm_type}
    return Recipe(
        name="csv",
        encoder=BACKBONES.get(audio_backbone, audio_backbone),
        weights=audio_ckpt,
        teacher=teacher,
        teacher_config=config,
        alignment_loss=alignment_loss,
        alignment_weight=lambda_align,
        masked_weight=lambda_mam,
        projection=(1024, 512),
        epochs=epochs,
        batch_size=batch_size * grad_accum_steps,
        micro_batch=batch_size,
        queue=0 if alignment_loss == "release_cov" else QUEUE,
        learning_rate=lr,
        weight_decay=weight_decay,
        seed=seed,
    )


def align(
    csv: Path,
    recipe: Recipe,
    folder: Path,
    warmup_steps: int,
    progress: Callable[[str], None] = print,
    processes: int | None = None,
    trackers: Sequence[TrackerName] = (),
) -> Result:
    """Train on a csv; a killed run goes on where it stopped.

    Args:
        csv: See ``csv_pairs``.
        recipe: From ``recipe``; its ``warmup`` is replaced.
        folder: Gets shards, teacher vectors, ``refused.csv`` and ``run-<hash>/checkpoint``.
        warmup_steps: Steps of rising learning rate.
        progress: Called with a line now and then.
        processes: That train; one per GPU, or one, if not given.
        trackers: Where else curves go.

    Raises:
        CsvError: The csv cannot be trained on.
        HubError: The Hub does not hand out the teacher.
        TrainingError: Too few pairs, or the loss is not a number.
        CheckpointError: The weights to start from are of another model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = csv_pairs.rows(csv)
    pairs = csv_pairs.write(lines, folder / "shards", progress)
    csv_pairs.write_refused(folder / "refused.csv", pairs.refused)
    progress(
        f"{len(pairs.learn)} pairs to learn from, {len(pairs.gauge)} to measure with, "
        f"{len(pairs.refused)} lines not used (refused.csv)"
    )
    if not pairs.gauge:
        progress(
            "no line has the split val: all are learned from, as in the release, and the last "
            "epoch is kept; see that no person you will test on is in the csv"
        )
    steps = max(1, round(len(pairs.learn) / recipe.batch_size)) * recipe.epochs
    recipe = replace(recipe, warmup=min(1.0, warmup_steps / steps))
    return start.run(folder / "shards", pairs, recipe, folder, progress, processes, trackers)
