"""shards -> spectra of every pair, cached on disk and read by memory map.

One array per shard, keyed by front end and by the sounds in it: a changed report or split
touches no audio. Cells are 16-bit fixed point with the scale of their recording, so an error is
at most 1/131070 of its range: below 1e-5 of a published window after normalisation, below 0.0011 dB
in a crop of a whole recording (whose range is 140 dB at most).
"""

# K = windows of a recording (1 where it is whole), T = frames of each, M = mel bins

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from acula_model import shards, spectra
from acula_model.ahead import ahead
from acula_model.counting import Counted
from acula_model.front_end import FrontEnd
from acula_model.spectra import Levels, Raw

FORMAT = 2  # raise when the same spectra would be written otherwise
# pair id -> first row, T, and the tops and steps of its K windows
Index = dict[str, tuple[int, int, list[float], list[float]]]


class Mels:
    """A ``spectra.Source`` of cached spectra.

    Attributes:
        meta: pair id -> what training and probing ask of it: ids, group, its reports' hashes and
            terms.
        front_end: Whose spectra they are.
    """

    def __init__(
        self, files: Sequence[tuple[Levels, Index]], meta: dict[str, dict[str, Any]],
        front_end: FrontEnd,
    ) -> None:  # fmt: skip
        self.meta, self.front_end = meta, front_end
        self._place = {
            pair_id: (block, start, total, tops, steps)
            for block, index in files
            for pair_id, (start, total, tops, steps) in index.items()
        }

    def __len__(self) -> int:
        return len(self.meta)

    def crops(self, ids: Sequence[str], seed_B: spectra.Seeds) -> Raw:
        """See ``spectra.Source``."""
        frames = self.front_end.frames
        found = _empty(len(ids), frames, self.front_end.n_mels)
        for row, (pair_id, share) in enumerate(zip(ids, spectra.draw(seed_B), strict=True)):
            block, start, total, tops, steps = self._place[pair_id]
            window, first = spectra.place(share, len(tops), total, frames)
            at = start + window * total + first
            found.level_BTM[row] = block[at : at + frames]
            found.top_B[row], found.step_B[row] = tops[window], steps[window]
        return found

    def grid(self, ids: Sequence[str]) -> tuple[Raw, npt.NDArray[np.int64]]:
        """See ``spectra.Source``."""
        places = [self._place[i] for i in ids]
        lengths = {self.front_end.length(total) for _, _, total, _, _ in places}
        if len(lengths) != 1:
            raise ValueError(f"windows of {sorted(lengths)} frames do not fit in one batch")
        (frames,) = lengths
        # For each window: the array, its first row there, top, step, and whose it is.
        windows = [
            (block, start + window * total + first, tops[window], steps[window], owner)
            for owner, (block, start, total, tops, steps) in enumerate(places)
            for window in range(len(tops))
            for first in self.front_end.starts(total)
        ]
        found = _empty(len(windows), frames, self.front_end.n_mels)
        for row, (block, at, top, step, _) in enumerate(windows):
            found.level_BTM[row] = block[at : at + frames]
            found.top_B[row], found.step_B[row] = top, step
        return found, np.array([owner for *_, owner in windows])


def load(
    folder: Path, cache: Path, front_end: FrontEnd, progress: Callable[[str], None] = print
) -> Mels:
    """Compute what is missing in the cache, or cannot be read, and open it.

    Args:
        folder: Shards of pairs.
        cache: Folder for the cache files; other front ends may share it.
        front_end: The encoder's own.
        progress: Called with a line now and then.

    Raises:
        FileNotFoundError: There are no shards.
        ValueError: A pair without usable sound; names it.
    """
    sounds: dict[Path, list[tuple[str, str]]] = {}
    meta: dict[str, dict[str, Any]] = {}
    for tar in shards.shards(folder):
        described = shards.describe(tar)
        sounds[tar] = [(m["pair_id"], m["audio_sha256"]) for m in described]
        meta |= {m["pair_id"]: shards.brief(m) for m in described}
    return of_tars(sounds, cache, front_end, progress, meta)


