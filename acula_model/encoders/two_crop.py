"""OPERA's own objective of its contrastive encoders: find the other crop of the same recording.

Source: Saeed et al., "Contrastive Learning of General-Purpose Audio Representations", 2021 (COLA),
as OPERA-CT and OPERA-CE were trained: two random crops, a projection, bilinear similarity, and
cross-entropy over the batch. The published files carry the projection and the bilinear map.
"""

# B = clips, T = frames, L = frames of a crop, M = mel bins, D = width of the embedding, H = of the
# projection

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acula_model import noise
from acula_model.encoders.preservation import PreservingEncoder

Objective = Literal["two_crop", "distillation"]

PROJECTION = 512  # H, of the published head
# Of a window's frames. OPERA took 200, 100 or 50 frames by data set; windows here have 256.
CROP = 0.5
_HEAD = ("g.", "layer_norm.", "linear.")  # as published; the same below ``contrast.``


class Contrast(nn.Module):
    """Projection and bilinear similarity, with the published names.

    Without the dropout of its training, like the encoders: a resumed run repeats.
    """

    def __init__(self, width: int):
        super().__init__()
        self.g = nn.Linear(width, PROJECTION)
        self.layer_norm = nn.LayerNorm(PROJECTION)
        self.linear = nn.Linear(PROJECTION, PROJECTION, bias=False)

    def forward(self, one_BD: Tensor, other_BD: Tensor) -> Tensor:
        """Cross-entropy of finding, for each first crop, the second one of the same clip.

        In full precision: a similarity is a sum of 512 x 512 products.

        Args:
            one_BD: Embeddings of the first crops.
            other_BD: Of the second crops, in the same order.

        Returns:
            Scalar; log B where nothing is told apart, 0 for one clip.
        """
        with torch.autocast(one_BD.device.type, enabled=False):
            similarity_BB = self.linear(self._project(one_BD)) @ self._project(other_BD).T
            return F.cross_entropy(similarity_BB, torch.arange(len(one_BD), device=one_BD.device))

    def _project(self, x_BD: Tensor) -> Tensor:
        return torch.tanh(self.layer_norm(self.g(x_BD.float())))


class TwoCropEncoder(PreservingEncoder):
    """Base of encoders of windows of any length: contrast of two crops, or distillation.

    Attributes:
        contrast: Head of the contrast; None where the objective is distillation.
    """

    def __init__(self, width: int, objective: Objective):
        super().__init__()
        if objective not in ("two_crop", "distillation"):
            raise ValueError(f"no objective {objective!r}; known: two_crop, distillation")
        self.contrast = Contrast(width) if objective == "two_crop" else None
        self.objective_compares_clips = objective == "two_crop"

    def remember(self) -> None:
        """See ``AudioEncoder``; the contrast needs no original."""
        if self.contrast is None:
            super().remember()

    def self_supervised_loss(self, mel_BTM: Tensor, seed_B: Tensor) -> Tensor:
        """Contrast of two crops of each window, or ``preservation_loss``."""
        return self.masked_pass(mel_BTM, seed_B)[0]

    def masked_pass(self, mel_BTM: Tensor, seed_B: Tensor) -> tuple[Tensor, Tensor]:
        """The same and embeddings; those of the contrast are the mean over the two crops."""
        if self.contrast is None:
            return super().masked_pass(mel_BTM, seed_B)
        one_BD, other_BD = (self.embed(crop_BLM) for crop_BLM in crops(mel_BTM, seed_B))
        return self.contrast(one_BD, other_BD), (one_BD + other_BD) / 2

    def own_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``AudioEncoder``; a file may have the head of the contrast or not.

        The published one becomes ours, a file without any leaves the one that is here (random,
        unless loaded), and for distillation it is left out.
        """
        head, rest = dict[str, Tensor](), dict[str, Tensor]()
        for key, tensor in state.items():
            if key.startswith(("contrast.", *_HEAD)):
                head[f"contrast.{key.removeprefix('contrast.')}"] = tensor
            else:
                rest[key] = tensor
        if self.contrast is None:
            return rest
        own = {f"contrast.{key}": tensor for key, tensor in self.contrast.state_dict().items()}
        return rest | (head or own)


def crops(mel_BTM: Tensor, seed_B: Tensor) -> tuple[Tensor, Tensor]:
    """Two random stretches of each window, each half of it; they may overlap.

    Args:
        mel_BTM: Windows.
        seed_B: Of their places, int64.

    Returns:
        Twice [B, L, M].
    """
    frames = mel_BTM.shape[1]
    length = max(1, round(CROP * frames))
    drawn_B2 = noise.uniform(seed_B, (2,), noise.OBJECTIVE)
    start_B2 = (drawn_B2 * (frames - length + 1)).long()
    place_B2L = start_B2[..., None] + torch.arange(length, device=mel_BTM.device)
    one, other = (
        mel_BTM.gather(1, place_BL[..., None].expand(-1, -1, mel_BTM.shape[2]))
        for place_BL in place_B2L.unbind(1)
    )
    return one, other
