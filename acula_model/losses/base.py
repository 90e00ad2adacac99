"""What every alignment loss takes, checks and promises."""

# N = pairs, D = width of sound, E = width of text

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class AlignmentLoss(nn.Module, ABC):
    """Sounds and the vectors of their reports -> a scalar, low when the two agree."""

    def forward(
        self,
        audio_ND: Tensor,
        text_NE: Tensor,
        group_N: Tensor | None = None,
        finding_N: Tensor | None = None,
    ) -> Tensor:
        """Compare in single precision at least, also inside autocast.

        Args:
            audio_ND: One row per pair, [N, D].
            text_NE: The same pairs' reports, [N, E].
            group_N: Integer group of each pair, [N]; only pairs of one group are compared, and
                groups too small to compare are left out. None: one group.
            finding_N: Integer id of each pair's set of findings, [N]: sounds and reports of
                equal findings belong together as much as a pair does. None: only the pair
                itself does. For losses that know positives and negatives; CKA compares
                distances, so equal reports attract by themselves.

        Raises:
            ValueError: Not one row, group or finding per pair; widths that the loss cannot
                compare; or no group that is large enough.
        """
        check(audio_ND, text_NE)
        if finding_N is not None and finding_N.shape != (len(audio_ND),):
            raise ValueError(
                f"one finding id per pair: [{len(audio_ND)}]; got {list(finding_N.shape)}"
            )
        with torch.autocast(audio_ND.device.type, enabled=False):
            return self.compare(full(audio_ND), full(text_NE), group_N, finding_N)

    @abstractmethod
    def compare(
        self, audio_ND: Tensor, text_NE: Tensor, group_N: Tensor | None, finding_N: Tensor | None
    ) -> Tensor:
        """The loss of checked sides, float32 or float64."""


def check(x_ND: Tensor, y_NE: Tensor) -> None:
    """Refuse sides that are not matrices with one row per pair."""
    if x_ND.ndim != 2 or y_NE.ndim != 2 or len(x_ND) != len(y_NE):
        raise ValueError(
            f"one row per clip on both sides; got {list(x_ND.shape)} and {list(y_NE.shape)}"
        )


def check_widths(name: str, x_ND: Tensor, y_NE: Tensor) -> None:
    """Refuse sides that cannot be compared feature by feature."""
    if x_ND.shape[1] != y_NE.shape[1]:
        raise ValueError(
            f"{name} needs equal widths, got {x_ND.shape[1]} and {y_NE.shape[1]}: give both "
            "sides a head of the same output width"
        )


def full(x: Tensor) -> Tensor:
    """At least single precision."""
    return x if x.dtype == torch.float64 else x.float()


def same_group(pairs: int, group_N: Tensor | None, device: torch.device, least: int) -> Tensor:
    """[N, N], true where two pairs are of one group that has at least ``least`` pairs.

    Raises:
        ValueError: Not one group per pair, or no group is large enough.
    """
    if group_N is None:
        group_N = torch.zeros(pairs, dtype=torch.long, device=device)
    if group_N.shape != (pairs,):
        raise ValueError(f"one group per clip: [{pairs}]; got {list(group_N.shape)}")
    group_N = group_N.to(device)
    same_NN = group_N[:, None] == group_N
    same_NN = same_NN & (same_NN.sum(1) >= least)[:, None]
    if not same_NN.any():
        raise ValueError(
            f"no group has {least} of the {pairs} clips, which this loss needs; take larger "
            "batches or a queue"
        )
    return same_NN
