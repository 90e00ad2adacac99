"""A trained model for those who use it: sounds and reports -> vectors, similarity, retrieval."""

# N = sounds, M = texts, D = width of the encoder, Q = width of the shared space

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from acula_model import checkpoint, embedding, encoders, heads, teachers
from acula_model.embedding import Embedded, Sound
from acula_model.encoders.base import AudioEncoder
from acula_model.teachers import Teacher, Text

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Match:
    """A place in the list that was searched, and its similarity in [-1, 1]."""

    index: int
    score: float


class Model:
    """An audio encoder, and what compares its vectors with reports if it was aligned.

    Attributes:
        encoder: The audio model, frozen.
        origin: Which weights these are: source, commit, hash.
        meta: What was saved with them: recipe, epoch, teacher.
        width: D, numbers in an embedding.
        sample_rate: Hz, that samples given as arrays must have.
    """

    def __init__(
        self,
        encoder: AudioEncoder,
        origin: checkpoint.Origin,
        aligned: checkpoint.Checkpoint | None = None,
        teacher: Teacher | None = None,
    ):
        self.encoder = encoder.eval().requires_grad_(False)
        self.origin, self._aligned, self._teacher = origin, aligned, teacher
        self.meta: dict[str, Any] = aligned.meta if aligned else {}
        self.width, self.sample_rate = encoder.width, encoder.front_end.sample_rate

    def embed(self, sounds: Iterable[Sound], batch: int = embedding.BATCH) -> Matrix:
        """Vectors of sounds: the mean over each one's windows.

        Args:
            sounds: Files of any format, or mono samples [S] at ``sample_rate``.
            batch: Windows per pass; decides no numbers.

        Returns:
            float32 [N, D].

        Raises:
            SoundError: A sound cannot be used; says which and why.
        """
        return embedding.matrix(self.stream(sounds, batch), self.width)

    def stream(
        self, sounds: Iterable[Sound], batch: int = embedding.BATCH, workers: int | None = None
    ) -> Iterator[Embedded]:
        """The same one by one, for more sounds than fit into memory; errors are rows."""
        return embedding.embed(self.encoder, sounds, batch, workers)

    def similarity(self, sounds: Iterable[Sound], texts: Sequence[Text]) -> Matrix:
        """How well reports fit sounds: cosine in the space that alignment made.

        Only comparisons with other texts or other sounds mean something; the numbers are no
        probabilities.

        Args:
            sounds: As in ``embed``.
            texts: Reports or single statements, in the words of the training reports.

        Returns:
            float32 [N, M], each in [-1, 1].

        Raises:
            ValueError: The model was not aligned, or its teacher is not at hand.
            SoundError: A sound cannot be used.
        """
        audio_head, text_head, bridge = self._heads()
        read = self.teacher.embed(texts)
        # Of several layers the first one has the head that compares.
        text_ME = torch.from_numpy(read if read.ndim == 2 else read[:, 0])
        audio_ND = torch.from_numpy(self.embed(sounds))
        with torch.inference_mode():
            audio_NQ = bridge.audio(audio_head(audio_ND))
            return (audio_NQ @ bridge.text(text_head(text_ME)).T).numpy()

    def retrieve(
        self,
        sounds: Iterable[Sound],
        texts: Sequence[Text],
        top: int = 5,
        by: Literal["sound", "text"] = "sound",
    ) -> list[list[Match]]:
        """The closest reports of each sound, or the closest sounds of each report.

        Args:
            sounds: As in ``embed``.
            texts: As in ``similarity``.
            top: How many to return.
            by: ``sound`` searches the texts for every sound, ``text`` the other way round.

        Returns:
            A list per sound (or text), best match first.

        Raises:
            ValueError: As ``similarity``.
        """
        scores = self.similarity(sounds, texts)
        rows = scores if by == "sound" else scores.T
        order = np.argsort(-rows, axis=1, kind="stable")[:, :top]
        return [
            [Match(int(i), float(row[i])) for i in best]
            for row, best in zip(rows, order, strict=True)
        ]

    @property
    def teacher(self) -> Teacher:
        """The text model that the encoder was aligned with, loaded when first asked for.

        Raises:
            ValueError: Not recorded, or fitted and not kept.
            HubError: The Hub does not hand it out.
        """
        if self._teacher is None:
            recipe = self.meta.get("recipe")
            if recipe is None or self._aligned is None:
                raise ValueError("no teacher is recorded with these weights; pass teacher=")
            config = dict(recipe["teacher_config"])
            known = self.meta.get("teacher")
            if known and "/" in known["model"]:
                # Of the Hub: the very commit that training read, not what is there by now.
                config["revision"] = known["revision"].partition("/")[0]
            self._teacher = teachers.reopen(recipe["teacher"], self._aligned.teacher, **config)
        return self._teacher

    def _heads(self) -> tuple[torch.nn.Module, torch.nn.Module, heads.Bridge]:
        states = self._aligned.heads if self._aligned else {}
        wanted = ("audio_head", "text_head", "bridge")
        if missing := [name for name in wanted if name not in states]:
            raise ValueError(
                f"{self.origin.source} cannot compare sounds with reports: it has no "
                f"{', '.join(missing)}"
            )
        found = [heads.rebuild(states[name]) for name in wanted[:2]]
        return found[0], found[1], heads.Bridge.rebuild(states["bridge"])


def load(
    source: str | Path,
    encoder: str | None = None,
    accept: Collection[str] = (),
    teacher: Teacher | None = None,
    device: str = "auto",
) -> Model:
    """Load a model; see ``acula_model.load``."""
    if checkpoint.is_ours(source):
        found = checkpoint.load(source, accept)
        if encoder not in (None, found.encoder.name):
            raise checkpoint.CheckpointError(
                f"{source} holds the encoder {found.encoder.name}, not {encoder}"
            )
        model = Model(found.encoder, found.origin, found, teacher)
    else:
        if encoder is None:
            raise ValueError(
                f"{source} does not say which encoder it is of; name one of "
                f"{', '.join(sorted(encoders.ENCODERS))}"
            )
        bare = encoders.build(encoder)
        model = Model(bare, checkpoint.restore(bare, source, accept), teacher=teacher)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model.encoder.to(device)
    return model
