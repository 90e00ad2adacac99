"""audio files -> one vector each, in order, with bounded memory and the model always busy.

Files are decoded by threads a few ahead of the model; windows of several files fill a batch.
"""

# B = windows in a batch, T = frames, M = mel bins, K = windows of a file, D = width

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from acula_model import decoding
from acula_model.ahead import ahead
from acula_model.encoders.base import AudioEncoder

Vector = npt.NDArray[np.float32]
Sound = str | Path | npt.NDArray[np.floating]
BATCH = 16  # windows; larger ones leave the processor's cache, a GPU takes 64 and more
_ROWS = 1024  # rows of the table that are held before they are written


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """One sound.

    Attributes:
        path: The file; None for samples.
        vector: float32 [D], the mean over windows; None when there is an error.
        windows: K, what the mean is over.
        seconds: Duration.
        error: Why there is no vector.
    """

    path: str | None
    vector: Vector | None
    windows: int
    seconds: float
    error: str | None


@dataclass
class _Clip:
    """A sound on its way: what is missing and the sum so far."""

    path: str | None
    seconds: float = 0.0
    error: str | None = None
    mel_KTM: Tensor | None = None
    windows: int = 0
    missing: int = 0
    total: Any = 0.0

    def done(self) -> Embedded:
        failed = self.error is not None
        vector = None if failed else (self.total / np.float32(self.windows)).astype(np.float32)
        return Embedded(
            path=self.path, vector=vector, windows=self.windows, seconds=self.seconds,
            error=self.error,
        )  # fmt: skip


@dataclass
class _Queue:
    """Windows that wait for a batch of their shape."""

    waiting: dict[tuple[int, ...], deque[tuple[_Clip, Tensor]]] = field(default_factory=dict)

    def add(self, clip: _Clip) -> None:
        assert clip.mel_KTM is not None
        for mel_TM in clip.mel_KTM:
            self.waiting.setdefault(tuple(mel_TM.shape), deque()).append((clip, mel_TM))
        clip.mel_KTM = None

    def take(self, size: int, fullest: bool) -> list[tuple[_Clip, Tensor]]:
        """A full batch; with ``fullest``, the largest there is."""
        ready = [q for q in self.waiting.values() if len(q) >= (1 if fullest else size)]
        if not ready:
            return []
        queue = max(ready, key=len)
        return [queue.popleft() for _ in range(min(size, len(queue)))]

    def __len__(self) -> int:
        return sum(map(len, self.waiting.values()))


def embed(
    encoder: AudioEncoder,
    sounds: Iterable[Sound],
    batch: int = BATCH,
    workers: int | None = None,
) -> Iterator[Embedded]:
    """Embed sounds, lazily and in order.

    Args:
        encoder: In eval mode, on its device.
        sounds: Files, or mono samples [S] at the rate of the encoder's front end.
        batch: Windows per pass; decides no numbers.
        workers: Threads that decode; all processors if not given.

    Yields:
        One row per sound, with the reason where a sound cannot be used.
    """
    workers = workers or os.cpu_count() or 1
    order: deque[_Clip] = deque()  # decoded, not given out
    queue = _Queue()
    with ThreadPoolExecutor(workers) as pool:
        for clip in ahead(pool, partial(_clip, encoder), sounds, 2 * workers):
            order.append(clip)
            if clip.error is None:
                queue.add(clip)
            # Shapes that fill no batch must not pile up, nor hold back the first sound for ever.
            while chosen := queue.take(batch, fullest=len(queue) > 4 * batch):
                _run(encoder, chosen)
            while order and not order[0].missing:
                yield order.popleft().done()
    while chosen := queue.take(batch, fullest=True):
        _run(encoder, chosen)
    yield from (clip.done() for clip in order)


def matrix(rows: Iterable[Embedded], width: int) -> Vector:
    """The vectors of rows, [N, D]; ``width`` is D.

    Raises:
        SoundError: A sound could not be used; names it.
    """
    found: list[Vector] = []
    for number, row in enumerate(rows):
        if row.vector is None:
            raise decoding.SoundError(f"{row.path or f'sound {number}'}: {row.error}")
        found.append(row.vector)
    return np.stack(found) if found else np.zeros((0, width), np.float32)


def write_table(
    rows: Iterable[Embedded], width: int, path: Path, about: dict[str, str]
) -> tuple[int, int]:
    """Write rows to a parquet file as they come; it appears under its name when it is complete.

    Args:
        rows: From ``embed``.
        width: D.
        path: The file.
        about: Which model this is; goes into the file's metadata.

    Returns:
        How many sounds have a vector, and how many have not.
    """
    names = ("path", "vector", "windows", "seconds", "error")
    vector = pa.list_(pa.float32(), width)
    types = (pa.string(), vector, pa.int32(), pa.float32(), pa.string())
    schema = pa.schema(list(zip(names, types, strict=True)), metadata=about)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    good = bad = 0
    stream = iter(rows)
    try:
        with pq.ParquetWriter(temporary, schema) as writer:
            while block := list(islice(stream, _ROWS)):
                good += sum(row.error is None for row in block)
                bad += sum(row.error is not None for row in block)
                columns = [[getattr(row, name) for row in block] for name in names]
                writer.write_table(
                    pa.table(
                        [pa.array(c, t) for c, t in zip(columns, types, strict=True)],
                        schema=schema,
                    )
                )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return good, bad


def _clip(encoder: AudioEncoder, item: Sound) -> _Clip:
    """Decode and cut into spectrogram windows; a broken file is a clip with its reason."""
    path = str(item) if isinstance(item, str | Path) else None
    rate = encoder.front_end.sample_rate
    try:
        wave = np.asarray(item) if path is None else decoding.read(Path(path), rate)
        mel_KTM = encoder.front_end.windows(wave)
    except ValueError as error:
        return _Clip(path=path, error=str(error))
    count = len(mel_KTM)
    return _Clip(path=path, seconds=len(wave) / rate, mel_KTM=mel_KTM, windows=count, missing=count)


@torch.inference_mode()
def _run(encoder: AudioEncoder, chosen: Sequence[tuple[_Clip, Tensor]]) -> None:
    device = next(encoder.parameters()).device
    mel_BTM = torch.stack([mel_TM for _, mel_TM in chosen]).to(device)
    vectors_BD = encoder.embed(mel_BTM).float().cpu().numpy()
    for (clip, _), vector_D in zip(chosen, vectors_BD, strict=True):
        clip.total = clip.total + vector_D
        clip.missing -= 1
