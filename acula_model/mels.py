"""shards -> log-mel windows of every pair, cached on disk and read by memory map.

One cache file per shard, keyed by front end and by the sounds in it: a changed report or
split touches no audio. Windows are float16 (moves an OPERA-GT feature by 7e-6).
"""

# W = windows, T = frames, M = mel bins

import hashlib
import io
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model import shards, waves
from acula_model.front_end import FrontEnd

Windows = npt.NDArray[np.float16]
# What training and probing ask of a pair; the rest of its description stays in the shard.
_KEPT = ("recording_id", "dataset", "modality", "full_hash", "strict_hash")


class Mels:
    """Log-mel windows and descriptions of all pairs below a folder of shards.

    Attributes:
        meta: pair id -> what training and probing ask of it: ids, group, hashes of its reports.
    """

    def __init__(self, files: Sequence[tuple[Path, dict[str, Any]]]):
        self.meta: dict[str, dict[str, Any]] = {}
        self._place: dict[str, tuple[Windows, int, int]] = {}
        for path, index in files:
            block: Windows = np.load(path, mmap_mode="r")
            for pair_id, (start, count) in index["windows"].items():
                self._place[pair_id] = (block, start, count)
            self.meta |= index["meta"]

    def __len__(self) -> int:
        return len(self.meta)

    def windows(self, pair_id: str) -> Windows:
        """float16 [W, T, M] of one pair."""
        block, start, count = self._place[pair_id]
        return block[start : start + count]

    def one(self, pair_id: str, choice: float) -> Windows:
        """float16 [T, M]: the window at ``choice`` in [0, 1) of the pair's windows."""
        block, start, count = self._place[pair_id]
        return block[start + int(choice * count)]


def load(
    folder: Path, cache: Path, front_end: FrontEnd, progress: Callable[[str], None] = print
) -> Mels:
    """Compute what is missing in the cache and open it.

    Args:
        folder: Shards of pairs.
        cache: Folder for the cache files; other front ends may share it.
        front_end: The encoder's own.
        progress: Called with a line now and then.
    """
    place = cache / front_end.key
    place.mkdir(parents=True, exist_ok=True)
    files: list[tuple[Path, dict[str, Any]]] = []
    tars = shards.shards(folder)
    for done, tar in enumerate(tars, 1):
        described = shards.describe(tar)
        sounds = [(m["pair_id"], m["audio_sha256"]) for m in described]
        key = hashlib.sha256(repr(sounds).encode()).hexdigest()[:16]
        path = place / f"{key}.npy"
        if not path.exists():
            _compute(tar, path, front_end)
            progress(f"log-mels: {done} of {len(tars)} shards")
        counts = json.loads(path.with_suffix(".json").read_text())
        meta = {m["pair_id"]: {k: m[k] for k in _KEPT if k in m} for m in described}
        files.append((path, {"windows": counts, "meta": meta}))
    return Mels(files)


def _compute(tar: Path, path: Path, front_end: FrontEnd) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        blocks = list(pool.map(lambda pair: _windows(pair, front_end), shards.read(tar)))
    index: dict[str, tuple[int, int]] = {}
    at = 0
    for pair_id, block in blocks:
        index[pair_id] = (at, len(block))
        at += len(block)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npy")
    np.save(temporary, np.concatenate([b for _, b in blocks]))
    path.with_suffix(".json").write_text(json.dumps(index))
    temporary.replace(path)


def _windows(pair: shards.Pair, front_end: FrontEnd) -> tuple[str, Windows]:
    import soundfile

    samples, rate = soundfile.read(io.BytesIO(pair.flac), dtype="float32")
    try:
        wave = waves.prepared(samples, rate, front_end.sample_rate)
    except ValueError as error:
        raise ValueError(f"{pair.pair_id}: {error}") from error
    return pair.pair_id, front_end.windows(wave).numpy().astype(np.float16)
