"""What held-out pairs say about two projections: do they agree, retrieve, and fill their space?

Pure functions of projected pairs, in blocks, so that 20,000 pairs fit in memory.
"""

# N = pairs, P = width of both projections, D and E = widths that may differ

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from acula_model.losses.base import check, full
from acula_model.losses.cka import MIN_GROUP
from acula_model.losses.contrastive import unit
from acula_model.retrieval import BLOCK, CUTS, Direction, Recall, blocks, retrieval

__all__ = [
    "CUTS",
    "Direction", "Recall", "Verdict", "alignment", "collapse", "effective_rank", "group_floor",
    "retrieval", "uniformity",
]  # fmt: skip

ROUNDING = 8 * torch.finfo(torch.float32).eps

# Collapse. The release's loss ends at an effective rank of 2.3 (sound) and 1.5 (text) from 80, with
# a CKA of 0.01 between the two. The demo, healthy, ends at 2.1 to 2.8 (sound) from 25 to 49, in
# groups of 34 to 103 pairs; wherever it is that narrow its CKA is 0.30 or more (49 measurements),
# and with the release's loss, two-layer heads and no masked term 0.08 or less (26). So rank alone
# tells nothing, and the agreement does. One direction has rank 1: its excess over 1 shrinks.
FEW_PAIRS, NARROW, SHRUNK, UNRELATED = 16, 3.0, 0.1, 0.1


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether something is wrong, and a sentence that says what was seen."""

    wrong: bool
    sentence: str


def alignment(x_ND: Tensor, y_NE: Tensor, group_N: Tensor | None = None) -> float:
    """``losses.debiased_cka`` of many pairs: memory grows with N, not with its square.

    With rows centred in a group of n, k_i = |x_i|^2 and l_i = |y_i|^2, the numerator of a group is

        |X'Y|^2 + sum(k) sum(l) / ((n-1)(n-2)) - n / (n-2) sum(k l),

    the same estimator with K = XX' multiplied out; in double precision, since its terms nearly
    cancel.

    Args:
        x_ND: One row per pair, [N, D].
        y_NE: The same pairs, [N, E].
        group_N: Integer group of each pair; groups of fewer than 4 are left out.

    Returns:
        Debiased CKA; 0 if a side is constant within groups, nan if no group has 4 pairs.
    """
    check(x_ND, y_NE)
    x_ND, y_NE = full(x_ND.detach()), full(y_NE.detach())
    group_N = torch.zeros(len(x_ND)) if group_N is None else group_N.cpu()
    found = [(group_N == g).nonzero()[:, 0].to(x_ND.device) for g in group_N.unique()]
    groups = [members for members in found if len(members) >= MIN_GROUP]
    if not groups:
        return math.nan
    if _is_constant(x_ND, groups) or _is_constant(y_NE, groups):
        return 0.0
    xy = sum(_hsic(x_ND[m], y_NE[m]) for m in groups)
    xx = sum(_hsic(x_ND[m], x_ND[m]) for m in groups)
    yy = sum(_hsic(y_NE[m], y_NE[m]) for m in groups)
    return xy / (math.sqrt(xx) * math.sqrt(yy)) if xx > 0 and yy > 0 else 0.0


def group_floor(text_NE: Tensor, group_N: Tensor) -> float:
    """What knowing only each pair's dataset gives: debiased CKA of its one-hot and the texts.

    The floor of an alignment over pooled datasets; an alignment within groups has floor 0.
    """
    _, index_N = torch.unique(group_N, return_inverse=True)
    return alignment(one_hot(index_N).float().to(text_NE.device), text_NE)


def effective_rank(x_ND: Tensor) -> float:
    """Number of directions that rows spread over: from 1 to min(N - 1, D).

    exp of the entropy of the singular values of the centred rows, divided by their sum (Roy and
    Vetterli, "The Effective Rank", 2007). 0 for rows that are all equal, but for rounding.
    """
    x_ND = x_ND.detach()
    mean_D = x_ND.mean(0, dtype=torch.float64)
    if len(x_ND) <= x_ND.shape[1]:
        value_R = torch.linalg.svdvals(x_ND.double() - mean_D)
    else:
        gram_DD = mean_D.new_zeros(len(mean_D), len(mean_D))
        for rows in x_ND.split(max(1, BLOCK // x_ND.shape[1])):
            centred = rows.double() - mean_D
            gram_DD += centred.T @ centred
        value_R = torch.linalg.eigvalsh(gram_DD).clamp_min(0).sqrt()
    if value_R.norm() <= ROUNDING * torch.linalg.vector_norm(x_ND, dtype=torch.float64):
        return 0.0
    share_R = value_R / value_R.sum()
    return float(torch.special.entr(share_R).sum().exp())


def uniformity(x_ND: Tensor) -> float:
    """Logarithm of the mean of exp(-2 |x_i - x_j|^2) over pairs of rows of length 1, i < j.

    Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere", 2020, with t = 2: 0 if all rows are equal, about -4 if they
    are spread evenly over many directions. nan for fewer than two rows.
    """
    x_ND = unit(x_ND.detach().float())
    total, count = 0.0, len(x_ND)
    if count < 2:
        return math.nan
    for rows in blocks(count):
        # |a - b|^2 = 2 - 2 ab for rows of length 1.
        near = (4 * (x_ND[rows] @ x_ND.T) - 4).exp()
        total += float(near.sum(dtype=torch.float64)) - float(near.diagonal(rows.start).sum())
    return math.log(total / (count * (count - 1)))


def collapse(name: str, now: float, start: float, pairs: int, agreement: float) -> Verdict:
    """Whether a projection of one group's held-out pairs has collapsed.

    A low rank alone is no collapse: what is learned of a group may be two or three findings. It is
    one where the projection is narrow, lost nearly all of its start's directions, and what is
    left says nothing about held-out reports. The constants above say what was measured.

    Args:
        name: What the sentence calls the projection, such as "sound of circor/heart".
        now: ``effective_rank`` of the projection.
        start: The same of the same pairs before training.
        pairs: How many.
        agreement: ``alignment`` of the two projections now, on these pairs, which no head has
            learned; nan where it is unknown, such as for reports that do not differ. (With the
            teacher's vectors in place of the projected text it told 9 of the 26 cases.)
    """
    seen = f"{name}: effective rank {now:.1f} ({start:.1f} before training)"
    if start == 0:
        return Verdict(wrong=False, sentence=f"{name}: all pairs were alike before training")
    if now == 0:
        return Verdict(wrong=True, sentence=f"{name}: collapsed, all {pairs} pairs are one point")
    if pairs < FEW_PAIRS:
        return Verdict(wrong=False, sentence=f"{seen}; {pairs} pairs are too few to judge")
    seen += f", CKA with the other side {agreement:.2f}"
    if now < NARROW and now - 1 < SHRUNK * (start - 1) and agreement < UNRELATED:
        return Verdict(
            wrong=True,
            sentence=f"{seen}: collapsed; lower the learning rate, enlarge the batch or the "
            "queue, or take another alignment loss",
        )
    return Verdict(wrong=False, sentence=f"{seen}: no collapse")


def _hsic(x_ND: Tensor, y_NE: Tensor) -> float:
    """n (n - 3) times the unbiased HSIC of the rows; see ``alignment``."""
    n = len(x_ND)
    x_D, y_E = x_ND.mean(0, dtype=torch.float64), y_NE.mean(0, dtype=torch.float64)
    cross_DE = x_D.new_zeros(len(x_D), len(y_E))
    k_sum, l_sum, kl_sum = x_D.new_zeros(3)
    step = max(1, BLOCK // max(len(x_D), len(y_E), 1))
    for x, y in zip(x_ND.split(step), y_NE.split(step), strict=True):
        x, y = x.double() - x_D, y.double() - y_E
        k_B, l_B = x.square().sum(1), y.square().sum(1)
        cross_DE += x.T @ y
        k_sum, l_sum, kl_sum = k_sum + k_B.sum(), l_sum + l_B.sum(), kl_sum + k_B @ l_B
    rest = k_sum * l_sum / ((n - 1) * (n - 2)) - kl_sum * n / (n - 2)
    return float(cross_DE.square().sum() + rest)


def _is_constant(x_ND: Tensor, groups: Sequence[Tensor]) -> bool:
    """Whether rows differ from the mean of their group by no more than rounding."""
    spread = raw = 0.0
    for members in groups:
        x = x_ND[members]
        spread += float(x.var(0, correction=0).sum(dtype=torch.float64)) * len(x)
        raw += float(torch.linalg.vector_norm(x, dtype=torch.float64)) ** 2
    return spread <= ROUNDING**2 * raw
