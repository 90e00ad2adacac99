"""A job's paths -> what the run learns from."""

from collections.abc import Callable

from acula_model import encoders, teachers
from acula_model.teachers import vectors
from acula_model.training.errors import TrainingError
from acula_model.training.job import Job
from acula_model.training.loop import Given


def given(job: Job, progress: Callable[[str], None] = print) -> Given:
    """Open a job's shards, cache and vectors.

    Raises:
        FileNotFoundError: Something is not there.
        ValueError: A shard or table that cannot be read.
        TrainingError: The vectors are of another teacher than the run, or others than were made.
    """
    front_end = encoders.build(job.recipe.encoder, **job.recipe.encoder_config).front_end
    if job.mels is None:
        from acula_model.flac_source import FlacSource

        source = FlacSource(job.shards, front_end, job.workers)
    else:
        from acula_model import mels

        source = mels.load(job.shards, job.mels, front_end, progress)
    found, teacher = vectors.read(job.vectors)
    expected = job.about.get("teacher")
    if expected is not None and expected != teacher:
        raise TrainingError(
            f"the vectors in {job.vectors} are of the teacher {teachers.named(teacher)}, this run "
            f"is of {teachers.named(expected)}: materialise `report_embeddings` again"
        )
    if job.vectors_digest and job.vectors_digest != vectors.digest(found):
        raise TrainingError(
            f"{job.vectors} is not what was written for this run; it now has {len(found)} vectors "
            f"and says they are of the teacher {teachers.named(teacher)}: delete it and "
            "materialise `report_embeddings` again"
        )
    return Given(
        source=source,
        vectors=found,
        aligned=job.aligned,
        gauge=job.gauge,
        only_heard=job.only_heard,
    )
