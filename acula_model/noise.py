"""Random numbers that belong to a pair and not to a batch.

Masks, crops and augmentation are drawn from a hash of (seed, epoch, pair), so they are the same
for any batch size, number of processes, device and order, and a resumed run repeats none.
The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", 2014) with a counter for a state.
"""

# B = clips, K = numbers per clip

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# First stream of encoders' own objectives; crops and augmentation of the same seed lie below it.
OBJECTIVE = 1_000
_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15, wrapped: torch has no unsigned arithmetic
_MIX = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def seeds(ids: Sequence[str], seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """One seed per pair, [B]: equal for equal (pair id, seed, epoch) and for nothing else.

    Args:
        ids: Pair ids, 16 hexadecimal digits each (a hash already).
        seed: Of the run.
        epoch: From 1.
    """
    salt = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0]
    own = np.array([int(i, 16) for i in ids], np.uint64)
    return (own ^ salt).view(np.int64)


def uniform(seed_B: Tensor, shape: Sequence[int], stream: int = 0) -> Tensor:
    """Float32 in [0, 1), [B, *shape], on the device of the seeds.

    Args:
        seed_B: int64; see ``seeds``.
        shape: Of one clip's numbers.
        stream: Different uses of one seed (mask, crop, noise) take different streams.
    """
    count = math.prod(shape)
    counter_K = torch.arange(1, count + 1, device=seed_B.device, dtype=torch.int64)
    first = ((stream + 1) * _GOLDEN + 2**63) % 2**64 - 2**63  # wrapped: torch refuses larger ones
    start_B = _mixed(seed_B + first)
    drawn_BK = _mixed(start_B[:, None] + counter_K * _GOLDEN)
    # The upper 24 bits are exact in single precision; >> keeps the sign, so mask it away.
    upper_BK = (drawn_BK >> 40) & 0xFFFFFF
    return (upper_BK.to(torch.float32) / 2**24).reshape(len(seed_B), *shape)


def normal(seed_B: Tensor, shape: Sequence[int], stream: int = 0) -> Tensor:
    """Float32, standard normal (Box and Muller, 1958), [B, *shape]."""
    both = uniform(seed_B, (2, *shape), stream)
    radius = (-2 * torch.log1p(-both[:, 0])).sqrt()
    return radius * torch.cos(2 * math.pi * both[:, 1])


def _mixed(x: Tensor) -> Tensor:
    """SplitMix64's output function; int64 wraps as the original's uint64 does."""
    x = (x ^ _shifted(x, 30)) * _MIX[0]
    x = (x ^ _shifted(x, 27)) * _MIX[1]
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; torch's is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
