"""OPERA-CE: EfficientNet-B0 over a spectrogram, trained like OPERA-CT.

Source: Zhang et al., "Towards Open Respiratory Acoustic Foundation Models", 2024 (OPERA-CE). The
network is transformers' ``EfficientNetModel``, whose padding is fixed like that of the original
(made for pictures of 224 by 224, whatever the input); timm pads by the input and differs.
"""

# B = clips, T = frames, M = mel bins, N = tokens of a clip, D = width of the embedding

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from transformers import EfficientNetConfig, EfficientNetModel

from acula_model.encoders.base import Weights
from acula_model.encoders.two_crop import Objective, TwoCropEncoder
from acula_model.front_end import FrontEnd, MelFrontEnd

WIDTH = 1_280  # of the last map of an EfficientNet-B0
# Share of a new batch in the running statistics: the original's; transformers' 0.99 forgets all.
MOMENTUM = 0.01
# Published name -> transformers', inside a block and around the blocks.
_BLOCK_PARTS = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_se_reduce": "squeeze_excite.reduce",
    "_se_expand": "squeeze_excite.expand",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}
_PARTS = {
    "_conv_stem": "embeddings.convolution",
    "_bn0": "embeddings.batchnorm",
    "_conv_head": "encoder.top_conv",
    "_bn1": "encoder.top_bn",
}


@dataclass(frozen=True, kw_only=True)
class OperaCEConfig:
    """Sizes of an OPERA-CE; the defaults are the published ones."""

    n_mels: int = 64
    frozen_statistics: bool = True  # see ``PreservingEncoder``
    objective: Objective = "two_crop"


class OperaCE(TwoCropEncoder):
    """One convolution to three channels, then EfficientNet-B0; the mean over its last map."""

    published = Weights(
        source="evelyn0414/OPERA: encoder-operaCE.ckpt",
        revision="d8de432",
        licence="MIT, as OPERA's repository says; trained in part on COVID-19 Sounds, whose data "
        "transfer agreement is separate",
    )

    def __init__(self, name: str, config: OperaCEConfig, front_end: FrontEnd):
        super().__init__(WIDTH, config.objective)
        if front_end.n_mels != config.n_mels:
            raise ValueError(f"takes {config.n_mels} mel bins; got {front_end.n_mels}")
        self.name, self.front_end, self.width = name, front_end, WIDTH
        self.config: dict[str, Any] = asdict(config)
        self.frozen_statistics = config.frozen_statistics
        self.n_mels = config.n_mels
        self.first = nn.Conv2d(1, 3, 3)
        self.model = EfficientNetModel(
            EfficientNetConfig(
                width_coefficient=1.0,
                depth_coefficient=1.0,
                image_size=224,
                hidden_dim=WIDTH,
                # transformers drops single numbers where the original drops whole blocks.
                drop_connect_rate=0.0,
            )
        )
        self._initialise()

    def embed(self, mel_BTM: Tensor) -> Tensor:
        """[B, T, M] -> [B, D]; see ``AudioEncoder``. Any T of at least 3 frames."""
        return self.tokens(mel_BTM).mean(1)

    def tokens(self, mel_BTM: Tensor) -> Tensor:
        """[B, T, M] -> [B, N, D], a token per cell of the last map (32 frames by 32 bins)."""
        if mel_BTM.ndim != 3 or mel_BTM.shape[2] != self.n_mels:
            raise ValueError(f"takes [B, T, {self.n_mels}]; got {list(mel_BTM.shape)}")
        map_ = self.model(pixel_values=self.first(mel_BTM[:, None])).last_hidden_state
        return map_.flatten(2).mT

    def own_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of OPERA files; see ``AudioEncoder``."""
        return {_own_key(key): tensor for key, tensor in super().own_keys(state).items()}

    def _initialise(self) -> None:
        """He et al., 2015: transformers starts the norms at 0.02, where nothing gets through."""
        for module in self.model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                module.momentum = MOMENTUM
                nn.init.ones_(module.weight)


def _own_key(key: str) -> str:
    if key.startswith("encoder.cnn1."):
        return key.replace("encoder.cnn1.", "first.")
    if not key.startswith("encoder.efficientnet."):
        return key
    key = key.removeprefix("encoder.efficientnet.")
    if not key.startswith("_blocks."):
        part, rest = key.split(".", 1)
        return f"model.{_PARTS.get(part, part)}.{rest}"
    _, block, part, rest = key.split(".", 3)
    return f"model.encoder.blocks.{block}.{_BLOCK_PARTS.get(part, part)}.{rest}"


def opera_ce(*, front_end: FrontEnd | Mapping[str, Any] | None = None, **config: Any) -> OperaCE:
    """The published OPERA-CE: 4.0 M parameters, 0.9 M in the head of its contrast, width 1280.

    Args:
        front_end: How sound becomes its input; if not given, the windows of OPERA-GT.
        config: Fields of ``OperaCEConfig`` that differ from the published ones.
    """
    return OperaCE("opera_ce", OperaCEConfig(**config), MelFrontEnd.given(front_end))