def of_tars(
    sounds: Mapping[Path, Sequence[tuple[str, str]]],
    cache: Path,
    front_end: FrontEnd,
    progress: Callable[[str], None] = print,
    meta: Mapping[str, dict[str, Any]] | None = None,
) -> Mels:
    """As ``load``, of any tars with members ``<id>.flac``.

    Args:
        sounds: Tar -> id and hash of the sounds wanted of it.
        cache: Folder for the cache files.
        front_end: The encoder's own.
        progress: Called with a line now and then.
        meta: id -> what ``Mels.meta`` says; nothing if not given.

    Raises:
        ValueError: A sound is not in its tar, or cannot be used; names it.
    """
    paths = {tar: cache / front_end.key / f"{_key(wanted)}.npy" for tar, wanted in sounds.items()}
    opened = {tar: _opened(path, front_end) for tar, path in paths.items()}
    missing = [tar for tar, found in opened.items() if found is None]
    counted = Counted(progress, "log-mels: {} tars", len(missing))
    for tar in missing:
        compute(tar, paths[tar], front_end, [i for i, _ in sounds[tar]])
        opened[tar] = _opened(paths[tar], front_end)
        counted.add()
    files: list[tuple[Levels, Index]] = []
    for tar, found in opened.items():
        if found is None:
            raise OSError(f"{paths[tar]} cannot be read back; look at the disk and run again")
        files.append(found)
    known = {i: {} for wanted in sounds.values() for i, _ in wanted} if meta is None else meta
    return Mels(files, dict(known), front_end)


def _key(wanted: Sequence[tuple[str, str]]) -> str:
    return hashlib.sha256(repr((FORMAT, wanted)).encode()).hexdigest()[:16]


def compute(tar: Path, path: Path, front_end: FrontEnd, wanted: Sequence[str]) -> None:
    """Write the array of a shard's spectra and beside it the index, as ``.json``.

    Holds a few recordings at a time. The array appears last, so where it is, both are whole.
    """
    workers = os.cpu_count() or 1
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    index: Index = {}
    rows = 0
    try:
        with temporary.open("wb") as file, ThreadPoolExecutor(workers) as pool:
            _header(file, rows, front_end)
            flacs = shards.flacs(tar, wanted)
            made = ahead(pool, lambda s: _spectrum(*s, front_end), flacs, 2 * workers)
            for pair_id, raw in made:
                total = raw.level_BTM.shape[1]
                index[pair_id] = (rows, total, raw.top_B.tolist(), raw.step_B.tolist())
                file.write(raw.level_BTM.tobytes())
                rows += len(raw) * total
            file.seek(0)
            _header(file, rows, front_end)  # numpy leaves room for any number of rows
        described = temporary.with_suffix(".json")
        described.write_text(json.dumps(index))
        described.replace(path.with_suffix(".json"))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _header(file: Any, rows: int, front_end: FrontEnd) -> None:
    about = {"descr": "<i2", "fortran_order": False, "shape": (rows, front_end.n_mels)}
    np.lib.format.write_array_header_1_0(file, about)


def _spectrum(pair_id: str, flac: bytes, front_end: FrontEnd) -> tuple[str, Raw]:
    wave = shards.wave(flac, pair_id, front_end.sample_rate)
    return pair_id, Raw.of(front_end.spectrum(wave), front_end.depth)


def _opened(path: Path, front_end: FrontEnd) -> tuple[Levels, Index] | None:
    """The array and the index, or None where they are absent, cut short or damaged."""
    try:
        index: Index = json.loads(path.with_suffix(".json").read_text())
        rows = sum(total * len(tops) for _, total, tops, _ in index.values())
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            header = file.tell()
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    size = path.stat().st_size
    if (
        dtype != np.int16
        or shape != (rows, front_end.n_mels)
        or size != header + 2 * math.prod(shape)
    ):
        return None
    # Not np.load: its maps hold a file open each, and a corpus has more shards than a process
    # may have open files.
    whole = torch.from_file(str(path), size=size // 2, dtype=torch.int16).numpy()
    block: Levels = whole[header // 2 :].reshape(shape)
    block.setflags(write=False)
    return block, index


def _empty(windows: int, frames: int, n_mels: int) -> Raw:
    level = np.empty((windows, frames, n_mels), np.int16)
    return Raw(level, np.empty(windows, np.float32), np.empty(windows, np.float32))
