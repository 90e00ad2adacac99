"""OPERA-GT: a vision transformer over spectrogram patches, trained by filling in hidden ones.

Source: Zhang et al., "Towards Open Respiratory Acoustic Foundation Models", 2024 (OPERA-GT),
after He et al., "Masked Autoencoders Are Scalable Vision Learners", 2022. ``opera_gt`` has the
published sizes and quirks and takes the published weights; ``opera_gt_small`` is the same idea
at a size that two processor cores can train.
"""

# B = clips, T = frames, M = mel bins, N = patches of a clip, V = visible ones, P = cells of a
# patch, D = width of a token

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from acula_model import noise
from acula_model.encoders.base import AudioEncoder, Weights
from acula_model.encoders.opera_gt_decoder import Decoder, Kind, block_layer
from acula_model.encoders.patches import (
    ConvStem,
    PatchStem,
    sine_cosine,
    to_patches,
)
from acula_model.front_end import FrontEnd, MelFrontEnd

PUBLISHED = Weights(
    source="evelyn0414/OPERA: encoder-operaGT.ckpt",
    revision="d8de432",
    licence="MIT, as OPERA's repository says; its files descend from AudioMAE (CC BY-NC 4.0), and "
    "it was trained in part on COVID-19 Sounds, whose data transfer agreement is separate",
)


