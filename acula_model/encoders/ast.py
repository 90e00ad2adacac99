"""AST: a vision transformer over overlapping spectrogram patches, trained to name general sounds.

Source: Gong et al., "AST: Audio Spectrogram Transformer", 2021. The network is transformers'
``ASTModel``.
"""

# B = clips, T = frames, M = mel bins, F = frequencies, N = tokens of a clip, D = width

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ASTConfig, ASTModel

from acula_model import filter_banks
from acula_model.encoders import hugging_face
from acula_model.encoders.base import Weights
from acula_model.encoders.preservation import PreservingEncoder
from acula_model.front_end import FrontEnd
from acula_model.waves import Wave
from acula_model.weights import load_strictly

PUBLISHED = Weights(source="MIT/ast-finetuned-audioset-10-10-0.4593", licence="BSD-3-Clause")
FRAME = 400  # samples in a frame (25 ms at 16 kHz), padded with zeros to n_fft
PREEMPHASIS = 0.97
FLOOR = 1.1920929e-7  # Kaldi's: the smallest step of a float above 1
# Of the log-mels of AudioSet; the published weights expect (x - mean) / (2 deviations).
MEAN, DEVIATION = -4.2677393, 4.5689974
# In a file of the classifier, beside the transformer.
_UNUSED = ("classifier.",)
# What a checkpoint may differ in without any shape telling.
_SIZES = (
    "num_attention_heads", "patch_size", "frequency_stride", "time_stride", "max_length",
    "num_mel_bins", "hidden_act", "layer_norm_eps",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ASTFrontEnd(FrontEnd):
    """Log filter banks as Kaldi computes them.

    The profile ``published`` is equal to ``ASTFeatureExtractor``.
    That one computes them with torchaudio where it is installed and without it otherwise; here
    they do not depend on the environment.
    """

    algorithm: ClassVar[int | str] = "kaldi-2"
    floor: ClassVar[float] = math.log(FLOOR)
    decibel: ClassVar[float] = math.log(10) / 10  # spectra are natural logarithms of power

    sample_rate: int = 16_000  # Hz
    n_fft: int = 512
    hop: int = 160  # samples between frames (10 ms)
    n_mels: int = 128  # Kaldi's bins
    f_min: float = 20.0  # Hz
    f_max: float = 8_000.0  # Hz
    frames: int = 1_024  # frames in a window (10.3 s)

    @property
    def frame_samples(self) -> int:
        """See ``FrontEnd``."""
        return FRAME

    @property
    def lead(self) -> int:
        """See ``FrontEnd``: frames lie within the recording."""
        return 0

    def normalise(self, raw_BTM: Tensor) -> Tensor:
        """See ``FrontEnd``: the same for all windows."""
        return (raw_BTM - MEAN) / (2 * DEVIATION)

    def filters(self) -> npt.NDArray[np.float64]:
        """See ``FrontEnd``."""
        settings = (self.sample_rate, self.n_fft, self.n_mels)
        return filter_banks.kaldi(*settings, self.f_min, self.f_max)

    @property
    def _published_policy(self) -> str:
        return (
            f"the first {self.window_s:.4g} s; a shorter recording is followed by frames of zeros"
        )

    def _published(self, wave: Wave) -> Tensor:
        raw_TM = self._spectrogram(wave[: self.window_samples])
        return F.pad(raw_TM, (0, 0, 0, self.frames - len(raw_TM)))[None]

    def _transform(self, samples: Tensor) -> Tensor:
        hann, mel_MF = _constants(self)
        frames_TS = samples.unfold(0, FRAME, self.hop)
        frames_TS = frames_TS - frames_TS.mean(1, keepdim=True)
        before_TS = torch.cat((frames_TS[:, :1], frames_TS[:, :-1]), dim=1)
        power_TF = torch.fft.rfft((frames_TS - PREEMPHASIS * before_TS) * hann, self.n_fft)
        power_TF = power_TF.real.square() + power_TF.imag.square()
        return (power_TF @ mel_MF.T).clamp_min(FLOOR).log().float()


@lru_cache(maxsize=8)
def _constants(front_end: ASTFrontEnd) -> tuple[Tensor, Tensor]:
    """Hann window [FRAME] and filters [M, F], triangles on Kaldi's mel scale."""
    hann = torch.hann_window(FRAME, periodic=False, dtype=torch.float64)
    return hann, torch.from_numpy(front_end.filters())


@dataclass(frozen=True, kw_only=True)
class ASTSizes:
    """Sizes of an AST; the defaults are the published ones."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3_072  # of the MLP
    patch: int = 16  # frames, and mel bins
    stride: int = 10  # frames, and mel bins, between patches
    frames: int = 1_024
    n_mels: int = 128

    def for_transformers(self) -> ASTConfig:
        """The same as transformers names it."""
        return ASTConfig(
            hidden_size=self.width,
            num_hidden_layers=self.depth,
            num_attention_heads=self.heads,
            intermediate_size=self.hidden,
            patch_size=self.patch,
            frequency_stride=self.stride,
            time_stride=self.stride,
            max_length=self.frames,
            num_mel_bins=self.n_mels,
        )


class AST(PreservingEncoder):
    """Mean of the two class tokens after the last norm."""

    published = PUBLISHED

    def __init__(self, name: str, config: ASTSizes, front_end: FrontEnd):
        super().__init__()
        if (front_end.frames, front_end.n_mels) != (config.frames, config.n_mels):
            raise ValueError(
                f"the front end makes {front_end.frames} x {front_end.n_mels}, "
                f"the encoder takes {config.frames} x {config.n_mels}"
            )
        self.name, self.front_end, self.width = name, front_end, config.width
        self.config: dict[str, Any] = asdict(config)
        self.shape = [config.frames, config.n_mels]
        self.model = ASTModel(config.for_transformers())
        for place in ("cls_token", "distillation_token", "position_embeddings"):
            # transformers starts them at zero, for weights that replace them.
            torch.nn.init.trunc_normal_(getattr(self.model.embeddings, place), std=0.02)

    def embed(self, mel_BTM: Tensor) -> Tensor:
        """[B, T, M] -> [B, D]; see ``AudioEncoder``. T is that of a window."""
        return self._states(mel_BTM)[:, :2].mean(1)

    def tokens(self, mel_BTM: Tensor) -> Tensor:
        """[B, T, M] -> [B, N, D], a token per patch, mel-major."""
        return self._states(mel_BTM)[:, 2:]

    def load_pretrained(self, source: str, revision: str | None = None) -> None:
        """Load a checkpoint of AST, with or without its classifier; see ``AudioEncoder``."""
        found, weights = hugging_face.load(ASTModel, source, revision, PUBLISHED.licence, _UNUSED)
        hugging_face.check_sizes(self.model.config, found.config, _SIZES)
        load_strictly(self.model, found.state_dict())
        self.weights = weights

    def _states(self, mel_BTM: Tensor) -> Tensor:
        if list(mel_BTM.shape[1:]) != self.shape:
            raise ValueError(f"takes [B, {self.shape[0]}, {self.shape[1]}]; got {mel_BTM.shape}")
        return self.model(input_values=mel_BTM).last_hidden_state


def ast(*, front_end: FrontEnd | Mapping[str, Any] | None = None, **config: Any) -> AST:
    """The published AST: 86.2 M parameters, width 768.

    Args:
        front_end: How sound becomes its input; the published numbers if not given.
        config: Fields of ``ASTSizes`` that differ from the published ones.
    """
    sizes = ASTSizes(**config)
    given = ASTFrontEnd.given(front_end, frames=sizes.frames, n_mels=sizes.n_mels)
    return AST("ast", sizes, given)
