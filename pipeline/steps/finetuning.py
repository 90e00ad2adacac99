"""an encoder + the spectra of a task's recordings -> scores of copies trained on that task.

A copy per task, variant and seed costs some epochs of training, so each task and variant is kept
when it is done: a killed run goes on with the next.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from acula_model.encoders.base import AudioEncoder
from acula_model.evaluation import finetune
from acula_model.evaluation.run import Found
from acula_model.evaluation.task import Task
from acula_model.spectra import Several
from acula_model.training import ranks
from pipeline.records import pair_id
from pipeline.settings import Settings
from pipeline.steps import layout, recording_spectra, score_files, store


def run(
    settings: Settings,
    rows: Iterable[Mapping[str, Any]],
    tasks: Mapping[str, Task],
    encoder: AudioEncoder,
    place: Path,
    code: str,
    progress: Callable[[str], None] = print,
) -> Found:
    """Fine-tune on every task and variant.

    Args:
        settings: Where recordings lie.
        rows: ``TaskRow`` of all tasks and variants.
        tasks: task id -> how it is scored.
        encoder: Stays as it is.
        place: Folder of this encoder's results, one each.
        code: Version of what decides them besides.
        progress: Called with a line per epoch.

    Returns:
        As ``evaluation.run.run`` does, with the head ``finetune``.
    """
    own: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        own.setdefault((row["task"], row["variant"]), []).append(row)
    scores, said = [], []
    opened: dict[str, Several] = {}
    for number, ((task, variant), given) in enumerate(sorted(own.items()), 1):
        dataset = task.partition("/")[0]
        stamp = layout.Corpus(settings.data_root).dataset(dataset).recordings_stamp
        made_of = [
            given,
            repr(tasks[task]),
            repr(finetune.Settings()),
            store.version_at(stamp),
            code,
        ]
        kept = place / f"{task.replace('/', '-')}-{variant}-{store.digest(made_of)}"
        if not (kept / "predictions.parquet").is_file():  # the later one of two
            if dataset not in opened:
                wanted = {r["recording_id"] for (t, _), rs in own.items() for r in rs
                    if t.partition("/")[0] == dataset}  # fmt: skip
                found = recording_spectra.sources(
                    settings, dataset, sorted(wanted), encoder.front_end, progress
                )
                opened = {dataset: Several(list(found))}  # one dataset at a time
            pairs = {r["recording_id"]: pair_id(r["recording_id"]) for r in given}
            told = f"fine-tuning {number} of {len(own)}, {task} {variant}"
            score, predictions = finetune.run(
                encoder.to(ranks.pick("auto")), opened[dataset], pairs, given, tasks[task],
                progress=lambda line: progress(f"{told}: {line}"),  # noqa: B023
            )  # fmt: skip
            score_files.write(kept, [score], predictions)
        scores += score_files.scores(kept)
        said += [p for ps in score_files.predictions(kept).values() for p in ps]
    return scores, said