@dataclass(frozen=True, kw_only=True)
class OperaGTConfig:
    """Sizes of an OPERA-GT; the defaults are the published ones."""

    frames: int = 256  # the longest input is this many frames and what fills no patch
    n_mels: int = 64
    patch: tuple[int, int] = (4, 4)  # frames, mel bins
    width: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: float = 4.0
    mask_ratio: float = 0.7  # share of patches hidden in the masked loss
    # spectrum: each bin minus its mean over the window, over the window's deviation. Takes out the
    # colour of device and room, which is most of what a small encoder otherwise spends itself on.
    standardise: Literal["none", "spectrum"] = "none"
    stem: Literal["patch", "conv"] = "patch"
    stem_channels: int = 16  # filters of a convolutional stem
    decoder: Kind = "windows"
    decoder_width: int = 256
    decoder_depth: int = 16
    decoder_heads: int = 16
    # The published position tables are laid out for mel-major tokens while tokens are time-major.
    swapped_positions: bool = True

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together."""
        object.__setattr__(self, "patch", tuple(self.patch))  # JSON has no tuples
        if self.frames % self.patch[0] or self.n_mels % self.patch[1]:
            raise ValueError(f"patches of {self.patch} do not tile {self.frames} x {self.n_mels}")
        if self.stem == "conv" and self.patch[1] % 2:
            raise ValueError(f"a convolutional stem halves the mel bins of {self.patch}")
        for what, width, heads in (
            ("width", self.width, self.heads),
            ("decoder_width", self.decoder_width, self.decoder_heads),
        ):
            if width % heads:
                raise ValueError(f"{what} {width} is not a multiple of {heads} heads")
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio {self.mask_ratio} is not between 0 and 1")

    @property
    def raster(self) -> tuple[int, int]:
        """Rows and columns of the position tables."""
        time, bands = self.frames // self.patch[0], self.n_mels // self.patch[1]
        return (bands, time) if self.swapped_positions else (time, bands)


@dataclass(frozen=True)
class MaskedPass:
    """What one masked pass gives.

    Attributes:
        loss: Mean squared error on hidden patches, scalar.
        latent_BVD: Visible patches after the last norm, after the class token: [B, 1 + V, D].
        hidden_BN: True where a patch was hidden.
        predicted_BNP: All patches as the decoder predicts them.
        embedding_BD: Like ``embed``, but of the visible patches only.
    """

    loss: Tensor
    latent_BVD: Tensor
    hidden_BN: Tensor
    predicted_BNP: Tensor
    embedding_BD: Tensor


class OperaGT(AudioEncoder):
    """Pre-norm transformer over patches; the embedding is the norm of the mean over patches."""

    pos_embed: Tensor

    def __init__(self, name: str, config: OperaGTConfig, front_end: FrontEnd):
        super().__init__()
        if (front_end.frames, front_end.n_mels) != (config.frames, config.n_mels):
            raise ValueError(
                f"the front end makes {front_end.frames} x {front_end.n_mels}, "
                f"the encoder takes {config.frames} x {config.n_mels}"
            )
        self.name, self.front_end, self.width = name, front_end, config.width
        self.config: dict[str, Any] = asdict(config)
        self.sizes = config
        if config.stem == "conv":
            self.patch_embed = ConvStem(config.patch, config.width, config.stem_channels)
        else:
            self.patch_embed = PatchStem(config.patch, config.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.register_buffer("pos_embed", sine_cosine(*config.raster, config.width))
        self.blocks = nn.ModuleList(
            block_layer(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        cells = config.patch[0] * config.patch[1]
        self.decoder = Decoder(
            config.decoder,
            config.raster,
            (config.width, config.decoder_width, cells),
            config.decoder_depth,
            config.decoder_heads,
        )
        self._initialise()

    def embed(self, mel_BTM: Tensor) -> Tensor:
        """[B, T, M] -> [B, D]; see ``AudioEncoder``. T is at least one patch."""
        return self.norm(self._unmasked(mel_BTM)[:, 1:].mean(1))

    def tokens(self, mel_BTM: Tensor) -> Tensor:
        """[B, T, M] -> [B, N, D], a normed token per patch, time-major."""
        return self.norm(self._unmasked(mel_BTM)[:, 1:])

    def self_supervised_loss(self, mel_BTM: Tensor, seed_B: Tensor) -> Tensor:
        """Mean squared error on hidden patches; see ``AudioEncoder``."""
        return self.masked(mel_BTM, seed_B).loss

    def masked(self, mel_BTM: Tensor, seed_B: Tensor, noise_BN: Tensor | None = None) -> MaskedPass:
        """Encode the visible patches and predict the hidden ones.

        Its embedding lets one pass serve both losses, at less than half the time of two; that
        changes the objective, so it is for those who ask for it.

        Args:
            mel_BTM: Windows, [B, T, M].
            seed_B: Of each clip's mask. The first one's also seeds the dropout of a windows
                decoder in training mode, which the clips of a batch share.
            noise_BN: The masks' draw instead of the seeds': the lowest stay visible.
        """
        patches_BNP = self._patches(mel_BTM)
        if noise_BN is None:
            noise_BN = noise.uniform(seed_B, patches_BNP.shape[1:2], noise.OBJECTIVE)
        order_BN = noise_BN.argsort(dim=1, stable=True)  # equal numbers occur: 2^24 values
        place_BN = order_BN.argsort(1)
        visible = max(1, int(patches_BNP.shape[1] * (1 - self.sizes.mask_ratio)))
        kept_BV1 = order_BN[:, :visible, None]
        seen_BVP = patches_BNP.gather(1, kept_BV1.expand(-1, -1, patches_BNP.shape[2]))
        places_BVD = self.pos_embed[0, 1:][kept_BV1[..., 0]]
        tokens_BVD = self._blocks(self.patch_embed(seen_BVP) + places_BVD)
        latent_BVD = self.norm(tokens_BVD)
        predicted_BNP = self.decoder(latent_BVD[:, 1:], place_BN, seed_B[:1])
        hidden_BN = place_BN >= visible
        error_BN = (predicted_BNP.float() - patches_BNP.float()).square().mean(2)
        return MaskedPass(
            loss=(error_BN * hidden_BN).sum() / hidden_BN.sum(),
            latent_BVD=latent_BVD,
            hidden_BN=hidden_BN,
            predicted_BNP=predicted_BNP,
            embedding_BD=self.norm(tokens_BVD[:, 1:].mean(1)),
        )

    def masked_pass(self, mel_BTM: Tensor, seed_B: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and embedding of the visible patches from one pass; see ``AudioEncoder``."""
        done = self.masked(mel_BTM, seed_B)
        return done.loss, done.embedding_BD

    def own_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of OPERA and AcuLa files; see ``AudioEncoder``."""
        return {own_key(key): tensor for key, tensor in state.items()}

    def _patches(self, mel_BTM: Tensor) -> Tensor:
        (time, bands), frames = self.sizes.patch, mel_BTM.shape[1]
        longest = self.sizes.frames + time - 1
        if mel_BTM.ndim != 3 or mel_BTM.shape[2] != self.sizes.n_mels:
            raise ValueError(f"takes [B, T, {self.sizes.n_mels}]; got {list(mel_BTM.shape)}")
        if not time <= frames <= longest:
            raise ValueError(f"takes {time} to {longest} frames; got {frames}")
        if self.sizes.standardise == "spectrum":
            mel_BTM = mel_BTM - mel_BTM.mean(1, keepdim=True)
            # The deviation, since the mean is 0 now: several times as fast as ``Tensor.std``.
            length_B11 = torch.linalg.vector_norm(mel_BTM, dim=(1, 2), keepdim=True)
            mel_BTM = mel_BTM / (length_B11 / math.sqrt(mel_BTM[0].numel() - 1) + 1e-3)
        return to_patches(mel_BTM, (time, bands))

    def _unmasked(self, mel_BTM: Tensor) -> Tensor:
        patches_BNP = self._patches(mel_BTM)
        places = self.pos_embed[:, 1 : patches_BNP.shape[1] + 1]
        return self._blocks(self.patch_embed(patches_BNP) + places)

    def _blocks(self, tokens_BVD: Tensor) -> Tensor:
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(tokens_BVD), -1, -1)
        tokens_BVD = torch.cat((first.to(tokens_BVD.dtype), tokens_BVD), dim=1)
        for block in self.blocks:
            tokens_BVD = block(tokens_BVD)
        return tokens_BVD

    def _initialise(self) -> None:
        """Random weights of the MAE release: Xavier for linear maps, 0.02 for the two tokens."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        if isinstance(self.patch_embed, PatchStem):
            nn.init.xavier_uniform_(self.patch_embed.proj.weight.view(self.width, -1))
        for token in (self.cls_token, self.decoder.mask_token):
            nn.init.normal_(token, std=0.02)


