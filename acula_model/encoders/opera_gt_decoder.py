"""encoded visible patches -> predicted hidden patches, for the masked loss only.

``windows`` is the published decoder. It means to attend inside windows of a time-frequency map,
but it *views* the tensor of tokens by channels as another shape without transposing, so its
windows mix channels and tokens. Trained weights depend on that, so it is kept to the letter.
``plain`` is a light transformer for encoders that are trained from scratch.
"""

# B = clips, N = patches, V = visible patches, D = encoder width, C = decoder width,
# W = windows of all clips, G = 16 cells of a window, H = heads, E = width of a head

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acula_model import noise
from acula_model.encoders.patches import sine_cosine

Kind = Literal["windows", "plain"]

# Fixed in the published code, whatever its arguments say.
ROWS, COLUMNS, SIDE = 32, 8, 4  # the C = 256 channels taken as a map, in windows of 4 by 4
CELLS = SIDE * SIDE
SHIFT = 2  # rows, in every second block
WIDTH, HEADS, OFFSET_HIDDEN, OFFSET_DROPOUT = 256, 16, 384, 0.1
# A block's windows repeat one mask for 16 windows; fewer patches would mix clips.
TOKENS = ROWS * COLUMNS


def block_layer(width: int, heads: int, mlp_ratio: float) -> nn.TransformerEncoderLayer:
    """The transformer block of the encoder and of the plain decoder."""
    return nn.TransformerEncoderLayer(
        width,
        heads,
        int(width * mlp_ratio),
        dropout=0.0,
        activation="gelu",
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=True,
    )


class Decoder(nn.Module):
    """Puts visible tokens back in their places, fills the rest, and predicts every patch."""

    pos_embed: Tensor

    def __init__(
        self,
        kind: Kind,
        raster: tuple[int, int],
        widths: tuple[int, int, int],
        depth: int,
        heads: int,
    ):
        """Build a decoder.

        Args:
            kind: ``windows`` (its width and heads are fixed) or ``plain``.
            raster: Rows and columns of the position table.
            widths: D, C and P, the cells of a patch.
            depth: Blocks.
            heads: Attention heads of a plain block.
        """
        super().__init__()
        encoder_width, width, cells = widths
        if kind == "windows" and (width, heads) != (WIDTH, HEADS):
            raise ValueError(f"a windows decoder has width {WIDTH} and {HEADS} heads")
        self.embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("pos_embed", sine_cosine(*raster, width))
        self.blocks = nn.ModuleList(
            WindowBlock(SHIFT * (i % 2)) if kind == "windows" else block_layer(width, heads, 4.0)
            for i in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pred = nn.Linear(width, cells)

    def forward(self, seen_BVD: Tensor, place_BN: Tensor, seed_1: Tensor) -> Tensor:
        """Predict all patches.

        Args:
            seen_BVD: Encoded visible patches, without the class token.
            place_BN: For each patch, its row in (visible patches, then mask tokens).
            seed_1: Of the dropout of a windows decoder in training mode. As published, one
                draw serves the batch: what drops belongs to no clip.

        Returns:
            [B, N, P].

        Raises:
            ValueError: A windows decoder got a count of patches that would mix clips.
        """
        seen_BVC = self.embed(seen_BVD)
        missing = place_BN.shape[1] - seen_BVC.shape[1]
        mask_BNC = self.mask_token.to(seen_BVC.dtype).expand(len(seen_BVC), missing, -1)
        all_BNC = torch.cat((seen_BVC, mask_BNC), dim=1)
        x_BNC = all_BNC.gather(1, place_BN[..., None].expand_as(all_BNC))
        x_BNC = x_BNC + self.pos_embed[:, 1 : place_BN.shape[1] + 1]
        for i, block in enumerate(self.blocks):
            if isinstance(block, WindowBlock):
                x_BNC = block(x_BNC, Dropout(seed_1, noise.OBJECTIVE + 1 + 2 * i))
            else:
                x_BNC = block(x_BNC)
        return self.pred(self.norm(x_BNC))


class Dropout(NamedTuple):
    """Dropout whose numbers follow from a seed."""

    seed_1: Tensor
    stream: int  # the first of a block's two

    def __call__(self, x: Tensor, which: int) -> Tensor:
        """Of the same shape as x."""
        (kept,) = noise.uniform(self.seed_1, x.shape, self.stream + which) >= OFFSET_DROPOUT
        return x * kept / (1 - OFFSET_DROPOUT)


class WindowBlock(nn.Module):
    """Cosine attention in windows, then an MLP; each is normalised after, not before."""

    def __init__(self, shift: int):
        super().__init__()
        self.attn = WindowAttention(shift)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(WIDTH, 4 * WIDTH)})
        self.mlp["fc2"] = nn.Linear(4 * WIDTH, WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, x_BNC: Tensor, drop: Dropout) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        x_BNC = x_BNC + self.norm1(self.attn(x_BNC, drop))
        return x_BNC + self.norm2(self.mlp["fc2"](F.gelu(self.mlp["fc1"](x_BNC))))


