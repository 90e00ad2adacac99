"""an encoder + the recordings of every probed dataset -> embeddings -> scores of all tasks.

All heads of all tasks read one table of embeddings, kept per encoder and dataset, so that a new
task or protocol embeds nothing again.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model import evaluation, features, mels
from acula_model.encoders.base import AudioEncoder
from acula_model.evaluation import run as evaluate
from acula_model.evaluation.task import Task
from acula_model.training import ranks
from pipeline.manifest import Manifest
from pipeline.records import pair_id
from pipeline.settings import Settings
from pipeline.steps import layout, score_files, store

Progress = Callable[[str], None]
Vectors = dict[str, npt.NDArray[np.float32]]


def tasks(manifests: Mapping[str, Manifest]) -> dict[str, Task]:
    """``<dataset>/<task>`` -> how it is scored, of all datasets."""
    return {f"{d}/{n}": m.evaluation_task(n) for d, m in manifests.items() for n in m.tasks}


def task_rows(settings: Settings) -> list[dict[str, Any]]:
    """Every row of every task and variant."""
    return store.read_table(layout.Corpus(settings.data_root).table("task_rows")).to_pylist()


def code() -> str:
    """Version of everything between embeddings and scores."""
    return store.package_version(evaluation, score_files, sys.modules[__name__])


def recording_vectors(
    settings: Settings, encoder: AudioEncoder, key: str, progress: Progress = print
) -> Vectors:
    """Embeddings of all recordings that a task asks for.

    Args:
        settings: Where recordings lie, and which datasets are evaluated.
        encoder: Frozen.
        key: Of its weights; embeddings are kept under it.
        progress: Called with a line now and then.

    Returns:
        recording id -> [D], the mean over its windows.
    """
    wanted: dict[str, set[str]] = {}
    for row in task_rows(settings):
        wanted.setdefault(row["recording_id"].partition("/")[0], set()).add(row["recording_id"])
    found: Vectors = {}
    for dataset, ids in sorted(wanted.items()):
        found |= _of_dataset(settings, dataset, sorted(ids), encoder, key, progress)
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
) -> dict[str, Any]:
    """Score features on every task and variant; writes two tables and returns a summary."""
    rows = task_rows(settings)
    found = evaluate.run(vectors, rows, tasks(manifests), protocols, name=name, progress=progress)
    score_files.write(place, *found)
    return summary(place)


def summary(place: Path) -> dict[str, Any]:
    """Counts and means of a folder's scores, small enough for a log."""
    scores = [s for s in score_files.scores(place) if s.protocol == "default"]
    clean = [s for s in scores if s.variant == "subject_clean" and s.value is not None]
    auroc = {s.task: round(s.value or 0.0, 4) for s in clean if s.metric == "auroc"}
    return {
        "mean_auroc": round(float(np.mean(list(auroc.values()))), 4) if auroc else None,
        "tasks_run": len(clean),
        "auroc": auroc,
        "mae": {s.task: round(s.value or 0.0, 4) for s in clean if s.metric == "mae"},
        "not_run": {f"{s.task} {s.variant}": s.reason for s in scores if s.reason},
    }


def _of_dataset(
    settings: Settings,
    dataset: str,
    ids: list[str],
    encoder: AudioEncoder,
    key: str,
    progress: Progress,
) -> Vectors:
    path = vectors_file(settings, dataset, ids, encoder.front_end.key, key)
    if not path.exists():
        on_device = encoder.to(ranks.pick("auto"))
        vectors: Vectors = {}
        for source in _spectra(settings, dataset, ids, encoder, progress):
            here = [p for i in ids if (p := pair_id(i)) in source.meta and p not in vectors]
            vectors |= features.embed(on_device, source, here)
        with store.finished(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                ids=np.array(ids),
                vectors=np.stack([vectors[pair_id(i)] for i in ids]),
                about=np.array(json.dumps(encoder.description)),  # weights, window policy
            )
        progress(f"{dataset}: {len(ids)} recordings embedded")
    with np.load(path, allow_pickle=False) as kept:
        return dict(zip(kept["ids"].tolist(), kept["vectors"], strict=True))


def _spectra(
    settings: Settings, dataset: str, ids: list[str], encoder: AudioEncoder, progress: Progress
) -> Iterator[mels.Mels]:
    """Spectra of a dataset's recordings: of shards, which training reads, then of what is left."""
    corpus = layout.Corpus(settings.data_root)
    left = {pair_id(i) for i in ids}
    if dataset in settings.alignment:
        source = mels.load(corpus.shards, corpus.mels, encoder.front_end, progress)
        left -= source.meta.keys()
        yield source
    if left:
        here = corpus.dataset(dataset)
        columns = ["recording_id", "part", "audio_sha256"]
        tars: dict[Path, list[tuple[str, str]]] = {}
        for row in store.read_table(here.recordings, columns).to_pylist():
            if (pair := pair_id(row["recording_id"])) in left:
                tar = here.parts / f"{row['part']}.tar"
                tars.setdefault(tar, []).append((pair, row["audio_sha256"]))
        yield mels.of_tars(tars, corpus.mels, encoder.front_end, progress)
