"""One recording's FLAC bytes -> its waveform and its mel spectrogram, as pictures of one width."""

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from acula_model.front_end import MelFrontEnd
from pipeline.steps import parts, remote

WIDTH, WAVE_HEIGHT = 1200, 100  # px of the pictures, which the page stretches
RANGE_DB = 70  # from the loudest cell to black
FRONT_END = MelFrontEnd()
TICKS_HZ = (200, 500, 1_000, 2_000, 4_000)
_HOLD = 1_000  # frames transformed at once
# Viridis-like, but dark where it is silent: stops of red, green and blue.
_STOPS = ((0, 0, 8), (40, 17, 90), (124, 29, 109), (200, 62, 75), (246, 132, 40), (252, 253, 191))


@dataclass(frozen=True)
class Sound:
    """16-bit samples, [S], and their rate in Hz."""

    samples: npt.NDArray[np.int16]
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def flac(folder: Path, part: str, offset: int, size: int) -> bytes:
    """A recording's bytes.

    Raises:
        FileNotFoundError: The part is missing, or its table points outside the folder.
    """
    place = (folder / f"{part}.tar").resolve()
    if not place.is_relative_to(folder.resolve()) or not remote.exists(folder / f"{part}.tar"):
        raise FileNotFoundError(f"the part {part}.tar is missing: materialise `recordings` again")
    return parts.read_flac(folder, part, offset, size)


def decoded(content: bytes) -> Sound:
    """Samples of FLAC bytes.

    Raises:
        soundfile.LibsndfileError: They are no FLAC any more.
    """
    import soundfile

    samples, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    return Sound(np.asarray(samples, np.int16), rate)


def outline(sound: Sound) -> str:
    """The waveform as the points of a closed line in a box of WIDTH by WAVE_HEIGHT."""
    if not len(sound.samples):
        return ""
    columns = min(WIDTH, len(sound.samples))
    edges = np.linspace(0, len(sound.samples), columns, endpoint=False).astype(np.int64)
    high = np.maximum.reduceat(sound.samples, edges) / 32768
    low = np.minimum.reduceat(sound.samples, edges) / 32768
    x = np.linspace(0, WIDTH, columns)
    y = (1 - np.concatenate([high, low[::-1]])) * WAVE_HEIGHT / 2
    both = zip(np.concatenate([x, x[::-1]]), y, strict=True)
    return " ".join(f"{a:.0f},{b:.1f}" for a, b in both)


def spectrogram(sound: Sound) -> bytes:
    """PNG of the log-mel spectrogram; one column per frame, at most WIDTH; low tones are below."""
    from PIL import Image

    mel_TM = _log_mel(sound)
    if len(mel_TM) > WIDTH:  # the loudest frame of each column, so that no click is lost
        edges = np.linspace(0, len(mel_TM), WIDTH, endpoint=False).astype(np.int64)
        mel_TM = np.maximum.reduceat(mel_TM, edges)
    top = mel_TM.max()
    level_TM = np.clip(1 + (mel_TM - top) / RANGE_DB, 0, 1)
    picture = Image.fromarray((255 * level_TM.T[::-1]).astype(np.uint8), mode="P")
    picture.putpalette(_palette())
    png = io.BytesIO()
    picture.save(png, "PNG", compress_level=6)
    return png.getvalue()


def ticks() -> list[tuple[str, float]]:
    """Frequencies and their heights, 0 below and 1 above."""
    at = FRONT_END.heights(TICKS_HZ)
    return [(f"{f:,} Hz", round(float(a), 4)) for f, a in zip(TICKS_HZ, at, strict=True)]


def _log_mel(sound: Sound) -> npt.NDArray[np.float32]:
    """[T, M] dB. In NumPy: torch would take a second and 200 MB of a page that needs neither."""
    points, hop = FRONT_END.n_fft, FRONT_END.hop
    # Short sounds get finer frames, so that their picture is no staircase.
    hop = max(32, min(hop, len(sound.samples) // WIDTH + 1))
    wave = np.pad(sound.samples.astype(np.float32) / 32768, points // 2)
    frames = np.lib.stride_tricks.sliding_window_view(wave, points)[::hop]
    window = np.hanning(points + 1)[:-1].astype(np.float32)
    bank = FRONT_END.filters().T.astype(np.float32)
    mels = [
        (np.abs(np.fft.rfft(frames[i : i + _HOLD] * window)) ** 2).astype(np.float32) @ bank
        for i in range(0, len(frames), _HOLD)
    ]
    return 10 * np.log10(np.maximum(np.concatenate(mels), 1e-10))


@lru_cache(maxsize=1)
def _palette() -> bytes:
    stops = np.array(_STOPS, float)
    at = np.linspace(0, len(stops) - 1, 256)
    columns = [np.interp(at, np.arange(len(stops)), stops[:, c]) for c in range(3)]
    return np.stack(columns, 1).round().astype(np.uint8).tobytes()
