"""What one head said of the tested, and how far two encoders are apart on them."""

# N = tested recordings, U = units, C = classes

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acula_model.evaluation import examples as rows_of
from acula_model.evaluation import intervals
from acula_model.evaluation.examples import Examples, Index
from acula_model.evaluation.intervals import Difference, Interval, Scored
from acula_model.evaluation.metrics import Floats
from acula_model.evaluation.protocols import Outcome, default


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A metric of two encoders on the same units, paired over persons.

    Attributes:
        before: Of the encoder before alignment.
        after: Of the aligned one.
        difference: After - before; of an MAE, below zero is better.
    """

    before: Interval
    after: Interval
    difference: Difference


def tested(examples: Examples, rows: Index, outputs_NC: Floats) -> Scored:
    """What was said of recordings, as a mean over each unit's.

    Args:
        examples: Where rows are from.
        rows: [N] tested recordings.
        outputs_NC: Class probabilities or any scores, higher for the class; [N, 1] numbers.
    """
    at_U, said_UC = rows_of.per_unit(examples, rows, outputs_NC)
    kind = examples.task.kind
    column = {"regression": 0, "binary": 1, "multiclass": slice(None)}[kind]
    return Scored(
        outputs=said_UC[:, column],
        labels=examples.labels[at_U],
        persons=examples.persons[at_U].tolist(),
        kind=kind,
    )


def probe(examples: Examples) -> Scored:
    """The default linear head's test side, a mean over its seeds.

    Raises:
        NotRun: Too few persons; says in which fold.
    """
    rows_of.check_size(examples)
    outcome: Outcome = default.run(examples, shuffles=0)
    return tested(examples, outcome.rows, outcome.outputs.mean(0))


def compare(before: Sequence[Scored], after: Sequence[Scored]) -> Compared:
    """Means over equally many runs, with the same persons drawn for both encoders."""
    return Compared(
        before=intervals.interval(before),
        after=intervals.interval(after),
        difference=intervals.mean_difference({"": after}, {"": before}),
    )


def counted(side: Scored) -> tuple[int, int]:
    """Units and persons of a test side."""
    return len(side.labels), len(np.unique(side.persons))
