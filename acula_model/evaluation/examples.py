"""Task rows and features -> arrays that heads train on and are tested on, and who is in which.

Everything that makes a task impossible to score is found here and said in one sentence.
"""

# N = recordings, D = features, W = windows of a recording, U = units, C = classes

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model.evaluation.metrics import Floats
from acula_model.evaluation.task import Task

Features = Mapping[str, npt.NDArray[Any]]
Index = npt.NDArray[np.int64]
Strings = npt.NDArray[np.str_]
MIN_PERSONS = 2  # of each class, or of all in regression, in train and in test
_FOLDS = ("train", "val", "test")
# float32 has 24 bits: a feature that varies less, beside its size, varies by rounding only.
_RESOLUTION = 1e-6


class NotRun(ValueError):
    """A task that cannot be scored; says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Indices of one training and of those tested by it. ``val`` may be empty."""

    train: Index
    val: Index
    test: Index


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """One task and variant, sorted by recording.

    Attributes:
        task: What decides how it is scored.
        recordings: [N].
        units: [N], what is scored: the recording, or its case.
        persons: [N].
        folds: [N].
        labels: [N], class indices or numbers.
        windows: [W, D] of each recording.
        vectors: float32 [N, D], means over windows; zero where no feature varies.
        constant: No feature varies between recordings.
    """

    task: Task
    recordings: Strings
    units: Strings
    persons: Strings
    folds: Strings
    labels: Floats
    windows: Sequence[npt.NDArray[np.floating]]
    vectors: npt.NDArray[np.float32]
    constant: bool

    @property
    def classes(self) -> int:
        """C; 1 for regression."""
        return {"regression": 1, "binary": 2, "multiclass": len(self.task.classes)}[self.task.kind]

    @property
    def splits(self) -> list[Split]:
        """One for a holdout; one per person, without validation, where each is left out."""
        none = np.array([], np.int64)
        if self.task.scheme == "leave_one_person_out":
            return [
                Split(
                    train=np.flatnonzero(self.persons != person),
                    val=none,
                    test=np.flatnonzero(self.persons == person),
                )
                for person in np.unique(self.persons)
            ]
        train, val, test = (np.flatnonzero(self.folds == f) for f in _FOLDS)
        return [Split(train=train, val=val, test=test)]

    @property
    def shared_persons(self) -> int:
        """Persons of test who are also in train or validation."""
        known = {p for s in self.splits for p in self.persons[np.append(s.train, s.val)]}
        if self.task.scheme == "leave_one_person_out":
            return 0
        return len(known & set(self.persons[self.folds == "test"]))

    def by_fold(self) -> dict[str, Index]:
        """fold -> its rows, in the order train, val, test, each; empty folds are left out."""
        rows = {f: np.flatnonzero(self.folds == f) for f in (*_FOLDS, "each")}
        return {f: at for f, at in rows.items() if len(at)}


def gather(task: Task, rows: Iterable[Mapping[str, Any]], features: Features) -> Examples:
    """The examples of one task and variant whose recordings have features.

    Args:
        task: What decides how it is scored.
        rows: ``TaskRow`` of this task and variant, in any order.
        features: recording id -> [D], or [W, D] of its windows or tokens.

    Raises:
        NotRun: No features, features that are no numbers or of another width, a label that the
            task does not have, a unit with two labels, or a recording that is listed twice.
    """
    heard = sorted(
        (r for r in rows if r["recording_id"] in features), key=lambda r: r["recording_id"]
    )
    if not heard:
        raise NotRun("no recording has features")
    ids = [r["recording_id"] for r in heard]
    if len(set(ids)) < len(ids):
        raise NotRun(f"{next(a for a, b in pairwise(ids) if a == b)} is twice in")
    windows = [np.atleast_2d(np.asarray(features[i])) for i in ids]
    for name, own in zip(ids, windows, strict=True):
        if own.shape[1] != windows[0].shape[1] or not len(own):
            raise NotRun(
                f"features of {name} have shape {own.shape}, others {windows[0].shape[1]} columns"
            )
        if not np.isfinite(own).all():
            raise NotRun(f"features of {name} are not all numbers: embed it again")
    labels = np.array([float(r["label"]) for r in heard])
    _check_labels(task, labels, ids)
    units = np.array(
        [r["case_id"] if task.aggregate == "case" else r["recording_id"] for r in heard]
    )
    said: dict[str, float] = {}
    for unit, label in zip(units, labels, strict=True):
        if said.setdefault(str(unit), label) != label:
            raise NotRun(f"{unit} has the labels {said[str(unit)]:g} and {label:g}")
    vectors = np.stack([w.mean(0) for w in windows]).astype(np.float32)
    constant = not varying(vectors).any()
    return Examples(
        task=task,
        recordings=np.array(ids),
        units=units,
        persons=np.array([r["person_id"] for r in heard]),
        folds=np.array([r["fold"] for r in heard]),
        labels=labels,
        windows=[w * 0 for w in windows] if constant else windows,
        vectors=vectors * 0 if constant else vectors,
        constant=constant,
    )