# Published name -> ours, for the parts of the encoder's blocks; torch names them differently.
_BLOCK_PARTS = {
    "attn.qkv.": "self_attn.in_proj_",
    "attn.proj.": "self_attn.out_proj.",
    "mlp.fc1.": "linear1.",
    "mlp.fc2.": "linear2.",
}


def own_key(key: str) -> str:
    """Our name of a published state-dict entry; any other key is returned as it is."""
    if key.startswith("blocks."):
        for published, ours in _BLOCK_PARTS.items():
            key = key.replace(f".{published}", f".{ours}")
        return key
    return "decoder.mask_token" if key == "mask_token" else key.replace("decoder_", "decoder.", 1)


def opera_gt(*, front_end: FrontEnd | Mapping[str, Any] | None = None, **config: Any) -> OperaGT:
    """The published OPERA-GT: 21.7 M parameters in the encoder, 12.5 M in the decoder.

    Args:
        front_end: How sound becomes its input; the published numbers if not given.
        config: Fields of ``OperaGTConfig`` that differ from the published ones.
    """
    encoder = OperaGT("opera_gt", OperaGTConfig(**config), MelFrontEnd.given(front_end))
    encoder.published = PUBLISHED
    return encoder


def opera_gt_small(
    *, front_end: FrontEnd | Mapping[str, Any] | None = None, **config: Any
) -> OperaGT:
    """A small OPERA-GT for training from scratch on a few processor cores.

    Args:
        front_end: How sound becomes its input; the published numbers if not given.
        config: Fields of ``OperaGTConfig`` that differ from the small ones.
    """
    small: dict[str, Any] = {
        "patch": (4, 64),  # all bands at once: the finest time steps (128 ms) for their price
        "width": 128,
        "depth": 2,
        "heads": 4,
        "mask_ratio": 0.6,
        "standardise": "spectrum",
        "decoder": "plain",
        "decoder_width": 64,
        "decoder_depth": 1,
        "decoder_heads": 4,
        "swapped_positions": False,
    }
    sizes = OperaGTConfig(**small | config)
    given = MelFrontEnd.given(front_end, frames=sizes.frames, n_mels=sizes.n_mels)
    return OperaGT("opera_gt_small", sizes, given)
