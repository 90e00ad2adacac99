"""Spectra in 16-bit fixed point, and what training and probing ask of where they come from."""

# B = windows, K = windows of a recording, T = frames, M = mel bins

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from acula_model import noise
from acula_model.front_end import FrontEnd

Levels = npt.NDArray[np.int16]
Seeds = npt.NDArray[np.int64]
LOUDEST, STEPS = 32_767, 65_535  # the level of the loudest cell, and steps down to the lowest
CROP_STREAM = 10  # of ``noise``: masks and augmentation take others


@dataclass(frozen=True)
class Raw:
    """Windows of spectra before normalisation, at half the size of single precision.

    A cell is ``top + (level - 32767) * step``, off by half a step at most.

    Attributes:
        level_BTM: int16.
        top_B: float32, the loudest cell of the recording (or published window) it is cut from.
        step_B: float32, 1/65535 of the recording's range, at most ``FrontEnd.depth``.
    """

    level_BTM: Levels
    top_B: npt.NDArray[np.float32]
    step_B: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.level_BTM)

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> "Raw":
        return Raw(self.level_BTM[rows], self.top_B[rows], self.step_B[rows])

    @classmethod
    def of(cls, raw_KTM: Tensor, depth: float) -> Self:
        """Round a spectrum, float [K, T, M]; cells more than ``depth`` below the top go there."""
        top_K = raw_KTM.amax((1, 2))
        step_K = (top_K - raw_KTM.amin((1, 2))).clamp_max(depth) / STEPS
        per_step = torch.where(step_K > 0, step_K, 1.0)[:, None, None]
        level = ((raw_KTM - top_K[:, None, None]) / per_step).round_() + LOUDEST
        level = level.clamp_(LOUDEST - STEPS, LOUDEST).to(torch.int16)
        return cls(level.numpy(), top_K.numpy(), step_K.numpy())

    @classmethod
    def joined(cls, parts: "Sequence[Raw]") -> Self:
        """The windows of several, which have equal T."""
        return cls(
            np.concatenate([p.level_BTM for p in parts]),
            np.concatenate([p.top_B for p in parts]),
            np.concatenate([p.step_B for p in parts]),
        )

    def to(self, device: str | torch.device) -> Tensor:
        """float32 [B, T, M], converted on the device: what travels is half the size."""
        parts = [torch.from_numpy(part) for part in (self.level_BTM, self.top_B, self.step_B)]
        if torch.device(device).type == "cuda":
            parts = [part.pin_memory().to(device, non_blocking=True) for part in parts]
        level_BTM, top_B, step_B = parts
        lowest_B = (top_B - LOUDEST * step_B)[:, None, None]
        return torch.addcmul(lowest_B, level_BTM.to(torch.float32), step_B[:, None, None])


class Source(Protocol):
    """Where windows come from: a cache of spectra, or the shards themselves."""

    @property
    def meta(self) -> dict[str, dict[str, Any]]:
        """pair id -> what training and probing ask of it: ids, group, its reports' hashes."""
        ...

    @property
    def front_end(self) -> FrontEnd:
        """Whose spectra they are."""
        ...

    def crops(self, ids: Sequence[str], seed_B: Seeds) -> Raw:
        """One window of ``frames`` frames of each pair, drawn from all places by its seed."""
        ...

    def grid(self, ids: Sequence[str]) -> tuple[Raw, npt.NDArray[np.int64]]:
        """All windows that make embeddings, and for each the place of its pair in ``ids``.

        Raises:
            ValueError: Windows of different lengths (not ``FrontEnd.one_length``).
        """
        ...


class Several:
    """Sources of one front end as one, such as shards and what is in none of them.

    Attributes:
        meta: Of all of them.
        front_end: Theirs.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        """Where two have a pair, the first is asked.

        Raises:
            ValueError: There is none, or their front ends differ.
        """
        if len({s.front_end.key for s in sources}) != 1:
            raise ValueError("sources of one front end are wanted, at least one")
        self._sources, self.front_end = list(sources), sources[0].front_end
        self.meta: dict[str, dict[str, Any]] = {}
        self._of: dict[str, int] = {}
        for n, source in reversed(list(enumerate(sources))):
            self.meta |= source.meta
            self._of |= dict.fromkeys(source.meta, n)

    def crops(self, ids: Sequence[str], seed_B: Seeds) -> Raw:
        """See ``Source``."""
        parts = [
            (s.crops([ids[int(k)] for k in at], seed_B[at]), at) for s, at in self._shares(ids)
        ]
        back_B = np.argsort(np.concatenate([at for _, at in parts]))
        return Raw.joined([raw for raw, _ in parts])[back_B]

    def grid(self, ids: Sequence[str]) -> tuple[Raw, npt.NDArray[np.int64]]:
        """See ``Source``."""
        parts = [(s.grid([ids[int(k)] for k in at]), at) for s, at in self._shares(ids)]
        owner_B = np.concatenate([at[own_B] for (_, own_B), at in parts])
        order_B = np.argsort(owner_B, kind="stable")
        return Raw.joined([raw for (raw, _), _ in parts])[order_B], owner_B[order_B]

    def _shares(self, ids: Sequence[str]) -> list[tuple[Source, npt.NDArray[np.int64]]]:
        of_B = np.array([self._of[i] for i in ids])
        shares = [(s, np.flatnonzero(of_B == n)) for n, s in enumerate(self._sources)]
        return [(s, at) for s, at in shares if len(at)]


def draw(seed_B: Seeds) -> npt.NDArray[np.float64]:
    """[B] in [0, 1): where a pair's random window is, as a share of its places."""
    with torch.inference_mode():
        return noise.uniform(torch.from_numpy(seed_B), (), CROP_STREAM).double().numpy()


def place(share: float, windows: int, total: int, frames: int) -> tuple[int, int]:
    """The window and the first frame that a share of all places falls on.

    Args:
        share: From ``draw``.
        windows: Of the recording.
        total: Frames in each.
        frames: Frames wanted.
    """
    if total < frames:
        raise ValueError(f"a window has {total} frames, fewer than the {frames} wanted")
    return divmod(int(share * windows * (total - frames + 1)), total - frames + 1)
