"""Ways to train and choose a head; each gives what it says of every tested recording."""

# S = seeds, K = shuffles, N = tested recordings, C = classes

from dataclasses import dataclass, field
from typing import Any

from acula_model.evaluation.examples import Index
from acula_model.evaluation.metrics import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What one head said.

    Attributes:
        rows: [N] tested examples, each once.
        outputs: [S, N, C] class probabilities per seed; [S, N, 1] numbers for regression.
        shuffled: [K, N, C], the same head trained on shuffled labels; K may be 0.
        strength: Of the penalty; a median over those left out.
        flags: Words of ``score.FLAGS``.
        notes: JSON values for a score's details.
    """

    rows: Index
    outputs: Floats
    shuffled: Floats
    strength: float | None = None
    flags: tuple[str, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)
