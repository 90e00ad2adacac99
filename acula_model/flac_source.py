"""Training straight from shards: each window is decoded and transformed when it is asked for.

For who has tars and no room or wish for a cache. An index of the tars says where each pair's FLAC
is; of a long recording only the samples that a window hears are decoded.
"""

# B = windows, K = windows of a recording, T = frames, M = mel bins

import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from acula_model import shards, spectra, waves
from acula_model.front_end import FrontEnd
from acula_model.spectra import Raw

Item = TypeVar("Item")


class FlacSource:
    """A ``spectra.Source`` that reads shards; the numbers are those of ``mels.Mels``.

    Attributes:
        meta: As in ``mels.Mels``.
        front_end: Whose spectra they are.
    """

    def __init__(self, folder: Path, front_end: FrontEnd, workers: int = 0) -> None:
        """Index the tars.

        Args:
            folder: Shards of pairs.
            front_end: The encoder's own.
            workers: Threads that decode and transform; 0 does it in the caller's. They change no
                number.

        Raises:
            FileNotFoundError: There are no shards.
        """
        self.front_end = front_end
        self.meta: dict[str, dict[str, Any]] = {}
        self._place: dict[str, tuple[Path, int, int]] = {}
        for tar in shards.shards(folder):
            for meta, offset, size in shards.located(tar):
                self.meta[meta["pair_id"]] = shards.brief(meta)
                self._place[meta["pair_id"]] = (tar, offset, size)
        self._pool = ThreadPoolExecutor(workers) if workers else None

    def __len__(self) -> int:
        return len(self.meta)

    def crops(self, ids: Sequence[str], seed_B: spectra.Seeds) -> Raw:
        """See ``spectra.Source``."""
        return Raw.joined(self._each(self._crop, zip(ids, spectra.draw(seed_B), strict=True)))

    def grid(self, ids: Sequence[str]) -> tuple[Raw, npt.NDArray[np.int64]]:
        """See ``spectra.Source``."""
        parts = self._each(self._windows, ids)
        lengths = {part.level_BTM.shape[1] for part in parts}
        if len(lengths) != 1:
            raise ValueError(f"windows of {sorted(lengths)} frames do not fit in one batch")
        return Raw.joined(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])

    def _each(self, make: Callable[[Item], Raw], items: Iterable[Item]) -> list[Raw]:
        return list((self._pool.map if self._pool else map)(make, items))

    def _flac(self, pair_id: str) -> bytes:
        tar, offset, size = self._place[pair_id]
        with tar.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def _crop(self, job: tuple[str, float]) -> Raw:
        pair_id, share = job
        ours, flac = self.front_end, self._flac(pair_id)
        part = self._part(flac, pair_id, share) if ours.cuts else None
        if part is not None:
            return Raw.of(ours.excerpt(*part)[None], ours.depth)
        raw_KTM = ours.spectrum(self._wave(flac, pair_id))
        count, total, _ = raw_KTM.shape
        window, first = spectra.place(share, count, total, ours.frames)
        return Raw.of(raw_KTM[window, first : first + ours.frames][None], ours.depth)

    def _part(self, flac: bytes, pair_id: str, share: float) -> tuple[waves.Wave, int, int] | None:
        """The samples that a drawn window hears and what it misses before and after them.

        None where the whole recording is needed: it is short, or of another rate.
        """
        import soundfile

        ours = self.front_end
        try:
            with soundfile.SoundFile(io.BytesIO(flac)) as file:
                short = file.frames < ours.window_samples
                if short or file.samplerate != ours.sample_rate or file.channels != 1:
                    return None
                _, first = spectra.place(share, 1, ours.total(file.frames), ours.frames)
                start, stop = ours.heard(first, ours.frames)
                before, after = max(0, -start), max(0, stop - file.frames)
                file.seek(start + before)
                samples = file.read(stop - after - start - before, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{pair_id}: {error}; write the shards again") from error
        if len(samples) != stop - after - start - before:
            raise ValueError(f"{pair_id}: the FLAC is cut short; write the shards again")
        return np.asarray(samples, np.float32), before, after

    def _wave(self, flac: bytes, pair_id: str) -> waves.Wave:
        """All samples, or those that a published front end hears: no others are decoded."""
        import soundfile

        ours = self.front_end
        try:
            with soundfile.SoundFile(io.BytesIO(flac)) as file:
                head = ours.head
                mono = file.channels == 1 and file.samplerate == ours.sample_rate
                if head is not None and head < file.frames and mono:
                    samples = file.read(head, dtype="float32")
                    if len(samples) == head:
                        return np.asarray(samples, np.float32)
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{pair_id}: {error}; write the shards again") from error
        return shards.wave(flac, pair_id, ours.sample_rate)

    def _windows(self, pair_id: str) -> Raw:
        ours = self.front_end
        raw_KTM = ours.spectrum(self._wave(self._flac(pair_id), pair_id))
        whole, total = Raw.of(raw_KTM, ours.depth), raw_KTM.shape[1]
        starts, length = ours.starts(total), ours.length(total)
        levels = [window[s : s + length] for window in whole.level_BTM for s in starts]
        repeats = len(starts)
        return Raw(np.stack(levels), whole.top_B.repeat(repeats), whole.step_B.repeat(repeats))
