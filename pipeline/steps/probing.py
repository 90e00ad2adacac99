"""an encoder + the recordings of every probed dataset -> embeddings -> scores of all tasks.

All heads of all tasks read one table of embeddings, kept per encoder and dataset, so that a new
task or protocol embeds nothing again. The attentive head reads what the table is the mean of: its
windows, kept beside it where that head is asked for. Fine-tuning reads the spectra.
"""

import json
import sys
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model import evaluation, features
from acula_model.encoders.base import AudioEncoder
from acula_model.evaluation import run as evaluate
from acula_model.evaluation.task import Task
from acula_model.training import ranks
from pipeline.manifest import Manifest
from pipeline.records import pair_id
from pipeline.settings import Settings
from pipeline.steps import finetuning, layout, recording_spectra, score_files, store

Progress = Callable[[str], None]
Vectors = dict[str, npt.NDArray[np.float32]]


def tasks(manifests: Mapping[str, Manifest]) -> dict[str, Task]:
    """``<dataset>/<task>`` -> how it is scored, of all datasets."""
    return {f"{d}/{n}": m.evaluation_task(n) for d, m in manifests.items() for n in m.tasks}


def task_rows(settings: Settings) -> list[dict[str, Any]]:
    """Every row of every task and variant."""
    return store.read_table(layout.Corpus(settings.data_root).table("task_rows")).to_pylist()


def probed(settings: Settings) -> dict[str, list[str]]:
    """Dataset -> recordings that a task asks for; both sorted."""
    table = layout.Corpus(settings.data_root).table("task_rows")
    ids = store.read_table(table, ["recording_id"])["recording_id"].unique().to_pylist()
    return {d: list(own) for d, own in groupby(sorted(ids), key=lambda i: i.partition("/")[0])}


def code() -> str:
    """Version of everything between embeddings and scores."""
    return store.package_version(
        evaluation, score_files, finetuning, recording_spectra, sys.modules[__name__]
    )


def probe(
    settings: Settings,
    manifests: Mapping[str, Manifest],
    encoder: AudioEncoder,
    key: str,
    place: Path,
    progress: Progress = print,
) -> dict[str, Any]:
    """Embed every recording that a task asks for, and score all heads that the settings name.

    Args:
        settings: Where recordings lie, which datasets are evaluated, and by which heads.
        manifests: Of the datasets.
        encoder: Frozen.
        key: Of its weights; embeddings are kept under it.
        place: Folder for the scores.
        progress: Called with a line now and then.

    Returns:
        ``summary``.
    """
    windows = None
    if "attentive" in settings.heads:  # first, since one pass gives both
        windows = recording_vectors(settings, encoder, key, progress, windowed=True)
    vectors = recording_vectors(settings, encoder, key, progress)
    tuned = None
    if "finetune" in settings.heads:
        kept = folder(settings, key) / "finetune"
        rows, known = task_rows(settings), tasks(manifests)
        tuned = finetuning.run(settings, rows, known, encoder, kept, code(), progress)
    return score(vectors, settings, manifests, place, "encoder", evaluate.PROTOCOLS, progress,
        windows, tuned,
    )  # fmt: skip


def recording_vectors(
    settings: Settings,
    encoder: AudioEncoder,
    key: str,
    progress: Progress = print,
    windowed: bool = False,
) -> Vectors:
    """Embeddings of all recordings that a task asks for.

    Args:
        settings: Where recordings lie, and which datasets are evaluated.
        encoder: Frozen.
        key: Of its weights; embeddings are kept under it.
        progress: Called with a line now and then.
        windowed: Whether windows are wanted one by one.

    Returns:
        recording id -> [D], the mean over its windows; or [W, D] of them.
    """
    found: Vectors = {}
    for dataset, ids in probed(settings).items():
        found |= _of_dataset(settings, dataset, ids, encoder, key, progress, windowed)
    return found


def folder(settings: Settings, key: str) -> Path:
    """Where the embeddings of one encoder lie, a file per dataset."""
    return layout.Corpus(settings.data_root).recording_embeddings / key


def vectors_file(
    settings: Settings, dataset: str, ids: list[str], front_end: str, key: str
) -> Path:
    """The file in ``folder`` with these recordings of a dataset (sorted), heard by a front end."""
    here = layout.Corpus(settings.data_root).dataset(dataset)
    made_of = [store.version_at(here.recordings_stamp), ids, front_end]
    return folder(settings, key) / f"{dataset}-{store.digest(made_of)}.npz"


