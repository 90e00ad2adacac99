"""The loss in the code of the AcuLa release."""

# N = pairs, D = width of both sides

from torch import Tensor

from acula_model.losses.base import AlignmentLoss, check_widths, same_group
from acula_model.losses.cka import centred, cosine


class ReleaseCov(AlignmentLoss):
    """1 - cosine of the two covariance matrices: 1 - <X'X, Y'Y> / (|X'X| |Y'Y|), both centred.

    A sum over pairs inside each covariance forgets which report came with which sound: shuffling
    the reports changes neither the value nor the gradient. Groups and findings are not used, as
    in the release.
    """

    def compare(
        self, audio_ND: Tensor, text_NE: Tensor, group_N: Tensor | None, finding_N: Tensor | None
    ) -> Tensor:
        """See the class."""
        check_widths("release_cov", audio_ND, text_NE)
        everything = same_group(len(audio_ND), None, audio_ND.device, least=1)
        x_ND, y_ND = centred(audio_ND, everything), centred(text_NE, everything)
        return 1 - cosine(x_ND.T @ x_ND, y_ND.T @ y_ND)
