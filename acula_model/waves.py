"""samples as they come -> mono float32 at an encoder's rate, or the reason why they are no sound.

What loses nothing is converted: 16-bit integers, channels that are equal, a lower sample rate.
Everything else is an error: mixing channels and dropping high frequencies are decisions about
data, and those are taken once, where files are read. Only numpy is imported.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Wave = npt.NDArray[np.float32]
# Full scale is 1; filters overshoot it a little, integers that were only cast exceed it by far.
LOUDEST = 32.0


def prepared(samples: "npt.ArrayLike | torch.Tensor", rate: int, wanted: int) -> Wave:
    """Convert what can be converted without loss.

    Args:
        samples: Floating point or int16, [S], or [S, C] as soundfile reads it.
        rate: Of the samples, Hz.
        wanted: Rate of the encoder, Hz; a lower ``rate`` is raised to it (soxr HQ), which adds
            nothing: the sound has no frequencies above ``rate / 2``.

    Returns:
        float32 mono, [S], full scale 1.

    Raises:
        ValueError: Channels that differ, another type, empty, samples that are not finite,
            not scaled or all equal (silence), or a rate above the wanted one.
    """
    wave = np.asarray(samples)
    if wave.ndim == 2 and wave.shape[1] in (1, 2):
        first, last = wave[:, 0], wave[:, -1]
        if np.isfinite(first).all() and not np.array_equal(first, last):
            raise ValueError("two channels that differ: a wave is mono; choose or mix them first")
        wave = first
    if wave.dtype == np.int16:
        wave = wave / np.float32(2**15)
    wave = checked(wave)
    if (loudest := np.abs(wave).max()) > LOUDEST:
        raise ValueError(f"samples reach {loudest:g}: full scale is 1; scale integers first")
    if wave.min() == wave.max():
        raise ValueError("the wave is silent: all samples are equal")
    if rate == wanted:
        return wave
    if not 0 < rate < wanted:
        raise ValueError(f"{rate} Hz is not the {wanted} Hz of the encoder: resample it first")
    import soxr

    return soxr.resample(wave, rate, wanted, quality="HQ")


def checked(wave: "npt.ArrayLike | torch.Tensor") -> Wave:
    """The samples as float32, or the reason why they are no sound."""
    samples = np.asarray(wave)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(
            f"a wave is mono floating point, [S]; got {samples.dtype} {list(samples.shape)}"
        )
    if not samples.size:
        raise ValueError("the wave is empty")
    if not np.isfinite(samples).all():
        raise ValueError("the wave has samples that are not finite")
    return samples.astype(np.float32, copy=False)
