"""Centred kernel alignment: do the two sides agree on which recordings are alike?"""

# N = pairs, D = audio width, E = text width; K and L are the [N, N] Gram matrices of the sides

import torch
from torch import Tensor

from acula_model.losses.base import AlignmentLoss, check, full, same_group

# The debiased estimator divides by n - 3.
MIN_GROUP = 4


class DebiasedCKA(AlignmentLoss):
    """1 - ``debiased_cka``: expects 1 for unrelated sides at any batch size, 0 for equal ones."""

    def compare(
        self, audio_ND: Tensor, text_NE: Tensor, group_N: Tensor | None, finding_N: Tensor | None
    ) -> Tensor:
        """See ``debiased_cka``; ``finding_N`` is not used."""
        return 1 - debiased_cka(audio_ND, text_NE, group_N)


class CKA(AlignmentLoss):
    """1 - linear CKA as in textbooks.

    CKA = <HKH, HLH> / (|HKH| |HLH|), with H the centring matrix (Kornblith et al., "Similarity of
    Neural Network Representations Revisited", 2019, equation 4). Biased: independent sides of
    512 numbers give a CKA of 0.95 at 24 pairs and 0.67 at 256. With groups, K and L keep only
    the blocks of pairs within a group, and H centres within groups.
    """

    def compare(
        self, audio_ND: Tensor, text_NE: Tensor, group_N: Tensor | None, finding_N: Tensor | None
    ) -> Tensor:
        """See the class; ``finding_N`` is not used."""
        same_NN = same_group(len(audio_ND), group_N, audio_ND.device, MIN_GROUP)
        return 1 - cosine(_gram(audio_ND, same_NN), _gram(text_NE, same_NN))


def debiased_cka(x_ND: Tensor, y_NE: Tensor, groups_N: Tensor | None = None) -> Tensor:
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
        x_ND: One row per clip, [N, D].
        y_NE: The rows of the same clips, [N, E].
        groups_N: Integer group of each clip, [N]; groups of fewer than 4 clips are left out.

    Returns:
        Scalar; 0 if a side is constant within groups. Memory grows with N squared; for many
        pairs and no gradient there is ``gauges.alignment``.

    Raises:
        ValueError: The sides are not matrices with one row per clip each, or no group has 4.
    """
    check(x_ND, y_NE)
    same_NN = same_group(len(x_ND), groups_N, x_ND.device, MIN_GROUP)
    return cosine(
        _u_centred(_gram(x_ND, same_NN), same_NN), _u_centred(_gram(y_NE, same_NN), same_NN)
    )


def centred(x_ND: Tensor, same_NN: Tensor) -> Tensor:
    """Centred within groups, and of root mean square 1 so that fourth powers stay finite.

    Half precision becomes single. The scale is a constant for the gradient: no loss here depends
    on it. A side that is constant but for rounding becomes zeros, not amplified rounding.
    """
    x_ND = full(x_ND)
    weight_NN = same_NN.to(x_ND.dtype)
    count_N1 = weight_NN.sum(1, keepdim=True)
    raw = x_ND.detach().square().mean().sqrt()
    x_ND = (x_ND - weight_NN @ x_ND / count_N1.clamp_min(1)) * (count_N1 > 0)
    scale = x_ND.detach().square().mean().sqrt()
    varies = scale > 8 * torch.finfo(x_ND.dtype).eps * raw
    return x_ND * varies / torch.where(varies, scale, 1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> / (|a| |b|); 0, with gradient 0, where a side is zero."""
    tiny = torch.finfo(a.dtype).tiny
    lengths = a.square().sum().clamp_min(tiny).sqrt() * b.square().sum().clamp_min(tiny).sqrt()
    return (a * b).sum() / lengths


def _gram(x_ND: Tensor, same_NN: Tensor) -> Tensor:
    """[N, N]: products of the centred rows, 0 between groups; divided by D to stay near 1."""
    x_ND = centred(x_ND, same_NN)
    return x_ND @ x_ND.T * same_NN / x_ND.shape[1]


def _u_centred(gram_NN: Tensor, same_NN: Tensor) -> Tensor:
    """The matrix A of ``debiased_cka``, all groups at once."""
    others_NN = same_NN & ~torch.eye(len(same_NN), dtype=torch.bool, device=same_NN.device)
    gram_NN = gram_NN * others_NN
    n_N1 = same_NN.sum(1, keepdim=True).clamp_min(MIN_GROUP).to(gram_NN.dtype)
    row_N1 = gram_NN.sum(1, keepdim=True)
    total_N1 = same_NN.to(gram_NN.dtype) @ row_N1
    gram_NN = gram_NN - (row_N1 + row_N1.T) / (n_N1 - 2) + total_N1 / ((n_N1 - 1) * (n_N1 - 2))
    return gram_NN * others_NN
