"""Which pairs meet in which step: a function of (seed, epoch) alone.

The plan does not know how many processes or workers there are, so a run is the same run on any
number of them, and a killed one continues with the batch that it had not seen.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

Groups = Mapping[str, list[str]]
# Fewer pairs of a group in a step say nothing: debiased CKA needs four, and is noise at eight.
MIN_GROUP = 8


def epoch(
    groups: Groups,
    size: int,
    seed: Sequence[int],
    batches: Literal["grouped", "mixed"] = "grouped",
    temperature: float = 1.0,
) -> list[list[str]]:
    """Batches of one epoch, nearly equal in size.

    Args:
        groups: Name -> pair ids; groups under ``MIN_GROUP`` are left out.
        size: Pairs in a batch, about.
        seed: Of the run, and the epoch.
        batches: ``grouped``: each batch is of one group; ``mixed``: of all groups together.
        temperature: 1 takes every pair once. Under 1, small groups are drawn more often and large
            ones less, in proportion to n ** temperature; no pair comes again before all others
            of its group have come.
    """
    rng = np.random.default_rng(tuple(seed))
    drawn = {
        name: _drawn(groups[name], count, rng)
        for name, count in _counts(groups, temperature).items()
    }
    found: list[list[str]] = []
    if batches == "mixed":
        together = np.array([i for members in drawn.values() for i in members])
        return _cut(together[rng.permutation(len(together))], size)
    for members in drawn.values():
        found += _cut(np.array(members), size)
    return [found[i] for i in rng.permutation(len(found))]


def micro(batch: Sequence[str], size: int | None, world: int) -> list[list[str]]:
    """Cut a batch into what is computed at once on all devices, each a multiple of ``world``.

    Args:
        batch: Pair ids of one optimiser step.
        size: Pairs per device at once; None for all.
        world: Number of devices. Up to ``world - 1`` pairs are left out of this epoch.
    """
    shares = len(batch) // world
    if not shares:
        return []
    count = -(-shares // (size or shares))
    edges = [round(n * shares / count) * world for n in range(count + 1)]
    return [list(batch[a:b]) for a, b in pairwise(edges)]


def _counts(groups: Groups, temperature: float) -> dict[str, int]:
    sizes = {n: len(m) for n, m in sorted(groups.items()) if len(m) >= MIN_GROUP}
    if temperature == 1:
        return sizes
    weights = {n: size**temperature for n, size in sizes.items()}
    total = sum(sizes.values()) / sum(weights.values()) if sizes else 0
    return {n: max(MIN_GROUP, round(weight * total)) for n, weight in weights.items()}


def _drawn(members: list[str], count: int, rng: np.random.Generator) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        found += [members[i] for i in rng.permutation(len(members))]
    return found[:count]


def _cut(members: np.ndarray, size: int) -> list[list[str]]:
    if not len(members):
        return []
    count = max(1, round(len(members) / size))
    return [part.tolist() for part in np.array_split(members, count)]
