"""Recordings that an encoder, or reports that a teacher, finds most alike; where a run has any."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.lineage import Tables

SHOWN = 6
_BATCH = 20_000  # rows compared at once


@dataclass(frozen=True, kw_only=True)
class Near:
    """One neighbour: cosine from -1 to 1."""

    recording_id: str
    cosine: float


def by_audio(tables: Tables, recording_id: str) -> tuple[str, list[Near]]:
    """Name of the newest encoder that heard it, and its nearest recordings of all datasets."""
    for folder in _newest(tables.corpus.recording_embeddings, "*"):
        files = sorted(folder.glob("*.npz"), key=lambda p: p.stat().st_mtime, reverse=True)
        own = next((v for p in files if (v := _vector(p, recording_id)) is not None), None)
        if own is None:
            continue
        found: dict[str, float] = {}
        for path in files[::-1]:  # a newer file of a dataset has the last word
            with np.load(path, allow_pickle=False) as kept:
                found |= _best(kept["ids"].tolist(), kept["vectors"], own, {recording_id})
        return folder.name, _nearest(found)
    return "", []


def by_text(tables: Tables, report_hash: str) -> tuple[str, dict[str, float]]:
    """Name of the newest teacher that read it, and cosines of the nearest other reports."""
    import pyarrow.parquet as pq

    for path in _newest(tables.corpus.teachers, "*/vectors.parquet"):
        found = pq.read_table(path, filters=[("report_hash", "=", report_hash)])
        if not len(found):
            continue
        own = np.array(found["vector"][0].as_py(), np.float32)
        best: dict[str, float] = {}
        for batch in pq.ParquetFile(path).iter_batches(_BATCH):
            vectors = batch["vector"].flatten().to_numpy().reshape(len(batch), -1)
            best |= _best(batch["report_hash"].to_pylist(), vectors, own, {report_hash})
        return path.parent.name, {n.recording_id: n.cosine for n in _nearest(best)}
    return "", {}


def _newest(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda p: p.stat().st_mtime, reverse=True)


def _vector(path: Path, recording_id: str) -> npt.NDArray[np.float32] | None:
    with np.load(path, allow_pickle=False) as kept:
        at = np.flatnonzero(kept["ids"] == recording_id)
        return kept["vectors"][at[0]] if len(at) else None


def _best(
    names: list[str],
    vectors: npt.NDArray[np.float32],
    own: npt.NDArray[np.float32],
    without: set[str],
) -> dict[str, float]:
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(own)
    cosines = np.divide(vectors @ own, lengths, out=np.zeros(len(vectors), np.float32),
                        where=lengths > 0)  # fmt: skip
    top = np.argsort(-cosines, kind="stable")[: SHOWN + len(without)]
    return {names[i]: float(cosines[i]) for i in top if names[i] not in without}


def _nearest(found: dict[str, float]) -> list[Near]:
    best = sorted(found.items(), key=lambda f: (-f[1], f[0]))[:SHOWN]
    return [Near(recording_id=name, cosine=round(cosine, 3)) for name, cosine in best]
