"""wave -> log-mel windows, by one frozen object that an encoder carries everywhere.

Training, probing and serving share it, so a feature never shifts between them. It also is the
window policy: training draws one of a recording's windows at random, an embedding is the mean
over all of them. torch is imported on first use: the cache key of a front end is needed by light
code.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from acula_model import windowing
from acula_model.waves import Wave, checked

if TYPE_CHECKING:
    import torch

# Shape suffixes: K windows, S samples, T frames, M mel bins, F frequencies of the transform.


@dataclass(frozen=True, kw_only=True)
class FrontEnd(ABC):
    """How sound becomes the input of an encoder, and how a recording is cut into windows."""

    # Raise when the same settings would give other numbers: it is part of every cache key.
    algorithm: ClassVar[int | str]

    sample_rate: int  # Hz
    n_fft: int  # points of the transform
    hop: int  # samples between frames
    n_mels: int
    f_min: float  # Hz
    f_max: float  # Hz
    frames: int  # frames in a window
    overlap: float = 0.0  # share of a window that the next one hears again

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"mel range {self.f_min}-{self.f_max} Hz does not fit {self.sample_rate} Hz"
            )
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap {self.overlap} is not in [0, 1)")

    @classmethod
    def given(cls, front_end: "FrontEnd | Mapping[str, Any] | None", **default: Any) -> Self:
        """The front end itself, one of its settings (as a checkpoint keeps them), or a default.

        Raises:
            TypeError: A front end of another kind, or settings that this one does not have.
        """
        if front_end is None:
            return cls(**default)
        if isinstance(front_end, Mapping):
            return cls(**front_end)
        if not isinstance(front_end, cls):
            raise TypeError(f"takes a {cls.__name__}, not a {type(front_end).__name__}")
        return front_end

    @property
    def window_samples(self) -> int:
        """Samples in a window: the first and the last frame are centred on its ends."""
        return (self.frames - 1) * self.hop

    @property
    def window_s(self) -> float:
        """Seconds in a window."""
        return self.window_samples / self.sample_rate

    @property
    def key(self) -> str:
        """Eight hexadecimal digits that change with any setting; a cache stands under it."""
        text = json.dumps({"algorithm": self.algorithm, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    @abstractmethod
    def policy(self) -> str:
        """How a recording of any length becomes windows, in words; stands beside embeddings."""

    def log_mel(self, wave: "npt.ArrayLike | torch.Tensor") -> "torch.Tensor":
        """Spectrogram of a whole clip.

        Args:
            wave: mono floating-point samples, shape [S].

        Returns:
            float32, shape [T, n_mels]; T grows with S.

        Raises:
            ValueError: if the wave is not mono floating point, is empty, or is not finite.
        """
        return self._spectrogram(checked(wave))

    def windows(self, wave: "npt.ArrayLike | torch.Tensor") -> "torch.Tensor":
        """Spectrograms of the windows of a clip, each normalised by itself.

        Args:
            wave: mono floating-point samples, shape [S], S at least 1.

        Returns:
            float32, shape [K, frames, n_mels]; K is at least 1.

        Raises:
            ValueError: if the wave is not mono floating point, is empty, or is not finite.
        """
        import torch

        # One by one: a batch leaves the processor's cache and takes three times as long.
        return torch.stack([self._window(piece) for piece in self._cut(checked(wave))])

    @abstractmethod
    def _cut(self, wave: Wave) -> Iterable[Wave]:
        """[S] -> the sound of each window."""

    def _window(self, wave: Wave) -> "torch.Tensor":
        """[S], one of ``_cut``'s -> [frames, n_mels]."""
        return self._spectrogram(wave)

    @abstractmethod
    def _spectrogram(self, wave: Wave) -> "torch.Tensor":
        """[S] -> [T, n_mels]."""


