"""spectrogram -> tokens: cutting into patches, embedding them, saying where they were.

Tokens are in time-major order: all mel bands of the first patch of time, then of the next.
"""

# B = clips, T = frames, M = mel bins, N = patches of a clip, P = cells of a patch, D = width

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Patch = tuple[int, int]  # frames, mel bins


def to_patches(mel_BTM: Tensor, patch: Patch) -> Tensor:
    """[B, T, M] -> [B, N, P]; frames and bins that fill no patch are dropped, as in OPERA."""
    frames, bins = (
        size // side * side for size, side in zip(mel_BTM.shape[1:], patch, strict=True)
    )
    cut = mel_BTM[:, :frames, :bins].unflatten(2, (-1, patch[1])).unflatten(1, (-1, patch[0]))
    return cut.transpose(2, 3).flatten(3).flatten(1, 2)


class PatchStem(nn.Module):
    """A linear map of each patch (the published one: a convolution that steps by patches)."""

    def __init__(self, patch: Patch, width: int):
        super().__init__()
        self.proj = nn.Conv2d(1, width, patch, patch)  # for the published shape [D, 1, t, m]

    def forward(self, patches_BNP: Tensor) -> Tensor:
        """[B, N, P] -> [B, N, D]."""
        return F.linear(patches_BNP, self.proj.weight.flatten(1), self.proj.bias)


class ConvStem(nn.Module):
    """Two strided convolutions: the first sees short events, the second makes the tokens.

    A linear patch adds up a click of one frame with everything around it; small filters and a
    nonlinearity come first here. It reads one patch at a time, so that a masked pass embeds only
    what is visible and nothing leaks out of hidden patches.

    Args:
        patch: Frames and mel bins of a patch.
        width: D.
        channels: Filters of the first convolution, 3 by 3, every cell in time, every second bin.
    """

    def __init__(self, patch: Patch, width: int, channels: int):
        super().__init__()
        self.patch = patch
        self.short = nn.Conv2d(1, channels, 3, stride=(1, 2), padding=1)
        self.token = nn.Linear(channels * patch[0] * (patch[1] // 2), width)

    def forward(self, patches_BNP: Tensor) -> Tensor:
        """[B, N, P] -> [B, N, D]."""
        cells = self.short(patches_BNP.flatten(0, 1).unflatten(1, (1, *self.patch)))
        return self.token(F.gelu(cells).flatten(1)).unflatten(0, patches_BNP.shape[:2])


def sine_cosine(rows: int, columns: int, width: int) -> Tensor:
    """Position table of a raster of patches, one row more for the class token (zeros).

    Source: the MAE release (He et al., 2022): half of the numbers say the column, half the row,
    each as sines and cosines of ``width / 4`` wavelengths from 2 pi to 20,000 pi.

    Args:
        rows: Patches along the slow axis.
        columns: Patches along the fast axis.
        width: Numbers per position, a multiple of 4.

    Returns:
        float32, [1, 1 + rows * columns, width].
    """
    if width % 4:
        raise ValueError(f"positions need a width that is a multiple of 4; got {width}")
    # In single precision by numpy, like the published tables. Such powers differ by their last
    # bit between libraries and processors, which far positions make 4e-6.
    rate = 1 / 10_000 ** (np.arange(width // 4, dtype=np.float32) / np.float32(width // 4))
    row, column = (axis.reshape(-1, 1) for axis in np.indices((rows, columns), np.float32))
    angles = (column * rate, row * rate)
    table = np.concatenate([part for a in angles for part in (np.sin(a), np.cos(a))], axis=1)
    table = torch.from_numpy(table.astype(np.float32))
    return F.pad(table, (0, 0, 1, 0))[None]
