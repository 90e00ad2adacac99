"""Alignment losses: how far the geometry of sounds is from the geometry of their reports.

Every loss takes ``(audio_BD, text_BE, group_B=None)`` and returns a scalar that is low when the
two agree. Groups are datasets or recording kinds: over pooled datasets, a loss is mostly won by
telling the datasets apart, so with groups only pairs of clips of one group are compared.

``release_cov`` does not depend on which report belongs to which sound. It is here to reproduce
the release and for nothing else.
"""

# B = pairs, D = audio width, E = text width; K and L are the [B, B] Gram matrices of the sides

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

# The debiased estimator divides by n - 3.
MIN_GROUP = 4


class AlignmentLoss(Protocol):
    """The form of every entry of ``LOSSES``."""

    def __call__(self, audio_BD: Tensor, text_BE: Tensor, group_B: Tensor | None = None) -> Tensor:
        """Return a scalar, low when sounds and reports agree."""
        ...


def cka_debiased(audio_BD: Tensor, text_BE: Tensor, group_B: Tensor | None = None) -> Tensor:
    """1 - ``debiased_cka``: expects 1 for unrelated sides at any batch size, 0 for equal ones."""
    return 1 - debiased_cka(audio_BD, text_BE, group_B)


def cka(audio_BD: Tensor, text_BE: Tensor, group_B: Tensor | None = None) -> Tensor:
    """1 - linear CKA as in textbooks.

    CKA = <HKH, HLH> / (|HKH| |HLH|), with H the centring matrix (Kornblith et al., "Similarity of
    Neural Network Representations Revisited", 2019, equation 4). Biased: independent sides of
    512 numbers give a CKA of 0.95 at 24 pairs and 0.67 at 256. With groups, K and L keep only
    the blocks of pairs within a group, and H centres within groups.

    Raises:
        ValueError: as for ``debiased_cka``.
    """
    _check(audio_BD, text_BE)
    same_BB = _same_group(len(audio_BD), group_B, audio_BD.device)
    return 1 - _cosine(_gram(audio_BD, same_BB), _gram(text_BE, same_BB))


def release_cov(audio_BD: Tensor, text_BE: Tensor, group_B: Tensor | None = None) -> Tensor:
    """The loss in the code of the AcuLa release: 1 - cosine of the two covariance matrices.

    1 - <X'X, Y'Y> / (|X'X| |Y'Y|), with X and Y centred. A sum over pairs inside each covariance
    forgets which report came with which sound: shuffling the reports changes neither the value
    nor the gradient. ``group_B`` is not used, as in the release.

    Raises:
        ValueError: Different widths, which cannot be compared feature by feature.
    """
    _check(audio_BD, text_BE)
    if audio_BD.shape[1] != text_BE.shape[1]:
        raise ValueError(
            f"release_cov needs equal widths, got {audio_BD.shape[1]} and {text_BE.shape[1]}"
        )
    everything = _same_group(len(audio_BD), None, audio_BD.device)
    x_BD, y_BE = _centred(audio_BD, everything), _centred(text_BE, everything)
    return 1 - _cosine(x_BD.T @ x_BD, y_BE.T @ y_BE)


def debiased_cka(x_BD: Tensor, y_BE: Tensor, groups_B: Tensor | None = None) -> Tensor:
    """Debiased linear CKA, as a metric: in [-1, 1], on average 0 for unrelated sides.

    With the Gram matrix K = XX' and its U-centred form, for i != j (and 0 for i = j),

        A_ij = K_ij - r_i / (n-2) - r_j / (n-2) + s / ((n-1)(n-2)),

    r the row sums and s the total of K without its diagonal, <A, B> / (n (n-3)) is the unbiased
    HSIC of Song et al. ("Feature Selection via Dependence Maximization", 2012; in this form
    Szekely and Rizzo, "Partial Distance Correlation", 2014), and

        CKA = sum_g <A_g, B_g> / sqrt(sum_g <A_g, A_g> * sum_g <B_g, B_g>)

    with one matrix per group (one group if none are given). That is the pooled HSIC
    sum_g w_g HSIC(K_g, L_g) with w_g = n_g (n_g - 3): every pair of clips of a group counts
    once, which is the weight with the least noise for unrelated sides. What only the means of
    groups agree on counts nothing. The sums of squares cannot be negative, so the root is safe.

    Args:
        x_BD: One row per clip, [B, D].
        y_BE: The rows of the same clips, [B, E].
        groups_B: Integer group of each clip, [B]; groups of fewer than 4 clips are left out.

    Returns:
        Scalar; 0 if a side is constant within groups. Memory grows with B squared.

    Raises:
        ValueError: The sides are not matrices with one row per clip each, or no group has 4.
    """
    _check(x_BD, y_BE)
    same_BB = _same_group(len(x_BD), groups_B, x_BD.device)
    return _cosine(
        _u_centred(_gram(x_BD, same_BB), same_BB), _u_centred(_gram(y_BE, same_BB), same_BB)
    )


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cka_debiased": cka_debiased,
    "cka": cka,
    "release_cov": release_cov,
}


