"""The front ends of OPERA and AcuLa, and what every front end is (``front_end_base``)."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, get_args

import numpy as np
import numpy.typing as npt

from acula_model import filter_banks, windowing
from acula_model.front_end_base import FrontEnd
from acula_model.waves import Wave

if TYPE_CHECKING:
    import torch

__all__ = ["FrontEnd", "MelFrontEnd", "mel_filters", "power"]

# Shape suffixes: B, K windows, S samples, T frames, M mel bins, F frequencies of the transform.


@dataclass(frozen=True, kw_only=True)
class MelFrontEnd(FrontEnd):
    """Log-mel of OPERA and of the AcuLa release: 0 for a window's floor, 1 for its loudest cell.

    Spectra are in dB. A window's are taken below its loudest cell, cut at ``top_db``, then
    stretched to [0, 1]; one that is equal everywhere (silence) becomes zeros. Equal to librosa
    within 1e-6 and twice as fast.
    """

    algorithm: ClassVar[int | str] = 2
    profiles: ClassVar[tuple[str, ...]] = get_args(windowing.Profile)
    floor: ClassVar[float] = -100.0  # dB, librosa's
    hears_level: ClassVar[bool] = False

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
        if self.profile == "consecutive":
            return
        made = windowing.cut(self.profile, np.ones(1, np.float32), self.window_samples).shape[1]
        if 1 + made // self.hop != self.frames:
            raise ValueError(
                f"profile {self.profile!r} cuts {made} samples, "
                f"which are not {self.frames} frames of hop {self.hop}"
            )

    @property
    def head(self) -> int | None:
        """See ``FrontEnd``."""
        return windowing.ACULA_SAMPLES if self.profile == "acula-train" else None

    @property
    def one_length(self) -> bool:
        """See ``FrontEnd``."""
        return self.profile != "opera-whole"

    @property
    def depth(self) -> float:
        """See ``FrontEnd``. A quiet window of a whole recording has a loudest cell of its own."""
        return math.inf if self.cuts else self.top_db

    def normalise(self, raw_BTM: "torch.Tensor") -> "torch.Tensor":
        """See ``FrontEnd``: dB below the window's loudest cell, cut, stretched to [0, 1]."""
        top = raw_BTM.amax((1, 2), keepdim=True)
        low = raw_BTM.amin((1, 2), keepdim=True).maximum(top - self.top_db)
        return raw_BTM.maximum(low).sub_(low).div_((top - low).clamp_min_(1e-30))

    def filters(self) -> npt.NDArray[np.float64]:
        """See ``FrontEnd``."""
        return mel_filters(self).astype(np.float64)

    @property
    def _published_policy(self) -> str:
        return windowing.PUBLISHED[self.profile]

    def _published(self, wave: Wave) -> "torch.Tensor":
        import torch

        pieces = windowing.cut(self.profile, wave, self.window_samples)
        return torch.stack([self._spectrogram(piece) for piece in pieces])

    def _transform(self, samples: "torch.Tensor") -> "torch.Tensor":
        """The numbers of librosa's melspectrogram and power_to_db.

        The transform is in double precision, as in librosa: in single, cells 80 dB below the
        loudest one are off by 1e-5 and more.
        """
        hann, mel_MF = _constants(self)
        power_MT = mel_MF @ power(samples, self.n_fft, self.hop, hann).float()
        return (10 * power_MT.clamp_min(10 ** (self.floor / 10)).log10()).T.contiguous()


def power(samples: "torch.Tensor", n_fft: int, hop: int, hann: "torch.Tensor") -> "torch.Tensor":
    """Power of the short-time transform, [S] -> [F, T], without padding."""
    import torch

    found_FT = torch.stft(samples, n_fft, hop, window=hann, center=False, return_complex=True)
    # Not view_as_real().square().sum(-1), which takes six times as long.
    return found_FT.real.square() + found_FT.imag.square()


@lru_cache(maxsize=8)
def _constants(front_end: MelFrontEnd) -> "tuple[torch.Tensor, torch.Tensor]":
    """Hann window [n_fft] and mel filters [M, F]."""
    import torch

    return torch.hann_window(front_end.n_fft, dtype=torch.float64), torch.from_numpy(
        mel_filters(front_end)
    )


def mel_filters(front_end: FrontEnd) -> npt.NDArray[np.float32]:
    """The filters of a front end with Slaney's scale, [M, F]; see ``filter_banks.slaney``."""
    settings = (front_end.sample_rate, front_end.n_fft, front_end.n_mels)
    return filter_banks.slaney(*settings, front_end.f_min, front_end.f_max).astype(np.float32)
