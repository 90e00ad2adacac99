"""HTS-AT, the audio tower of CLAP and of OPERA-CT: a Swin transformer over a folded spectrogram.

Source: Chen et al., "HTS-AT", 2022. The network is transformers' ``ClapAudioModel``; what is ours
is the mean over the crops of an input that is longer than the network takes.
"""

# B = clips, T = frames, M = mel bins, N = tokens of a clip, D = width of the embedding

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import ClapAudioConfig, ClapAudioModel

from acula_model.encoders.two_crop import Objective, TwoCropEncoder
from acula_model.front_end import FrontEnd

LONGEST = 1_024  # frames: a side of the folded map is 256, four strips of frames by 64 bins


@dataclass(frozen=True, kw_only=True)
class HtsAtConfig:
    """Sizes of an HTS-AT; the defaults are those of OPERA-CT and of CLAP's tiny tower."""

    patch_width: int = 96  # doubles at each stage
    depths: tuple[int, ...] = (2, 2, 6, 2)  # blocks of a stage
    heads: tuple[int, ...] = (4, 8, 16, 32)
    # Off, though both were trained with some: an encoder in training then says what it says in
    # probing, its distance to the original starts at zero, and a resumed run repeats.
    drop_path: float = 0.0
    dropout: float = 0.0
    frozen_statistics: bool = True  # see ``PreservingEncoder``
    objective: Objective = "distillation"

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together."""
        for name in ("depths", "heads"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has no tuples
        if len(self.depths) != len(self.heads):
            raise ValueError(f"depths {self.depths} and heads {self.heads} differ in length")

    @property
    def width(self) -> int:
        """D."""
        return self.patch_width * 2 ** (len(self.depths) - 1)

    def for_transformers(self) -> ClapAudioConfig:
        """The same as transformers names it."""
        return ClapAudioConfig(
            patch_embeds_hidden_size=self.patch_width,
            depths=list(self.depths),
            num_attention_heads=list(self.heads),
            num_hidden_layers=len(self.depths),
            hidden_size=self.width,
            drop_path_rate=self.drop_path,
            hidden_dropout_prob=self.dropout,
        )


class HtsAt(TwoCropEncoder):
    """Mean over the normed last map."""

    def __init__(self, name: str, config: HtsAtConfig, front_end: FrontEnd):
        super().__init__(config.width, config.objective)
        self.name, self.front_end, self.width = name, front_end, config.width
        self.config: dict[str, Any] = asdict(config)
        self.frozen_statistics = config.frozen_statistics
        self.model = ClapAudioModel(config.for_transformers())
        self.n_mels = self.model.config.num_mel_bins
        if front_end.n_mels != self.n_mels:
            raise ValueError(f"takes {self.n_mels} mel bins; the front end has {front_end.n_mels}")

    def embed(self, mel_BTM: Tensor) -> Tensor:
        """[B, T, M] -> [B, D]; see ``AudioEncoder``. Any T: the mean over crops of 1,024."""
        return self.tokens(mel_BTM).mean(1)

    def tokens(self, mel_BTM: Tensor) -> Tensor:
        """[B, T, M] -> [B, N, D]; those of all crops, where there are several."""
        if mel_BTM.ndim != 3 or mel_BTM.shape[2] != self.n_mels:
            raise ValueError(f"takes [B, T, {self.n_mels}]; got {list(mel_BTM.shape)}")
        crops = [mel_BTM[:, start : start + LONGEST] for start in crop_starts(mel_BTM.shape[1])]
        maps = [self.model(input_features=crop[:, None]).last_hidden_state for crop in crops]
        return torch.cat([map_.flatten(2).mT for map_ in maps], dim=1)


def crop_starts(frames: int) -> list[int]:
    """First frames of the crops of an input, as OPERA-CT takes them in evaluation.

    Each half a crop after the last, and never one that reaches the end; where that leaves none
    (1,025 frames, which stops the original) there is one at the start.
    """
    return list(range(0, frames - LONGEST - 1, LONGEST // 2)) or [0]
