"""An objective for encoders that brought none: stay near what the original said.

The published release has a self-supervised term for masked autoencoders only (method notes C15).
Supervised encoders keep their acoustics by distillation instead: a frozen copy of the starting
weights hears the same window; contrastive ones may (``two_crop`` has their own). Source of the
idea: hints of a frozen teacher, Romero et al., "FitNets", 2015.
"""

# B = clips, T = frames, M = mel bins, D = width of the embedding

import copy
from typing import Self

import torch
from torch import Tensor, nn

from acula_model.encoders.base import AudioEncoder


class PreservingEncoder(AudioEncoder):
    """Base of encoders whose own objective is distillation to the frozen original.

    Batch norms keep the statistics of the weights, in training too: those of a batch would make a
    clip's row depend on the others, and the loss would not start at zero.

    Attributes:
        frozen_statistics: False lets batch norms follow the batches, for training from scratch.
    """

    frozen_statistics: bool = True

    def __init__(self):
        super().__init__()
        # In a list, or it would be a submodule: saved, trained and switched to training mode.
        self._original: list[AudioEncoder] = []

    def remember(self) -> None:
        """Keep a frozen copy of the weights as they are now."""
        self._original.clear()
        self._original.append(copy.deepcopy(self).eval().requires_grad_(False))

    def preservation_loss(self, mel_BTM: Tensor) -> Tensor:
        """How far embeddings have moved: squared distance over squared length, mean over clips.

        Args:
            mel_BTM: Windows of ``front_end``, float, [B, T, M].

        Returns:
            Scalar, 0 at the remembered weights; its gradient reaches this encoder only.

        Raises:
            RuntimeError: There is no original: ``remember`` was not called.
        """
        return self._moved(mel_BTM)[0]

    def self_supervised_loss(self, mel_BTM: Tensor, seed_B: Tensor) -> Tensor:
        """``preservation_loss``; nothing is random in it."""
        return self.preservation_loss(mel_BTM)

    def masked_pass(self, mel_BTM: Tensor, seed_B: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and embedding from one pass; nothing is masked here, so nothing else changes."""
        return self._moved(mel_BTM)

    def train(self, mode: bool = True) -> Self:
        """As in torch, except that batch norms stay in eval mode if their statistics are frozen."""
        super().train(mode)
        if self.frozen_statistics:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def _moved(self, mel_BTM: Tensor) -> tuple[Tensor, Tensor]:
        if not self._original:
            raise RuntimeError("no original: call remember() once the starting weights are in")
        with torch.no_grad():
            before_BD = self._original[0].to(mel_BTM.device).embed(mel_BTM).float()
        now_BD = self.embed(mel_BTM)
        distance_B = (now_BD.float() - before_BD).square().sum(1)
        return (distance_B / before_BD.square().sum(1).clamp_min(1e-12)).mean(), now_BD
