"""wave -> log-mel windows, by one frozen object that an encoder carries everywhere.

Training, probing and serving share it, so a feature never shifts between them. It works in two
halves, because a cache and augmentation stand between them: ``spectrum`` of a whole recording,
and ``normalise`` for each window that is cut from it. It also is the window policy: training
draws a window anywhere, an embedding is the mean over the windows of ``starts``. torch is
imported on first use: the cache key of a front end is needed by light code.
"""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from acula_model import windowing
from acula_model.waves import Wave, checked

if TYPE_CHECKING:
    import torch

# Shape suffixes: B, K windows, S samples, T frames, M mel bins, F frequencies of the transform.

# Frames transformed at once: more of them leave the processor's cache and take three times as long.
BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class FrontEnd(ABC):
    """How sound becomes the input of an encoder, and how a recording is cut into windows."""

    # Raise when the same settings would give other numbers: it is part of every cache key.
    algorithm: ClassVar[int | str]
    profiles: ClassVar[tuple[str, ...]] = ("consecutive", "published")
    edge: ClassVar[Literal["constant", "reflect"]] = "constant"  # beyond a recording's ends
    floor: ClassVar[float]  # of a spectrum: digital silence
    decibel: ClassVar[float] = 1.0  # in units of a spectrum
    hears_level: ClassVar[bool] = True  # whether a window shows how loud a recording is

    sample_rate: int  # Hz
    n_fft: int  # points of the transform
    hop: int  # samples between frames
    n_mels: int
    f_min: float  # Hz
    f_max: float  # Hz
    frames: int  # frames in a window
    overlap: float = 0.0  # share of a window that the next one hears again
    profile: str = "consecutive"  # ours, or how a published front end cuts recordings

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"mel range {self.f_min}-{self.f_max} Hz does not fit {self.sample_rate} Hz"
            )
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap {self.overlap} is not in [0, 1)")
        if self.profile not in self.profiles:
            known = ", ".join(self.profiles)
            raise ValueError(f"unknown profile {self.profile!r}; known: {known}")

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
    def frame_samples(self) -> int:
        """Samples that a frame hears."""
        return self.n_fft

    @property
    def lead(self) -> int:
        """Samples before a recording's first one that its first frame hears."""
        return self.n_fft // 2

    @property
    def window_samples(self) -> int:
        """Samples of the shortest recording with ``frames`` frames."""
        return (self.frames - 1) * self.hop + self.frame_samples - 2 * self.lead

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
    def policy(self) -> str:
        """How a recording of any length becomes windows, in words; stands beside embeddings."""
        if self.profile != "consecutive":
            return f"{self.profile}: {self._published_policy}"
        step = windowing.step(self.frames, self.overlap) * self.hop / self.sample_rate
        return windowing.in_words(self.window_s, step)

    @property
    def cuts(self) -> bool:
        """Whether windows are cut from a spectrum of the whole recording."""
        return self.profile == "consecutive"

    @property
    def head(self) -> int | None:
        """Samples from a recording's start that are all a window ever hears; None: any may be."""
        return None

    @property
    def one_length(self) -> bool:
        """Whether all windows have ``frames`` frames."""
        return True

    @property
    def depth(self) -> float:
        """How far below its loudest cell a spectrum still matters, in its own units."""
        return math.inf

    def starts(self, total: int) -> list[int]:
        """First frames of the windows whose mean is an embedding, in a spectrum of ``total``."""
        return windowing.starts(total, self.frames, self.overlap) if self.cuts else [0]

    def length(self, total: int) -> int:
        """Frames in each of those windows."""
        return self.frames if self.cuts else total

    def total(self, samples: int) -> int:
        """Frames of the spectrum of a whole recording; a short one repeats its own sound."""
        samples = max(samples, self.window_samples)
        return 1 + (samples + 2 * self.lead - self.frame_samples) // self.hop

    def heard(self, first: int, count: int) -> tuple[int, int]:
        """Samples that frames hear, [start, stop); they may lie outside the recording."""
        start = first * self.hop - self.lead
        return start, start + (count - 1) * self.hop + self.frame_samples

    def excerpt(self, wave: Wave, before: int, after: int) -> "torch.Tensor":
        """Spectrum of a stretch of a recording, before any normalisation.

        Args:
            wave: Samples that the frames hear, shape [S].
            before: How many more they would hear before the recording.
            after: And after it.

        Returns:
            float32, shape [T, n_mels].
        """
        import torch

        padded = torch.from_numpy(np.pad(wave, (before, after), mode=self.edge))
        size, total = self.frame_samples, 1 + (len(padded) - self.frame_samples) // self.hop
        blocks = [
            self._transform(
                padded[at * self.hop : (min(at + BLOCK, total) - 1) * self.hop + size].double()
            )
            for at in range(0, total, BLOCK)
        ]
        return torch.cat(blocks)

    def spectrum(self, wave: "npt.ArrayLike | torch.Tensor") -> "torch.Tensor":
        """Log-mel of a recording before any normalisation.

        Args:
            wave: mono floating-point samples, shape [S], S at least 1.

        Returns:
            float32, shape [K, T, n_mels]. Of the profile ``consecutive`` K is 1 and T, at least
            ``frames``, covers the recording; published profiles give K windows.

        Raises:
            ValueError: if the wave is not mono floating point, is empty, or is not finite.
        """
        samples = checked(wave)
        if not self.cuts:
            return self._published(samples)
        if len(samples) < self.window_samples:
            # Not zeros: normalisation would spend its range on the step to digital silence.
            samples = np.resize(samples, self.window_samples)
        return self._spectrogram(samples)[None]

    def heights(self, hertz: Sequence[float]) -> npt.NDArray[np.float64]:
        """Where frequencies lie in a picture of a spectrum, [len(hertz)]: 0 below, 1 above."""
        filters_MF = self.filters()
        weight_M = filters_MF.sum(1)
        heard = np.flatnonzero(weight_M)  # of Kaldi's lowest bins some hear nothing
        centre_M = filters_MF @ np.linspace(0, self.sample_rate / 2, filters_MF.shape[1])
        return (np.interp(hertz, centre_M[heard] / weight_M[heard], heard) + 0.5) / self.n_mels

    @abstractmethod
    def normalise(self, raw_BTM: "torch.Tensor") -> "torch.Tensor":
        """What the published front end does to each window, on any device.

        Args:
            raw_BTM: Windows of a spectrum, float32, [B, T, M]; not changed.

        Returns:
            float32, [B, T, M]; a window's numbers do not depend on the others.
        """

    def windows(self, wave: "npt.ArrayLike | torch.Tensor") -> "torch.Tensor":
        """The windows whose mean is the embedding of a recording, as an encoder takes them.

        Args:
            wave: mono floating-point samples, shape [S], S at least 1.

        Returns:
            float32, shape [K, frames, n_mels]; K is at least 1.

        Raises:
            ValueError: if the wave is not mono floating point, is empty, or is not finite.
        """
        import torch

        raw_KTM = self.spectrum(wave)
        if self.cuts:
            starts = self.starts(raw_KTM.shape[1])
            raw_KTM = torch.stack([raw_KTM[0, s : s + self.frames] for s in starts])
        return self.normalise(raw_KTM)

    def log_mel(self, wave: "npt.ArrayLike | torch.Tensor") -> "torch.Tensor":
        """Spectrogram of a whole clip as one window, whatever its length.

        Args:
            wave: mono floating-point samples, shape [S].

        Returns:
            float32, shape [T, n_mels]; T grows with S.

        Raises:
            ValueError: if the wave is not mono floating point, is empty, or is not finite.
        """
        return self.normalise(self._spectrogram(checked(wave))[None])[0]

    @abstractmethod
    def filters(self) -> npt.NDArray[np.float64]:
        """Power of each frequency in each bin, [M, F]."""

    @property
    @abstractmethod
    def _published_policy(self) -> str:
        """``policy`` of the published profile."""

    @abstractmethod
    def _published(self, wave: Wave) -> "torch.Tensor":
        """[S] -> [K, T, n_mels]: the spectra of windows as published."""

    @abstractmethod
    def _transform(self, samples: "torch.Tensor") -> "torch.Tensor":
        """float64 [S], nothing missing at the ends -> float32 [T, n_mels]."""

    def _spectrogram(self, wave: Wave) -> "torch.Tensor":
        """[S] -> [T, n_mels], with frames up to the ends."""
        wave = np.pad(wave, (0, max(0, self.frame_samples - 2 * self.lead - len(wave))))
        total = 1 + (len(wave) + 2 * self.lead - self.frame_samples) // self.hop
        _, stop = self.heard(0, total)
        return self.excerpt(wave[:stop], self.lead, max(0, stop - len(wave)))
