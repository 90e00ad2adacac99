"""What training, probing and serving ask of an audio encoder: this page, and nothing else.

A base class and not a ``typing.Protocol``, because an encoder is also a ``torch.nn.Module`` and
Python has no type for "both".
"""

# B = clips, T = frames, M = mel bins, N = tokens of a clip, D = width of the embedding

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from acula_model import waves
from acula_model.front_end import FrontEnd

WINDOWS_AT_ONCE = 64  # of a long recording


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where weights come from and what may be done with them."""

    source: str  # path or Hub id
    revision: str | None = None  # commit of the Hub's repository, or ``sha256:`` of the file
    licence: str


RANDOM = Weights(source="random", licence="that of whoever trains them")


class AudioEncoder(nn.Module, ABC):
    """Spectrogram windows to vectors, with a loss of its own that needs no text.

    Attributes:
        name: Its name in ``acula_model.encoders``.
        front_end: How sound becomes its input and how recordings become windows: one policy for
            training, probing and serving.
        width: D, numbers in an embedding; heads take their size from it.
        config: JSON values such that ``build(name, front_end=front_end, **config)`` makes an
            encoder of the same shape.
        published: The weights that fit, and their licence; None where nobody published any.
        weights: The weights inside; whoever loads some sets it.
        objective_compares_clips: Whether the own objective tells clips of a batch apart. If not,
            the loss of a batch is the mean of what its clips give alone.
    """

    name: str
    front_end: FrontEnd
    width: int
    config: dict[str, Any]
    published: Weights | None = None
    weights: Weights = RANDOM
    objective_compares_clips: bool = False

    @abstractmethod
    def embed(self, mel_BTM: Tensor) -> Tensor:
        """Embed unmasked windows.

        Args:
            mel_BTM: Windows of ``front_end``, float, [B, T, M].

        Returns:
            [B, D]; a clip's row does not depend on the other clips.
        """

    def embed_recordings(
        self, recordings: Iterable[npt.ArrayLike | Tensor], sample_rate: int
    ) -> Tensor:
        """Embed recordings of any length: the mean over all windows of the front end.

        Args:
            recordings: As ``waves.prepared`` takes them.
            sample_rate: Of all of them, Hz.

        Returns:
            [B, D].

        Raises:
            ValueError: No sound, or a rate or channels that cannot be converted without loss.
        """
        device, found = next(self.parameters()).device, list[Tensor]()
        for recording in recordings:
            wave = waves.prepared(recording, sample_rate, self.front_end.sample_rate)
            parts = self.front_end.windows(wave).split(WINDOWS_AT_ONCE)
            found.append(torch.cat([self.embed(part.to(device)) for part in parts]).mean(0))
        return torch.stack(found)

    def tokens(self, mel_BTM: Tensor) -> Tensor:
        """[B, T, M] -> [B, N, D]: features of places in the window, where an encoder has them."""
        raise NotImplementedError(f"{self.name} has no token features")

    @abstractmethod
    def self_supervised_loss(self, mel_BTM: Tensor, seed_B: Tensor) -> Tensor:
        """The encoder's own objective on windows, such as filling in hidden patches.

        Args:
            mel_BTM: Windows of ``front_end``, float, [B, T, M].
            seed_B: A number per clip, int64, on the device of the windows: all randomness of a
                clip comes from its own (``noise``, streams from ``OBJECTIVE`` on), so it does
                not depend on batches, processes or order, and a resumed run repeats none.

        Returns:
            Scalar, differentiable.
        """

    def masked_pass(self, mel_BTM: Tensor, seed_B: Tensor) -> tuple[Tensor, Tensor]:
        """The own objective and embeddings, [B, D], from one pass where the encoder can.

        A masked autoencoder embeds the visible patches only: less than half the time of two
        passes, and patch dropout for the alignment. It changes the objective, so recipes ask.
        """
        return self.self_supervised_loss(mel_BTM, seed_B), self.embed(mel_BTM)

    def remember(self) -> None:
        """Told once the starting weights are in, for an objective that compares with them."""

    def own_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict with published keys, under this module's keys; its own pass through.

        Published entries that no feature needs are left out, by name and never by default.
        """
        return dict(state)

    def load_pretrained(self, source: str, revision: str | None = None) -> None:
        """Load a model of transformers, for encoders that are published as one.

        Args:
            source: Folder or Hub id.
            revision: Branch, tag or commit on the Hub; ``weights`` then has the commit found.

        Raises:
            NotImplementedError: It is published as a file, which ``checkpoint.restore`` reads.
            CheckpointError: Keys or sizes that do not fit, all of them.
            HubError: The Hub has no such model, guards it, or cannot be reached.
        """
        raise NotImplementedError(f"{self.name} is not published as a model of transformers")

    @property
    def description(self) -> dict[str, Any]:
        """JSON values that belong beside every embedding: weights, input and window policy."""
        return {
            "encoder": self.name,
            "config": self.config,
            "width": self.width,
            "parameters": sum(p.numel() for p in self.parameters()),
            "weights": asdict(self.weights),
            "front_end": asdict(self.front_end) | {"key": self.front_end.key},
            "windows": self.front_end.policy,
        }

    def forward(self, mel_BTM: Tensor) -> Tensor:
        """Same as ``embed``."""
        return self.embed(mel_BTM)
