"""Contrastive losses: a sound lies nearer to its own report than to the others.

Several pairs of a batch often state the same findings (of the release's 1,568 CirCor reports
90 % have a twin), and a report that says the same is no negative. Both losses here take every
report with the sound's findings as a positive; that no positive is ever pushed away decides
between the published forms, see ``InfoNCE``.
"""

# N = pairs, P = width of both sides; "cosine" is of sound i (rows) and report j (columns)

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from acula_model.losses.base import AlignmentLoss, check_widths, same_group


class Contrastive(AlignmentLoss):
    """Cosines of all sounds and reports of a group, and which of them belong together."""

    def compare(
        self, audio_ND: Tensor, text_NE: Tensor, group_N: Tensor | None, finding_N: Tensor | None
    ) -> Tensor:
        """See ``of_cosines``; pairs without another of their group are left out."""
        check_widths("a contrastive loss", audio_ND, text_NE)
        same_NN = same_group(len(audio_ND), group_N, audio_ND.device, least=2)
        equal_NN = torch.eye(len(audio_ND), dtype=torch.bool, device=audio_ND.device)
        if finding_N is not None:
            finding_N = finding_N.to(audio_ND.device)
            equal_NN = equal_NN | (finding_N[:, None] == finding_N)
        cosine_NN = unit(audio_ND) @ unit(text_NE).T
        return self.of_cosines(cosine_NN, same_NN & equal_NN, same_NN & ~equal_NN)

    @abstractmethod
    def of_cosines(self, cosine_NN: Tensor, positive_NN: Tensor, negative_NN: Tensor) -> Tensor:
        """The loss, given which sound and report belong together and which do not."""


class InfoNCE(Contrastive):
    """Symmetric InfoNCE with a learned temperature (CLIP: Radford et al. 2021, figure 3).

    For one positive p of row i, with the negatives n of that row and s = cosine / temperature,

        l_ip = -log( exp(s_ip) / (exp(s_ip) + sum_n exp(s_in)) ),

    averaged over the positives of a row, over rows that have a negative, and over both
    directions. With one positive per row it is CLIP's loss. The other positives are not in the
    denominator (Feeney and Hughes, "SINCERE: Supervised Information Noise-Contrastive
    Estimation Revisited", 2023). With them there, as in SupCon (Khosla et al. 2020, equation 2,
    L_out), the gradient of s_ip is its share of the softmax minus 1 / |P_i|, so the nearest of
    the twins is pushed away; with their sum inside the logarithm (equation 3, L_in) one near
    positive is enough and the others are hardly pulled.
    """

    # CLIP: starts at a temperature of 0.07; logits are never multiplied by more than 100.
    START, LARGEST = 1 / 0.07, 100.0

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(self.START)))

    def of_cosines(self, cosine_NN: Tensor, positive_NN: Tensor, negative_NN: Tensor) -> Tensor:
        """See the class; 0 where there is no negative at all."""
        # In place, as CLIP after each step: clamped in the graph it would get stuck at the bound.
        self.log_scale.data.clamp_(max=math.log(self.LARGEST))
        logit_NN = self.log_scale.exp() * cosine_NN
        there = _one_way(logit_NN, positive_NN, negative_NN)
        return (there + _one_way(logit_NN.T, positive_NN.T, negative_NN.T)) / 2


class Sigmoid(Contrastive):
    """A yes or no for each sound and report (SigLIP: Zhai et al. 2023, algorithm 1).

    -1/N sum_ij log sigmoid(z_ij (t cosine_ij + b)), z_ij = 1 where the two belong together and
    -1 elsewhere; t = exp(t') and b are learned and start, as there, at 10 and -10, so that the
    many negatives cost nothing at first.
    """

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-10.0))

    def of_cosines(self, cosine_NN: Tensor, positive_NN: Tensor, negative_NN: Tensor) -> Tensor:
        """See the class; N counts the pairs that have another of their group."""
        logit_NN = self.log_scale.exp() * cosine_NN + self.bias
        each_NN = positive_NN * logsigmoid(logit_NN) + negative_NN * logsigmoid(-logit_NN)
        return -each_NN.sum() / positive_NN.any(1).sum()


def unit(x_NP: Tensor) -> Tensor:
    """Rows of length 1, of any finite scale; a row of zeros stays, with a finite gradient.

    The largest entry of a row is a constant for the gradient: the result does not depend on it.
    """
    peak_N1 = x_NP.detach().abs().amax(1, keepdim=True)
    x_NP = x_NP / torch.where(peak_N1 > 0, peak_N1, 1)
    # At least 1 for every row but zeros.
    return x_NP / x_NP.square().sum(1, keepdim=True).clamp_min(0.25).sqrt()


def _one_way(logit_NN: Tensor, positive_NN: Tensor, negative_NN: Tensor) -> Tensor:
    """Each row looks for its positives among its negatives."""
    nothing = torch.finfo(logit_NN.dtype).min
    against_N1 = logit_NN.masked_fill(~negative_NN, nothing).logsumexp(1, keepdim=True)
    each_NN = -logsigmoid(logit_NN - against_N1) * positive_NN
    row_N = each_NN.sum(1) / positive_NN.sum(1).clamp_min(1)
    return row_N.sum() / negative_NN.any(1).sum().clamp_min(1)