class WindowAttention(nn.Module):
    """Attention of SwinV2 (Liu et al., 2022): cosine similarity and a learned bias by offset."""

    offsets: Tensor
    apart: Tensor

    def __init__(self, shift: int):
        super().__init__()
        self.shift = shift
        self.tau = nn.Parameter(torch.ones(HEADS))
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.meta_mlp = nn.ModuleDict({"fc1": nn.Linear(2, OFFSET_HIDDEN)})
        self.meta_mlp["fc2"] = nn.Linear(OFFSET_HIDDEN, HEADS)
        cell = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).float()
        step = (cell[:, None] - cell).flatten(0, 1)  # [G * G, 2]
        self.register_buffer("offsets", step.sign() * step.abs().log1p(), persistent=False)
        self.register_buffer("apart", _apart(shift), persistent=False)

    def forward(self, x_BNC: Tensor, drop: Dropout) -> Tensor:
        """[B, N, C] -> [B, N, C]."""
        clips, patches, _ = x_BNC.shape
        if patches % TOKENS:
            raise ValueError(
                f"the windows decoder needs a multiple of {TOKENS} patches, got {patches}: "
                f"use clips of a multiple of 64 frames"
            )
        # The quirk: memory of [N, C] read as [32, 8, N], cut, and read as [W, G, C].
        map_ = x_BNC.reshape(clips, ROWS, COLUMNS, patches).roll(-self.shift, dims=1)
        x_WGC = _swap(map_, ROWS // SIDE, SIDE, COLUMNS // SIDE, SIDE).reshape(-1, CELLS, WIDTH)
        qkv = self.qkv(x_WGC).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        q_WHGE, k_WHGE, v_WHGE = qkv.unbind()
        size = q_WHGE.norm(dim=-1)[..., None] * k_WHGE.norm(dim=-1)[..., None, :]
        score_WHGG = q_WHGE @ k_WHGE.mT / size.clamp_min(1e-6)
        score_WHGG = score_WHGG / self.tau.clamp_min(0.01)[:, None, None] + self._bias(drop)
        if self.shift:
            hidden = self.apart.repeat(len(score_WHGG) // len(self.apart), 1, 1)[:, None]
            score_WHGG = score_WHGG + hidden
        y_WGC = self.proj((score_WHGG.softmax(-1) @ v_WHGE).transpose(1, 2).flatten(2))
        # The way back is not the inverse: it reads [W, G, C] as N / 256 maps of [32, 8, C].
        maps = y_WGC.reshape(-1, ROWS, COLUMNS, WIDTH)
        maps = _swap(maps, ROWS // SIDE, COLUMNS // SIDE, SIDE, SIDE)
        maps = maps.reshape(-1, ROWS, COLUMNS, WIDTH).roll(self.shift, dims=1)
        return maps.reshape(clips, patches, WIDTH)

    def _bias(self, drop: Dropout) -> Tensor:
        """[H, G, G]; dropout as published, but from a seed."""
        hidden = F.relu(self.meta_mlp["fc1"](self.offsets))
        hidden = drop(hidden, 0) if self.training else hidden
        bias = self.meta_mlp["fc2"](hidden)
        bias = drop(bias, 1) if self.training else bias
        return bias.T.reshape(HEADS, CELLS, CELLS)


def _swap(x: Tensor, a: int, b: int, c: int, d: int) -> Tensor:
    """[B, a*b, c*d, N] or its like -> [B, a, c, b, d, N]: a map to windows, or back."""
    return x.reshape(len(x), a, b, c, d, -1).transpose(2, 3)


def _apart(shift: int) -> Tensor:
    """[16, G, G]: -100 between cells of a window that the shift brought together, else 0."""
    part = torch.zeros(ROWS)
    if shift:
        part[-SIDE:-shift], part[-shift:] = 1, 2
    map_ = part[None, :, None, None].expand(1, ROWS, COLUMNS, 1)
    part_WG = _swap(map_, ROWS // SIDE, SIDE, COLUMNS // SIDE, SIDE).reshape(-1, CELLS)
    return (part_WG[:, :, None] != part_WG[:, None]) * -100.0
