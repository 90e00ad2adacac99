"""What needs no sound at all: the mean, a memory of persons, and labels that mean nothing."""

# N = recordings, C = number of classes, K = shuffles

from collections.abc import Callable

import numpy as np

from acula_model.evaluation.examples import Examples, Index, Split, Strings
from acula_model.evaluation.metrics import Floats
from acula_model.evaluation.protocols import Outcome

NAMES = ("majority", "identity_lookup")


def majority(examples: Examples) -> Outcome:
    """Class shares of train (AUROC 0.5 whatever they are), or its mean label, for everyone."""
    return _each(examples, lambda split: _usual(examples, split))


def identity_lookup(examples: Examples) -> Outcome:
    """The label that each person had in train or validation, and the majority for a stranger.

    On a split that shares no person this is the floor; above it is what persons on both
    sides give away.
    """

    def remember(split: Split) -> Floats:
        seen: dict[str, list[Floats]] = {}
        known = np.concatenate([split.train, split.val])
        for person, label in zip(examples.persons[known], one_hot(examples, known), strict=True):
            seen.setdefault(str(person), []).append(label)
        said = _stranger(examples, split)
        return np.stack(
            [np.mean(seen.get(str(p), [said]), axis=0) for p in examples.persons[split.test]]
        )

    return _each(examples, remember)


def _each(examples: Examples, says: Callable[[Split], Floats]) -> Outcome:
    splits = examples.splits
    outputs = np.concatenate([says(s) for s in splits])[None]
    rows = np.concatenate([s.test for s in splits])
    return Outcome(rows=rows, outputs=outputs, shuffled=outputs[:0])


def _usual(examples: Examples, split: Split) -> Floats:
    return np.tile(one_hot(examples, split.train).mean(0), (len(split.test), 1))


def _stranger(examples: Examples, split: Split) -> Floats:
    if examples.task.kind == "regression":
        return one_hot(examples, split.train).mean(0)
    return np.full(examples.classes, 1 / examples.classes)


def one_hot(examples: Examples, rows: Index) -> Floats:
    """[N, C] of classes, or [N, 1] of numbers."""
    labels = examples.labels[rows]
    if examples.task.kind == "regression":
        return labels[:, None]
    return (labels[:, None] == np.arange(examples.classes)).astype(float)


def shuffled_labels(examples: Examples, rows: Index, shuffles: int, seed: int = 0) -> Floats:
    """[K, N]: labels of these rows, given to other persons among them.

    A person takes over the labels of another, in turn where the two have unequally many
    recordings, so recordings of one person stay as alike as they were. No class gets lost.
    """
    rng = np.random.default_rng(seed)
    labels = examples.labels[rows]
    classes = set() if examples.task.kind == "regression" else set(labels)
    found = np.empty((shuffles, len(rows)))
    for k in range(shuffles):
        for _ in range(100):
            found[k] = labels[of_others(examples.persons[rows], rng)]
            if classes <= set(found[k]):
                break
        else:
            found[k] = labels[rng.permutation(len(rows))]
    return found


def of_others(persons: Strings, rng: np.random.Generator) -> Index:
    """[N]: for each row, one of the person whose rows its own person takes over, in turn."""
    _, owner, size = np.unique(persons, return_inverse=True, return_counts=True)
    order = np.argsort(owner, kind="stable")
    start = np.cumsum(size) - size
    own = np.empty(len(persons), int)  # 0, 1, ... within each person
    own[order] = np.arange(len(persons)) - np.repeat(start, size)
    other = rng.permutation(len(size))[owner]
    return order[start[other] + own % size[other]]
