"""Fingerprints of a corpus -> groups of recordings that are one sound, in bounded memory.

Comparing all pairs is out of reach at 100,000 recordings. Two recordings are compared when 32 bits
of theirs are equal somewhere: 16 bits of a frame with the same 16 of the frame 0.26 s later,
once for low bands and once for high ones, since noise spoils the high and filters the low.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.doctor.fingerprint import DUPLICATE, LEAD, STEP, VOID, Words, agreement, peak

# Keys sorted at a time: some 0.8 GB at the peak. A large corpus takes several passes.
KEYS_AT_ONCE = 8_000_000
# A key that many recordings share links each to this many next ones, so that a corpus of hums
# costs no more than linear time and a sound that is there 50 times still becomes one group.
NEIGHBOURS = 4
_BLOCK = 1 << 20  # frames whose keys are made at a time
_HALF = np.uint64(0xFFFF)

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Match:
    """Two recordings that are one sound.

    Attributes:
        similarity: As ``fingerprint.agreement`` has it.
        frames: Frames compared, 32 ms each.
    """

    one: str
    other: str
    similarity: float
    frames: int


@dataclass(frozen=True, kw_only=True)
class Group:
    """Recordings that are one sound, and the matches that tie them."""

    members: tuple[str, ...]
    matches: tuple[Match, ...]


def near_duplicates(
    prints: Iterable[tuple[str, Words]], keys_at_once: int = KEYS_AT_ONCE
) -> list[Group]:
    """Groups of recordings that are the same sound after a codec, a gain, a cut or slight noise.

    Args:
        prints: Recording and fingerprint; kept as 4 bytes per 32 ms of sound.
        keys_at_once: What one pass sorts; smaller is slower and needs less memory.

    Returns:
        Groups by their first member; recordings without a like are in none.
    """
    names: list[str] = []
    kept: list[Words] = []
    for name, words in prints:
        names.append(name)
        kept.append(words)
    starts = np.concatenate([[0], np.cumsum([len(w) for w in kept])]).astype(np.int64)
    words = np.concatenate([*kept, np.zeros(0, np.uint32)])
    kept.clear()
    group = _Union(len(names))
    found: list[Match] = []
    strangers: set[tuple[int, int]] = set()
    passes = 1 + 2 * len(words) // keys_at_once
    for turn in range(passes):
        for one, other, offset in _candidates(words, starts, turn, passes):
            if group.find(one) == group.find(other) or (one, other) in strangers:
                continue
            a, b = (words[starts[i] : starts[i + 1]] for i in (one, other))
            if agreement(a, b, offset)[0] < DUPLICATE:
                continue
            similarity, lead, frames = peak(a, b)  # all alignments: only where one is promising
            if lead < LEAD:
                strangers.add((one, other))
                continue
            group.join(one, other)
            names_of = {"one": names[one], "other": names[other]}
            found.append(Match(**names_of, similarity=round(similarity, 4), frames=frames))
    return _groups(names, group, found)


def _candidates(
    words: Words, starts: Ints, turn: int, passes: int
) -> Iterator[tuple[int, int, int]]:
    """Pairs of recordings and the offset at which a key of theirs is equal."""
    blocks = [_keys(words, starts, at, turn, passes) for at in range(0, len(words), _BLOCK)]
    if blocks:
        keys, owner, at = (np.concatenate(column) for column in zip(*blocks, strict=True))
        yield from _within(keys, owner, at)


def _keys(
    words: Words, starts: Ints, begin: int, turn: int, passes: int
) -> tuple[npt.NDArray[np.uint64], Ints, Ints]:
    """Keys of one block of frames that are this pass's, their recordings and their frames."""
    here, later = words[begin : begin + _BLOCK], words[begin + STEP : begin + STEP + _BLOCK]
    here = here[: len(later)]
    where = np.flatnonzero((here != VOID) & (later != VOID))
    owner = np.searchsorted(starts, where + begin, side="right") - 1
    inside = where + begin + STEP < starts[owner + 1]
    where, owner = where[inside], owner[inside]
    columns: list[tuple[npt.NDArray[np.uint64], Ints, Ints]] = []
    for band, shift in enumerate((0, 16)):
        low, high = (w[where].astype(np.uint64) >> np.uint64(shift) for w in (here, later))
        keys = (low & _HALF) | (high & _HALF) << np.uint64(16) | np.uint64(band << 32)
        mine = np.flatnonzero(keys % np.uint64(passes) == turn)
        columns.append((keys[mine], owner[mine], where[mine] + begin - starts[owner[mine]]))
    keys, owner, at = (np.concatenate(column) for column in zip(*columns, strict=True))
    return keys, owner, at


def _within(keys: npt.NDArray[np.uint64], owner: Ints, at: Ints) -> Iterator[tuple[int, int, int]]:
    order = np.lexsort((at, owner, keys))
    keys, owner, at = keys[order], owner[order], at[order]
    # A recording with a steady sound repeats its keys: the first place of each is enough.
    first = np.ones(len(keys), bool)
    first[1:] = (keys[1:] != keys[:-1]) | (owner[1:] != owner[:-1])
    keys, owner, at = keys[first], owner[first], at[first]
    for distance in range(1, NEIGHBOURS + 1):
        same = np.flatnonzero(keys[distance:] == keys[:-distance])
        pairs = np.stack(
            [owner[same], owner[same + distance], at[same + distance] - at[same]], axis=1
        )
        yield from map(tuple, np.unique(pairs, axis=0).tolist())


class _Union:
    """Union-find over positions."""

    def __init__(self, size: int) -> None:
        self.parent = list(range(size))

    def find(self, node: int) -> int:
        while self.parent[node] != node:
            self.parent[node] = self.parent[self.parent[node]]
            node = self.parent[node]
        return node

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self.parent[high] = low


def _groups(names: list[str], group: _Union, found: list[Match]) -> list[Group]:
    members: dict[int, list[int]] = defaultdict(list)
    for i in range(len(names)):
        members[group.find(i)].append(i)
    ties: dict[int, list[Match]] = defaultdict(list)
    place = {name: i for i, name in enumerate(names)}
    for match in found:
        ties[group.find(place[match.one])].append(match)
    return [
        Group(members=tuple(names[i] for i in own), matches=tuple(ties[root]))
        for root, own in members.items()
        if len(own) > 1
    ]