def varying(vectors_ND: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """[D]: which features vary by more than float32 rounds."""
    span = vectors_ND.max(0) - vectors_ND.min(0)
    return span > _RESOLUTION * np.abs(vectors_ND).max(0)


def _check_labels(task: Task, labels: Floats, ids: Sequence[str]) -> None:
    known = np.arange(len(task.classes)) if task.kind == "multiclass" else np.arange(2)
    good = np.isfinite(labels) if task.kind == "regression" else np.isin(labels, known)
    if not good.all():
        first = int(np.flatnonzero(~good)[0])
        raise NotRun(f"{ids[first]} has the label {labels[first]:g}, which {task.id} does not have")


def check_size(examples: Examples) -> None:
    """Refuse too few persons to train on or to test on.

    Two recordings of one person are no sample of a class, and give no interval over persons.

    Raises:
        NotRun: Names the fold and says how many persons of each class it has.
    """
    task = examples.task
    if task.scheme == "leave_one_person_out" and task.kind != "regression":
        # Leaving out a positive makes positives rarer in train, so scores of no worth rank all
        # positives below all negatives (Parker, Guenter and Bedo, 2007).
        raise NotRun("AUROC over left-out persons is biased below chance: use a holdout")
    looked = ("each",) if task.scheme == "leave_one_person_out" else ("train", "test")
    strange = set(examples.folds) - {*looked, "val"}
    if strange or (looked == ("each",) and "val" in examples.folds):
        raise NotRun(f"fold {', '.join(sorted(set(examples.folds)))} in a task of {task.scheme}")
    for fold in looked:
        at = examples.folds == fold
        if task.kind == "regression":
            found = {"persons": len(set(examples.persons[at]))}
        else:
            found = {
                task.classes[c]: len(set(examples.persons[at & (examples.labels == c)]))
                for c in range(examples.classes)
            }
        # Whoever is left out must leave enough behind.
        least = MIN_PERSONS + (fold == "each")
        if fold == "test" and task.kind == "multiclass":
            least = 1  # the published test side of COPD severity; flagged as ``lone_person``
        if min(found.values()) < least:
            said = ", ".join(f"{name} {n}" for name, n in found.items())
            what = "persons" if task.kind == "regression" else "persons of a class"
            raise NotRun(f"fewer than {least} {what} in {fold}: {said}")


def chance(person: str, salt: str) -> float:
    """A number in [0, 1) that belongs to a person, the same everywhere."""
    return int(hashlib.sha256(f"{salt}:{person}".encode()).hexdigest()[:8], 16) / 2**32


def class_counts(examples: Examples, rows: Index) -> list[int]:
    """[C] units of each class among rows; empty for regression."""
    if examples.task.kind == "regression":
        return []
    _, first = np.unique(examples.units[rows], return_index=True)
    return np.bincount(
        examples.labels[rows][first].astype(int), minlength=examples.classes
    ).tolist()


def per_unit(examples: Examples, rows: Index, outputs: Floats) -> tuple[Index, Floats]:
    """Mean outputs of each unit's recordings.

    Args:
        examples: Where rows are from.
        rows: [N] tested recordings.
        outputs: [..., N, C].

    Returns:
        [U] a row of each unit, by the unit's name, and [..., U, C].
    """
    _, first, place, size = np.unique(
        examples.units[rows], return_index=True, return_inverse=True, return_counts=True
    )
    by_unit = outputs[..., np.argsort(place, kind="stable"), :]
    total = np.add.reduceat(by_unit, np.cumsum(size) - size, axis=-2)
    return rows[first], total / size[:, None]
