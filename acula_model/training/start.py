"""Shards and a recipe -> teacher vectors, a job, an aligned encoder; no pipeline needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from acula_model import shards, teachers
from acula_model.recipes import Recipe
from acula_model.teachers import cache
from acula_model.teachers import vectors as tables
from acula_model.training import job
from acula_model.training.errors import TrainingError
from acula_model.training.loop import Result
from acula_model.training.trackers import TrackerName


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What there is to learn from.

    Attributes:
        learn: Pair ids to learn from.
        gauge: Pair ids that only measure.
        reports: Their reports, each once.
        learned: Hashes of the reports that are learned from; a fitted teacher sees no other.
    """

    learn: list[str]
    gauge: list[str]
    reports: list[teachers.Report]
    learned: frozenset[str]


def described(folder: Path, text: str) -> Pairs:
    """Pairs of shards that the pipeline wrote.

    Those marked ``align`` are learned from; those of validation measure. A shard does not say
    which validation persons a task tests, so checkpoints are chosen on all of them.

    Args:
        folder: WebDataset tars.
        text: ``full`` or ``strict``.

    Raises:
        FileNotFoundError: There are no tars.
        TrainingError: No pair is marked for alignment, or a pair has no report.
    """
    metas = [m for tar in shards.shards(folder) for m in shards.describe(tar)]
    learn = [m for m in metas if m.get("align")]
    gauge = [m for m in metas if m.get("split") == "val"]
    if not learn:
        raise TrainingError(f"none of the {len(metas)} pairs in {folder} is marked `align: true`")
    used = [*learn, *gauge]
    if bare := [m["pair_id"] for m in used if not m.get(f"{text}_text")]:
        raise TrainingError(f"{len(bare)} pairs have no `{text}_text`, such as {bare[0]}")
    reports = {
        m[f"{text}_hash"]: teachers.Report(
            m[f"{text}_hash"], m[f"{text}_text"], tuple(m.get(f"{text}_terms") or ())
        )
        for m in used
    }
    return Pairs(
        learn=[m["pair_id"] for m in learn],
        gauge=[m["pair_id"] for m in gauge],
        reports=[reports[h] for h in sorted(reports)],
        learned=frozenset(m[f"{text}_hash"] for m in learn),
    )


def run(
    place: Path,
    pairs: Pairs,
    recipe: Recipe,
    folder: Path,
    progress: Callable[[str], None] = print,
    processes: int | None = None,
    trackers: Sequence[TrackerName] = (),
    cached: bool = True,
) -> Result:
    """Embed the reports, then train in processes of its own; a killed run goes on.

    Args:
        place: WebDataset tars.
        pairs: Which of them, and their reports.
        recipe: What to do.
        folder: Gets teacher vectors, the cache of spectra and ``run-<hash>/checkpoint``.
        progress: Called with a line now and then.
        processes: That train; one per GPU, or one, if not given.
        trackers: Where else curves go.
        cached: Keep spectra on disk (0.23 GB an hour of sound); or decode as needed.

    Raises:
        HubError: The Hub does not hand out the teacher.
        TrainingError: Training failed; says why.
        CheckpointError: The weights to start from are of another model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fit_on = [r for r in pairs.reports if r.hash in pairs.learned]
    teacher = teachers.build(recipe.teacher, fit_on, **recipe.teacher_config)
    vectors, _ = cache.embed(teacher, pairs.reports, folder / "report_embeddings", progress)
    state = None
    if hasattr(teacher, "save"):
        state = folder / "teacher.npz"
        teacher.save(state)  # pyright: ignore[reportAttributeAccessIssue]
    said = [*pairs.learn, "|", *pairs.gauge]
    # Other pairs or another teacher must not continue this run's state.
    key = teachers.hash_of(teachers.identity(teacher), said)[:8]
    table = folder / f"report_vectors-{key}.parquet"
    digest = tables.write(table, vectors, teachers.facts(teacher))
    return job.run(
        job.Job(
            recipe=recipe,
            folder=folder / f"run-{recipe.key}-{key}",
            shards=place,
            mels=folder / "mels" if cached else None,
            vectors=table,
            vectors_digest=digest,
            aligned=pairs.learn,
            gauge=pairs.gauge,
            about={"teacher": teachers.facts(teacher)},
            teacher=state,
            key=key,
            trackers=trackers,
            parent=job.this_process(),
        ),
        processes or job.devices(),
        progress=progress,
    )
