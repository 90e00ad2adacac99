"""What training and probing ask of an audio encoder: this page, and nothing else.

A base class and not a ``typing.Protocol``, because an encoder is also a ``torch.nn.Module`` and
Python has no type for "both".
"""

# B = clips, T = frames, M = mel bins, D = width of the embedding

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from acula_model.front_end import MelFrontEnd


class AudioEncoder(nn.Module, ABC):
    """Spectrogram windows to vectors, with a loss of its own that needs no text.

    Attributes:
        name: Its name in ``acula_model.encoders``.
        front_end: How sound becomes its input, in training and in probing alike.
        width: D, numbers in an embedding; heads take their size from it.
        config: JSON values such that ``build(name, front_end=front_end, **config)`` makes an
            encoder of the same shape.
    """

    name: str
    front_end: MelFrontEnd
    width: int
    config: dict[str, Any]

    @abstractmethod
    def embed(self, mel_BTM: Tensor) -> Tensor:
        """Embed unmasked windows.

        Args:
            mel_BTM: Windows of ``front_end``, float, [B, T, M].

        Returns:
            [B, D]; a clip's row does not depend on the other clips.
        """

    @abstractmethod
    def self_supervised_loss(self, mel_BTM: Tensor, generator: torch.Generator) -> Tensor:
        """The encoder's own objective on windows, such as filling in hidden patches.

        Args:
            mel_BTM: Windows of ``front_end``, float, [B, T, M].
            generator: Source of all randomness, on any device; a resumed run passes one in the
                same state and gets the same loss.

        Returns:
            Scalar, differentiable.
        """

    def masked_pass(self, mel_BTM: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The own objective and embeddings, [B, D], from one pass where the encoder can.

        A masked autoencoder embeds the visible patches only: less than half the time of two
        passes, and patch dropout for the alignment. It changes the objective, so recipes ask.
        """
        return self.self_supervised_loss(mel_BTM, generator), self.embed(mel_BTM)

    def own_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename a state dict with published keys to this module's keys; others pass through."""
        return dict(state)

    def forward(self, mel_BTM: Tensor) -> Tensor:
        """Same as ``embed``."""
        return self.embed(mel_BTM)
