"""CLAP: HTS-AT trained to agree with captions of general sounds, without its text tower.

Source: Wu et al., "Large-Scale Contrastive Language-Audio Pretraining with Feature Fusion and
Keyword-to-Caption Augmentation", 2023; the variant without fusion, since windows are as long as
the network hears. The embedding is the tower's own, before the projection to captions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import ClapAudioModelWithProjection

from acula_model import windowing
from acula_model.encoders import hugging_face
from acula_model.encoders.base import Weights
from acula_model.encoders.htsat import HtsAt, HtsAtConfig
from acula_model.front_end import FrontEnd, mel_filters, power
from acula_model.waves import Wave
from acula_model.weights import load_strictly

PUBLISHED = Weights(source="laion/clap-htsat-unfused", licence="Apache-2.0")
# In a file of the whole CLAP, beside the audio tower and its projection.
_UNUSED = ("text_model.", "text_projection.", "logit_scale_")
# What a checkpoint may differ in without any shape telling.
_SIZES = (
    "depths",
    "num_attention_heads",
    "window_size",
    "spec_size",
    "enable_fusion",
    "hidden_act",
)


@dataclass(frozen=True, kw_only=True)
class ClapFrontEnd(FrontEnd):
    """Log-mel of CLAP in dB, as loud as the sound is.

    The profile ``published`` is equal to ``ClapFeatureExtractor``, which draws a place at random
    in a longer recording where this one takes the first.
    A recording of a lower rate is raised to 48 kHz and has nothing above half its own rate.
    """

    algorithm: ClassVar[int | str] = "clap-2"
    edge: ClassVar[Literal["constant", "reflect"]] = "reflect"
    floor: ClassVar[float] = -100.0  # dB

    sample_rate: int = 48_000  # Hz
    n_fft: int = 1_024  # samples in a frame (21 ms), Hann window
    hop: int = 480  # samples between frames (10 ms)
    n_mels: int = 64  # Slaney bins
    f_min: float = 50.0  # Hz
    f_max: float = 14_000.0  # Hz
    frames: int = 1_001  # frames in a window (10 s)

    def normalise(self, raw_BTM: Tensor) -> Tensor:
        """See ``FrontEnd``: CLAP takes dB as they are."""
        return raw_BTM

    def filters(self) -> npt.NDArray[np.float64]:
        """See ``FrontEnd``."""
        return mel_filters(self).astype(np.float64)

    @property
    def _published_policy(self) -> str:
        return (
            f"the first {self.window_s:.4g} s; a shorter recording repeats itself as often as it "
            "fits, zeros after that"
        )

    def _published(self, wave: Wave) -> Tensor:
        window = self.window_samples
        return self._spectrogram(windowing.repeat_whole(wave[:window], window))[None]

    def _transform(self, samples: Tensor) -> Tensor:
        hann, mel_MF = _constants(self)
        power_MT = mel_MF @ power(samples, self.n_fft, self.hop, hann)
        return (10 * power_MT.clamp_min(10 ** (self.floor / 10)).log10()).T.float().contiguous()


@lru_cache(maxsize=8)
def _constants(front_end: ClapFrontEnd) -> tuple[Tensor, Tensor]:
    """Hann window [n_fft] and mel filters [M, F], both in double precision."""
    hann = torch.hann_window(front_end.n_fft, dtype=torch.float64)
    return hann, torch.from_numpy(mel_filters(front_end).astype(np.float64))


class Clap(HtsAt):
    """The audio tower of CLAP."""

    published = PUBLISHED

    def load_pretrained(self, source: str, revision: str | None = None) -> None:
        """Load a checkpoint of CLAP, whole or its audio tower; see ``AudioEncoder``."""
        found, weights = hugging_face.load(
            ClapAudioModelWithProjection, source, revision, PUBLISHED.licence, _UNUSED
        )
        hugging_face.check_sizes(self.model.config, found.config, _SIZES)
        load_strictly(self.model, found.audio_model.state_dict())
        self.weights = weights


def clap(*, front_end: FrontEnd | Mapping[str, Any] | None = None, **config: Any) -> Clap:
    """The published CLAP's audio tower: 27.5 M parameters, width 768.

    Args:
        front_end: How sound becomes its input; the published numbers if not given.
        config: Fields of ``HtsAtConfig`` that differ from the published ones.
    """
    return Clap("clap", HtsAtConfig(**config), ClapFrontEnd.given(front_end))
