"""Does a sound find its report among others, and a report its sound?"""

# N = pairs, P = width of both projections

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from acula_model.losses.base import check, check_widths
from acula_model.losses.contrastive import unit

CUTS = (1, 5, 10)
BLOCK = 2**21  # entries of a matrix of similarities at once
SAME = 1e-6  # cosines this close are equal: rounding of single precision, and no more


@dataclass(frozen=True, kw_only=True)
class Direction:
    """How well queries of one side find their partners on the other.

    Attributes:
        queries: Pairs that have a candidate which is not a hit; the others say nothing.
        recall: k -> share of queries with a hit among the k nearest.
        median_rank: Of the nearest hit, from 1.
        chance: The recall of a random order of the same candidates.
        chance_rank: The median rank of a random order.
    """

    queries: int
    recall: dict[int, float]
    median_rank: float
    chance: dict[int, float]
    chance_rank: float


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Retrieval both ways."""

    report: Direction  # from sound
    sound: Direction  # from report


def retrieval(
    audio_NP: Tensor,
    text_NP: Tensor,
    finding_N: Tensor | None = None,
    group_N: Tensor | None = None,
) -> Recall:
    """Recall among the nearest 1, 5 and 10, and the median rank, both ways.

    Nearest by cosine. CKA leaves directions open, so heads trained with it first go through
    ``heads.Bridge``: pass ``bridge.audio(..)`` and ``bridge.text(..)``, fitted to training pairs.
    Equal similarities are in random order, and what is given is the expectation over it; so a
    projection onto one point scores exactly chance.

    Args:
        audio_NP: Sounds, [N, P].
        text_NP: Their reports, [N, P].
        finding_N: Integer id of each pair's set of findings: any report with the sound's
            findings is a hit. None: only its own is.
        group_N: Integer group of each pair; candidates are those of the query's group.

    Raises:
        ValueError: Not one row per pair, or different widths.
    """
    check(audio_NP, text_NP)
    check_widths("retrieval", audio_NP, text_NP)
    count, device = len(audio_NP), audio_NP.device
    finding_N = torch.arange(count) if finding_N is None else finding_N
    group_N = torch.zeros(count, dtype=torch.int64) if group_N is None else group_N
    labels = finding_N.to(device), group_N.to(device)
    audio_NP, text_NP = unit(audio_NP.detach().float()), unit(text_NP.detach().float())
    return Recall(
        report=_direction(audio_NP, text_NP, *labels), sound=_direction(text_NP, audio_NP, *labels)
    )


def blocks(count: int) -> Iterator[slice]:
    """Rows whose similarities to ``count`` others are computed at once."""
    step = max(1, BLOCK // count)
    for first in range(0, count, step):
        yield slice(first, min(count, first + step))


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """What stands before the nearest hit of each query, [N] each.

    Attributes:
        before: Candidates that are certainly nearer.
        misses: Candidates as near as that hit which are none.
        hits: Hits as near, itself included; they and the misses are in random order.
    """

    before: Tensor
    misses: Tensor
    hits: Tensor

    def within(self, k: int) -> Tensor:
        """[N]: chance of a hit among the first k."""
        none_N = torch.ones_like(self.before)
        for drawn in range(k):
            misses_N = (self.misses - drawn).clamp_min(0)
            left_N = misses_N / (self.misses + self.hits - drawn).clamp_min(1)
            none_N = torch.where(self.before + drawn < k, none_N * left_N, none_N)
        return 1 - none_N

    def rank(self) -> Tensor:
        """[N]: expected rank of the first hit, from 1."""
        return self.before + 1 + self.misses / (self.hits + 1)


def ranked(
    query_NP: Tensor, key_NP: Tensor, finding_N: Tensor, group_N: Tensor
) -> tuple[Ranked, Ranked, Tensor]:
    """Where each query finds a hit, where a random order would, and which queries say something.

    Args:
        query_NP: Unit rows.
        key_NP: Unit rows of their partners.
        finding_N: As in ``retrieval``.
        group_N: As in ``retrieval``.

    Returns:
        Two of the M queries that have a candidate which is no hit, and those as a mask [N].
    """
    # Before the loop: small results between large passing blocks would keep the heap from
    # shrinking (1.2 GB for 20,000 pairs).
    counts_5N = torch.zeros(5, len(query_NP), device=query_NP.device, dtype=torch.int64)
    for group in group_N.unique():
        members = (group_N == group).nonzero()[:, 0]
        query, key, finding = query_NP[members], key_NP[members], finding_N[members]
        for rows in blocks(len(members)):
            near = query[rows] @ key.T
            hit = finding[rows, None] == finding
            best = near.masked_fill(~hit, -math.inf).amax(1, keepdim=True)
            before = (near > best + SAME).count_nonzero(1)  # no hit is nearer than the best
            level = near >= best - SAME
            tied_hits, hits = (level & hit).count_nonzero(1), hit.count_nonzero(1)
            ties = level.count_nonzero(1) - before - tied_hits
            counts = torch.stack([before, ties, tied_hits, len(members) - hits, hits])
            counts_5N[:, members[rows]] = counts
    some_N = counts_5N[3] > 0  # nothing can be confused in a group of equal findings
    before, ties, tied_hits, misses, hits = counts_5N[:, some_N].double()
    seen = Ranked(before=before, misses=ties, hits=tied_hits)
    return seen, Ranked(before=torch.zeros_like(before), misses=misses, hits=hits), some_N


def _direction(query_NP: Tensor, key_NP: Tensor, finding_N: Tensor, group_N: Tensor) -> Direction:
    seen, chance, some_N = ranked(query_NP, key_NP, finding_N, group_N)
    return Direction(
        queries=int(some_N.sum()),
        recall={k: float(seen.within(k).mean()) for k in CUTS},
        median_rank=_median(seen.rank()),
        chance={k: float(chance.within(k).mean()) for k in CUTS},
        chance_rank=_median(chance.rank()),
    )


def _median(x_N: Tensor) -> float:
    """Of an even number, the mean of the two in the middle, unlike torch's; nan of none."""
    return float(x_N.quantile(0.5)) if len(x_N) else math.nan
