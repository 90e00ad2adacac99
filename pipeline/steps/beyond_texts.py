"""A finished run's teacher and heads -> vectors of prompts and of test persons' reports."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from acula_model import heads, hub
from acula_model.checkpoint import Checkpoint
from acula_model.evaluation.examples import NotRun
from acula_model.model import Model
from acula_model.recipes import Recipe
from acula_model.teachers import Report, cache

Matrix = npt.NDArray[np.float32]
_HEADS = ("audio_head", "text_head", "bridge")


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What the teacher made of texts, and the space that heads and bridge project into.

    Attributes:
        vectors: Report hash -> [E], or [L, E]; of several layers the first one is compared.
        missing: Why there are none, in one sentence; None where there are.
        aligned: Of the run.
    """

    vectors: Mapping[str, Matrix]
    missing: str | None
    aligned: Checkpoint

    def raw(self, hashes: Sequence[str]) -> Matrix:
        """[N, E] as the teacher gives them.

        Raises:
            NotRun: The teacher is not at hand.
        """
        if self.missing is not None:
            raise NotRun(self.missing)
        rows = np.stack([self.vectors[h] for h in hashes])
        return rows if rows.ndim == 2 else rows[:, 0]

    @torch.inference_mode()
    def reports(self, hashes: Sequence[str]) -> Matrix:
        """[N, Q]: unit vectors in the shared space.

        Raises:
            NotRun: The teacher is not at hand, or nothing was aligned.
        """
        _, text_head, bridge = self._heads()
        return bridge.text(text_head(torch.from_numpy(self.raw(hashes)))).numpy()

    @torch.inference_mode()
    def sounds(self, vectors: Sequence[Matrix]) -> Matrix:
        """[N, Q]: embeddings of the aligned encoder, in the same space.

        Raises:
            NotRun: Nothing was aligned.
        """
        audio_head, _, bridge = self._heads()
        return bridge.audio(audio_head(torch.from_numpy(np.stack(vectors)))).numpy()

    def _heads(self) -> tuple[torch.nn.Module, torch.nn.Module, heads.Bridge]:
        states = self.aligned.heads
        if any(name not in states for name in _HEADS):
            raise NotRun("this run aligned nothing, so sounds and texts share no space")
        audio_head, text_head = (heads.rebuild(states[name]) for name in _HEADS[:2])
        return audio_head, text_head, heads.Bridge.rebuild(states["bridge"])


def read(
    aligned: Checkpoint,
    recipe: Recipe,
    prompts: Iterable[Report],
    pairs: Iterable[Mapping[str, Any]],
    folder: Path,
    progress: Callable[[str], None],
) -> Texts:
    """Let the run's own teacher read prompts, and pairs' reports in the recipe's version.

    Args:
        aligned: Of the run.
        recipe: Says which of a pair's two texts.
        prompts: Statements of classes.
        pairs: Rows of test persons.
        folder: Cache of their vectors, apart from that of training.
        progress: Called with a line after each part.
    """
    name = recipe.text
    stated = [
        Report(r[f"{name}_hash"], r[f"{name}_text"], tuple(r[f"{name}_terms"])) for r in pairs
    ]
    try:
        teacher = Model(aligned.encoder, aligned.origin, aligned).teacher
    except (hub.HubError, ValueError) as error:
        return Texts(vectors={}, missing=f"the teacher is not at hand: {error}", aligned=aligned)
    vectors, _ = cache.embed(teacher, [*prompts, *stated], folder, progress)
    return Texts(vectors=vectors, missing=None, aligned=aligned)