def score(
    vectors: Mapping[str, npt.NDArray[Any]],
    settings: Settings,
    manifests: Mapping[str, Manifest],
    place: Path,
    name: str = "encoder",
    protocols: tuple[str, ...] = evaluate.PROTOCOLS,
    progress: Progress = print,
    windows: Mapping[str, npt.NDArray[Any]] | None = None,
    tuned: evaluate.Found | None = None,
) -> dict[str, Any]:
    """Score features on every task, variant and head; writes two tables, returns a summary.

    Args:
        vectors: recording id -> [D].
        settings: Where the task rows lie, and the heads.
        manifests: Of the datasets.
        place: Folder for the tables.
        name: Of the features.
        protocols: ``default``, ``published``.
        progress: Called with a line now and then.
        windows: recording id -> [W, D] for the head that attends; the vectors if not given.
        tuned: Scores and predictions of copies that were fine-tuned, to write with them.
    """
    rows, known = task_rows(settings), tasks(manifests)
    pooled = [h for h in settings.heads if h not in ("attentive", "finetune")]
    scores, said = evaluate.run(
        vectors, rows, known, protocols, pooled, name=name, progress=progress
    )
    if "attentive" in settings.heads:
        more = evaluate.run(
            windows or vectors, rows, known, ("default",), ("attentive",), name, progress
        )
        scores, said = scores + more[0], said + more[1]
    if tuned is not None:
        scores, said = scores + tuned[0], said + tuned[1]
    score_files.write(place, scores, said)
    return summary(place)


def summary(place: Path) -> dict[str, Any]:
    """Counts and means of a folder's scores, small enough for a log."""
    every = [s for s in score_files.scores(place) if s.protocol == "default"]
    scores = [s for s in every if s.head == "linear"]
    further: dict[str, dict[str, float | None]] = {}
    for s in every:
        if s.head != "linear" and s.variant == "subject_clean":
            value = None if s.value is None else round(s.value, 4)
            further.setdefault(s.head, {})[s.task] = value
    clean = [s for s in scores if s.variant == "subject_clean" and s.value is not None]
    auroc = {s.task: round(s.value or 0.0, 4) for s in clean if s.metric == "auroc"}
    return {
        "mean_auroc": round(float(np.mean(list(auroc.values()))), 4) if auroc else None,
        "tasks_run": len(clean),
        "auroc": auroc,
        "mae": {s.task: round(s.value or 0.0, 4) for s in clean if s.metric == "mae"},
        "not_run": {f"{s.task} {s.variant}": s.reason for s in scores if s.reason},
    } | ({"further_heads": further} if further else {})


def _of_dataset(
    settings: Settings,
    dataset: str,
    ids: list[str],
    encoder: AudioEncoder,
    key: str,
    progress: Progress,
    windowed: bool,
) -> Vectors:
    means = vectors_file(settings, dataset, ids, encoder.front_end.key, key)
    path = means.with_name(f"{means.stem}-windows.npz") if windowed else means
    if not path.exists():
        on_device = encoder.to(ranks.pick("auto"))
        embed = features.windows if windowed else features.embed
        vectors: Vectors = {}
        for source in recording_spectra.sources(
            settings, dataset, ids, encoder.front_end, progress
        ):
            here = [p for i in ids if (p := pair_id(i)) in source.meta and p not in vectors]
            vectors |= embed(on_device, source, here)
        found = [vectors[pair_id(i)] for i in ids]
        if windowed:
            counts = [len(own) for own in found]
            _keep(path, encoder, ids, vectors=np.concatenate(found), counts=np.array(counts))
            found = [own.sum(0) / np.float32(len(own)) for own in found]
        if not means.exists():
            _keep(means, encoder, ids, vectors=np.stack(found))
        progress(f"{dataset}: {len(ids)} recordings embedded")
    with np.load(path, allow_pickle=False) as kept:
        own = kept["vectors"]
        if windowed:
            own = np.split(own, np.cumsum(kept["counts"])[:-1])
        return dict(zip(kept["ids"].tolist(), own, strict=True))


def _keep(path: Path, encoder: AudioEncoder, ids: list[str], **arrays: npt.NDArray[Any]) -> None:
    about = np.array(json.dumps(encoder.description))  # weights, window policy
    with store.finished(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, ids=np.array(ids), about=about, **arrays)
