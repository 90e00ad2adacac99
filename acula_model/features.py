"""Cached log-mel windows -> embeddings, and what a pair of heads makes of them."""

# N = pairs, D = width of the encoder, P = width of projected sound, Q = of projected text

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from acula_model import losses
from acula_model.encoders.base import AudioEncoder
from acula_model.heads import Bridge
from acula_model.mels import Mels

# Pairs that a bridge is fitted to; many more than the widths of the heads, and a share of the
# time of one epoch.
BRIDGE_PAIRS = 8192


@torch.inference_mode()
def embed(
    encoder: AudioEncoder, mels: Mels, ids: Sequence[str], batch: int = 64
) -> dict[str, npt.NDArray[np.float32]]:
    """pair id -> [D]: mean over the pair's windows of the frozen encoder's embedding."""
    device = next(encoder.parameters()).device
    encoder.eval()
    sums: dict[str, npt.NDArray[np.float32]] = {}
    windows = [(i, w) for i in ids for w in range(len(mels.windows(i)))]
    counts = {i: len(mels.windows(i)) for i in ids}
    for start in range(0, len(windows), batch):
        chunk = windows[start : start + batch]
        mel_BTM = np.stack([mels.windows(i)[w] for i, w in chunk]).astype(np.float32)
        found = encoder.embed(torch.from_numpy(mel_BTM).to(device)).float().cpu().numpy()
        for (i, _), vector in zip(chunk, found, strict=True):
            sums[i] = sums[i] + vector if i in sums else vector
    return {i: vector / np.float32(counts[i]) for i, vector in sums.items()}


@torch.inference_mode()
def projected(
    encoder: AudioEncoder, heads: tuple[nn.Module, nn.Module], mels: Mels, ids: Sequence[str],
    text_NE: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Sounds [N, P] and reports [N, Q] of pairs, as their heads project them."""
    device = next(encoder.parameters()).device
    found = embed(encoder, mels, ids)
    audio_ND = torch.from_numpy(np.stack([found[i] for i in ids])).to(device)
    return heads[0](audio_ND), heads[1](text_NE.to(device))


def held_out_alignment(
    encoder: AudioEncoder,
    heads: tuple[nn.Module, nn.Module],
    mels: Mels,
    groups: Mapping[str, tuple[Sequence[str], Tensor]],
) -> float:
    """Debiased CKA of projected sound and text of held-out persons, mean over groups.

    Args:
        groups: Name -> pair ids and the teacher's vectors of their reports, [N, E].
    """
    total = weight = 0.0
    for ids, text_NE in groups.values():
        audio, text = projected(encoder, heads, mels, ids, text_NE)
        total += len(ids) * float(losses.debiased_cka(audio, text))
        weight += len(ids)
    return total / weight if weight else math.nan


def bridge(
    encoder: AudioEncoder, heads: tuple[nn.Module, nn.Module], mels: Mels, ids: Sequence[str],
    text_NE: Tensor,
) -> Bridge:  # fmt: skip
    """What makes the two projections of training pairs comparable; see ``heads.Bridge``."""
    return Bridge.fit(*projected(encoder, heads, mels, ids, text_NE))
