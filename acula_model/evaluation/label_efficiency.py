"""How good the default head is with a tenth, half and all of the labelled persons."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from acula_model.evaluation import examples as rows_of
from acula_model.evaluation import sides
from acula_model.evaluation.examples import Examples, Features, Index, Split
from acula_model.evaluation.sides import Compared
from acula_model.evaluation.task import Task

SHARES = (0.1, 0.5, 1.0)
DRAWS = 3
# A line through fewer persons than this can point anywhere: at 3, errors of 20 times the spread
# of a volume were seen.
_FEWEST_OF_A_NUMBER = 5


@dataclass(frozen=True, kw_only=True)
class Share:
    """One share of the labelled persons.

    Attributes:
        share: Of the persons of train and validation, whose labels a user would have to buy.
        persons: How many these are, a mean over draws.
        compared: Metric on the whole test fold, a mean over draws; both encoders learn from
            the same persons.
    """

    share: float
    persons: float
    compared: Compared


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cut(Examples):
    """Examples of which only some persons may be learned from; all are tested as before."""

    kept: frozenset[str]

    @property
    def splits(self) -> list[Split]:
        known = np.isin(self.persons, sorted(self.kept))
        return [
            Split(train=s.train[known[s.train]], val=s.val[known[s.val]], test=s.test)
            for s in super().splits
        ]


def curve(
    before: Features,
    after: Features,
    rows: Iterable[Mapping[str, Any]],
    task: Task,
    shares: tuple[float, ...] = SHARES,
    draws: int = DRAWS,
) -> list[Share]:
    """Train on random persons, the same for both encoders, and test on all test persons.

    Args:
        before: recording id -> features of the encoder before alignment.
        after: Of the aligned one.
        rows: ``TaskRow`` of one task and variant.
        task: What decides how it is scored.
        shares: Of the persons of each class, never fewer than two of them; of all in a
            regression, never fewer than five.
        draws: Of persons; all of them need no draw.

    Raises:
        NotRun: The task cannot be scored at all; says why.
    """
    rows = list(rows)
    both = [rows_of.gather(task, rows, features) for features in (before, after)]
    for examples in both:
        rows_of.check_size(examples)
    found: list[Share] = []
    for share in shares:
        times = 1 if share >= 1 else draws
        kept = [_drawn(both[0], share, draw) for draw in range(times)]
        one, other = ([sides.probe(_Cut(**vars(e), kept=k)) for k in kept] for e in both)
        found.append(
            Share(
                share=share,
                persons=float(np.mean([len(k) for k in kept])),
                compared=sides.compare(one, other),
            )
        )
    return found


def _drawn(examples: Examples, share: float, draw: int) -> frozenset[str]:
    """Persons by a hash of their ids: a share of each class within train and validation."""
    regression = examples.task.kind == "regression"
    least = _FEWEST_OF_A_NUMBER if regression else rows_of.MIN_PERSONS
    return frozenset(
        person
        for fold in ("train", "val", "each")
        for persons in _by_class(examples, np.flatnonzero(examples.folds == fold))
        for person in _first(persons, share, draw, least)
    )


def _first(persons: set[str], share: float, draw: int, least: int) -> list[str]:
    order = sorted(persons, key=lambda p: rows_of.chance(p, f"labels {draw}"))
    return order[: max(least, round(share * len(order)))]


def _by_class(examples: Examples, rows: Index) -> list[set[str]]:
    persons, labels = examples.persons[rows], examples.labels[rows]
    if examples.task.kind == "regression":
        return [set(persons.tolist())]
    return [set(persons[labels == c].tolist()) for c in range(examples.classes)]
