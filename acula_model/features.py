"""Windows of pairs -> embeddings, and what a pair of heads makes of them."""

# N = pairs, B = windows, D = width of the encoder, P = of projected sound, Q = of projected text

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from acula_model import losses
from acula_model.encoders.base import AudioEncoder
from acula_model.heads import Bridge
from acula_model.spectra import Raw, Source

# Pairs that a bridge is fitted to; many more than the widths of the heads, and a share of the
# time of one epoch.
BRIDGE_PAIRS = 8192


@torch.inference_mode()
def embed(
    encoder: AudioEncoder, source: Source, ids: Sequence[str], batch: int = 64
) -> dict[str, npt.NDArray[np.float32]]:
    """pair id -> [D]: mean over the pair's windows of the frozen encoder's embedding."""
    total_ND = np.zeros((len(ids), encoder.width), np.float32)
    count_N = np.zeros(len(ids), np.int64)
    for vector_BD, owner_B in _embedded(encoder, source, ids, batch):
        np.add.at(total_ND, owner_B, vector_BD)
        np.add.at(count_N, owner_B, 1)
    return dict(zip(ids, total_ND / count_N[:, None].astype(np.float32), strict=True))


@torch.inference_mode()
def windows(
    encoder: AudioEncoder, source: Source, ids: Sequence[str], batch: int = 64
) -> dict[str, npt.NDArray[np.float32]]:
    """pair id -> [W, D]: the same before the mean, in the order of the recording."""
    found: list[list[npt.NDArray[np.float32]]] = [[] for _ in ids]
    for vector_BD, owner_B in _embedded(encoder, source, ids, batch):
        for owner, vector_D in zip(owner_B, vector_BD, strict=True):
            found[owner].append(vector_D)
    return {i: np.stack(own) for i, own in zip(ids, found, strict=True)}


def _embedded(
    encoder: AudioEncoder, source: Source, ids: Sequence[str], batch: int
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """Embeddings of windows, [B, D], and the place of each window's pair in ``ids``."""
    device = next(encoder.parameters()).device
    encoder.eval()
    for raw, owner_B in _batches(source, ids, batch):
        mel_BTM = source.front_end.normalise(raw.to(device))
        yield encoder.embed(mel_BTM).float().cpu().numpy(), owner_B


def _batches(
    source: Source, ids: Sequence[str], batch: int
) -> Iterator[tuple[Raw, npt.NDArray[np.int64]]]:
    """All windows of pairs, by ``batch``, and for each the place of its pair in ``ids``."""
    together = batch if source.front_end.one_length else 1
    rest: list[tuple[Raw, npt.NDArray[np.int64]]] = []
    for first in range(0, len(ids), together):
        raw, owner_B = source.grid(ids[first : first + together])
        rest.append((raw, owner_B + first))
        last = together == 1 or first + together >= len(ids)
        if not last and sum(len(raw) for raw, _ in rest) < batch:
            continue
        raw = Raw.joined([raw for raw, _ in rest])
        owner_B = np.concatenate([owner_B for _, owner_B in rest])
        whole = len(raw) if last else len(raw) // batch * batch
        for start in range(0, whole, batch):
            rows = slice(start, min(start + batch, whole))
            yield raw[rows], owner_B[rows]
        rest = [] if last else [(raw[whole:], owner_B[whole:])]


@torch.inference_mode()
def projected(
    encoder: AudioEncoder, heads: tuple[nn.Module, nn.Module], source: Source, ids: Sequence[str],
    text_NE: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Sounds [N, P] and reports [N, Q] of pairs, as their heads project them."""
    device = next(encoder.parameters()).device
    found = embed(encoder, source, ids)
    audio_ND = torch.from_numpy(np.stack([found[i] for i in ids])).to(device)
    return heads[0](audio_ND), heads[1](text_NE.to(device))


def held_out_alignment(
    encoder: AudioEncoder,
    heads: tuple[nn.Module, nn.Module],
    source: Source,
    groups: Mapping[str, tuple[Sequence[str], Tensor]],
) -> float:
    """Debiased CKA of projected sound and text of held-out persons, mean over groups.

    Args:
        groups: Name -> pair ids and the teacher's vectors of their reports, [N, E].
    """
    total = weight = 0.0
    for ids, text_NE in groups.values():
        audio, text = projected(encoder, heads, source, ids, text_NE)
        total += len(ids) * float(losses.debiased_cka(audio, text))
        weight += len(ids)
    return total / weight if weight else math.nan


def bridge(
    encoder: AudioEncoder, heads: tuple[nn.Module, nn.Module], source: Source, ids: Sequence[str],
    text_NE: Tensor,
) -> Bridge:  # fmt: skip
    """What makes the two projections of training pairs comparable; see ``heads.Bridge``."""
    return Bridge.fit(*projected(encoder, heads, source, ids, text_NE))