def build(name: str) -> AlignmentLoss:
    """The loss of that name.

    Raises:
        ValueError: Unknown name; the message lists the known ones.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown alignment loss {name!r}; known: {', '.join(sorted(LOSSES))}")
    return LOSSES[name]


def _check(x_BD: Tensor, y_BE: Tensor) -> None:
    if x_BD.ndim != 2 or y_BE.ndim != 2 or len(x_BD) != len(y_BE):
        raise ValueError(
            f"one row per clip on both sides; got {list(x_BD.shape)} and {list(y_BE.shape)}"
        )


def _same_group(pairs: int, group_B: Tensor | None, device: torch.device) -> Tensor:
    """[B, B], true where two clips are of one group that is large enough."""
    if group_B is None:
        group_B = torch.zeros(pairs, dtype=torch.long, device=device)
    if group_B.shape != (pairs,):
        raise ValueError(f"one group per clip: [{pairs}]; got {list(group_B.shape)}")
    group_B = group_B.to(device)
    same_BB = group_B[:, None] == group_B
    same_BB = same_BB & (same_BB.sum(1) >= MIN_GROUP)[:, None]
    if not same_BB.any():
        raise ValueError(f"no group has {MIN_GROUP} of the {pairs} clips: CKA is not defined")
    return same_BB


def _centred(x_BD: Tensor, same_BB: Tensor) -> Tensor:
    """Centred within groups, and of root mean square 1 so that fourth powers stay finite.

    Half precision becomes single. The scale is a constant for the gradient: no loss here depends
    on it. A side that is constant but for rounding becomes zeros, not amplified rounding.
    """
    x_BD = x_BD if x_BD.dtype == torch.float64 else x_BD.float()
    weight_BB = same_BB.to(x_BD.dtype)
    count_B1 = weight_BB.sum(1, keepdim=True)
    raw = x_BD.detach().square().mean().sqrt()
    x_BD = (x_BD - weight_BB @ x_BD / count_B1.clamp_min(1)) * (count_B1 > 0)
    scale = x_BD.detach().square().mean().sqrt()
    rounding = 8 * torch.finfo(x_BD.dtype).eps * raw
    return torch.where(scale > rounding, x_BD / scale, torch.zeros_like(x_BD))


def _gram(x_BD: Tensor, same_BB: Tensor) -> Tensor:
    """[B, B]: products of the centred rows, 0 between groups; divided by D to stay near 1."""
    x_BD = _centred(x_BD, same_BB)
    return x_BD @ x_BD.T * same_BB / x_BD.shape[1]


def _u_centred(gram_BB: Tensor, same_BB: Tensor) -> Tensor:
    """The matrix A of ``debiased_cka``, all groups at once."""
    others_BB = same_BB & ~torch.eye(len(same_BB), dtype=torch.bool, device=same_BB.device)
    gram_BB = gram_BB * others_BB
    n_B1 = same_BB.sum(1, keepdim=True).clamp_min(MIN_GROUP).to(gram_BB.dtype)
    row_B1 = gram_BB.sum(1, keepdim=True)
    total_B1 = same_BB.to(gram_BB.dtype) @ row_B1
    gram_BB = gram_BB - (row_B1 + row_B1.T) / (n_B1 - 2) + total_B1 / ((n_B1 - 1) * (n_B1 - 2))
    return gram_BB * others_BB


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> / (|a| |b|); 0, with gradient 0, where a side is zero."""
    tiny = torch.finfo(a.dtype).tiny
    lengths = a.square().sum().clamp_min(tiny).sqrt() * b.square().sum().clamp_min(tiny).sqrt()
    return (a * b).sum() / lengths