@dataclass(frozen=True, kw_only=True)
class MelFrontEnd(FrontEnd):
    """Log-mel of OPERA and of the AcuLa release: 0 for a window's floor, 1 for its loudest cell.

    Power in dB below the loudest cell, cut at ``top_db``, then stretched to [0, 1]. A clip that
    is equal everywhere (silence) becomes zeros. Equal to librosa within 1e-6 and twice as fast.
    """

    algorithm: ClassVar[int | str] = 1

    sample_rate: int = 16_000  # Hz
    n_fft: int = 1_024  # samples in a frame (64 ms), Hann window
    hop: int = 512  # samples between frames (32 ms)
    n_mels: int = 64  # Slaney bins
    f_min: float = 50.0  # Hz
    f_max: float = 8_000.0  # Hz
    frames: int = 256  # frames in a window (8.16 s)
    top_db: float = 80.0  # dB below the loudest cell that become 0
    profile: windowing.Profile = "consecutive"  # how a recording is cut into windows

    def __post_init__(self) -> None:
        """Refuse settings that cannot give windows of ``frames`` frames."""
        super().__post_init__()
        probe = windowing.cut(self.profile, np.ones(1, np.float32), self.window_samples, 0.0)
        if 1 + probe.shape[1] // self.hop != self.frames:
            raise ValueError(
                f"profile {self.profile!r} cuts {probe.shape[1]} samples, "
                f"which are not {self.frames} frames of hop {self.hop}"
            )

    @property
    def policy(self) -> str:
        """See ``FrontEnd``."""
        if self.profile != "consecutive":
            return f"{self.profile}: {windowing.PUBLISHED[self.profile]}"
        return windowing.in_words(self.window_s, self.overlap, "repeats its own sound")

    def _cut(self, wave: Wave) -> Wave:
        return windowing.cut(self.profile, wave, self.window_samples, self.overlap)

    def _spectrogram(self, wave: Wave) -> "torch.Tensor":
        return _log_mel(self, wave)


def _log_mel(front_end: MelFrontEnd, wave_S: Wave) -> "torch.Tensor":
    """[S] -> [T, M]; the numbers of librosa's melspectrogram and power_to_db(ref=max).

    The transform is in double precision, as in librosa: in single, cells 80 dB below the loudest
    one are off by 1e-5 and more.
    """
    import torch

    hann, mel_MF = _constants(front_end)
    spectrum_FT = torch.stft(
        torch.tensor(wave_S, dtype=hann.dtype),
        front_end.n_fft,
        front_end.hop,
        window=hann,
        pad_mode="constant",
        return_complex=True,
    )
    # Not view_as_real().square().sum(-1), which takes six times as long.
    power_FT = (spectrum_FT.real.square() + spectrum_FT.imag.square()).float()
    db_MT = 10 * (mel_MF @ power_FT).clamp_min(1e-10).log10()  # 1e-10: librosa's floor
    db_MT = (db_MT - db_MT.max()).clamp_min(-front_end.top_db)
    low = db_MT.min()
    if low < 0:
        db_MT = (db_MT - low) / -low
    return db_MT.T.contiguous()


@lru_cache(maxsize=8)
def _constants(front_end: MelFrontEnd) -> "tuple[torch.Tensor, torch.Tensor]":
    """Hann window [n_fft] and mel filters [M, F]."""
    import torch

    return torch.hann_window(front_end.n_fft, dtype=torch.float64), torch.from_numpy(
        mel_filters(front_end)
    )


def mel_filters(front_end: FrontEnd) -> npt.NDArray[np.float32]:
    """Triangular filters on Slaney's mel scale, each of unit area, shape [M, F].

    Source: M. Slaney, Auditory Toolbox, 1998 (linear below 1 kHz, logarithmic above); equal to
    ``librosa.filters.mel(htk=False, norm="slaney")``.
    """
    ends = _hz_to_mel(np.array([front_end.f_min, front_end.f_max]))
    edges = _mel_to_hz(np.linspace(ends[0], ends[1], front_end.n_mels + 2))
    hz = np.linspace(0, front_end.sample_rate / 2, front_end.n_fft // 2 + 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rise, fall = (hz - low) / (centre - low), (high - hz) / (high - centre)
    return (np.maximum(0, np.minimum(rise, fall)) * 2 / (high - low)).astype(np.float32)


# Slaney's scale: 200/3 Hz per mel up to 1 kHz (15 mel), then 27 mel per factor of 6.4.
_HZ_PER_MEL, _KNEE_HZ, _LOG_STEP = 200 / 3, 1_000.0, np.log(6.4) / 27


def _hz_to_mel(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = np.log(np.maximum(hz, _KNEE_HZ) / _KNEE_HZ) / _LOG_STEP
    return np.minimum(hz, _KNEE_HZ) / _HZ_PER_MEL + above


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    knee = _KNEE_HZ / _HZ_PER_MEL
    return np.minimum(mel, knee) * _HZ_PER_MEL * np.exp(_LOG_STEP * np.maximum(mel - knee, 0))
