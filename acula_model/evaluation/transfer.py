"""A head that was trained on one dataset, tested on another one that answers the same question."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from acula_model.evaluation import examples as rows_of
from acula_model.evaluation import sides
from acula_model.evaluation.examples import Examples, Features, NotRun
from acula_model.evaluation.sides import Compared
from acula_model.evaluation.task import Task


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One head's way from one dataset to another.

    Attributes:
        question: What both tasks ask.
        source: Task whose train and validation persons the head, its penalty and the scale of
            the features are of.
        target: Task whose test persons it is tested on.
        compared: On these; None if not run. Chance is an AUROC of 0.5.
        own: A head of the target's own training persons on the same test persons; None if that
            cannot be trained.
        reason: Why it was not run.
    """

    question: str
    source: str
    target: str
    compared: Compared | None = None
    own: Compared | None = None
    reason: str | None = None


def between(
    before: Features,
    after: Features,
    rows: Iterable[Mapping[str, Any]],
    tasks: Mapping[str, Task],
    questions: Mapping[str, str],
) -> list[Transfer]:
    """Every pair of tasks of two datasets with the same question, both ways.

    Args:
        before: recording id -> features of the encoder before alignment.
        after: Of the aligned one.
        rows: ``TaskRow`` of one variant, of any tasks.
        tasks: ``<dataset>/<task>`` -> task.
        questions: Task id -> its question; tasks without one are not compared with any. Label 1
            must mean the same in all tasks of a question.
    """
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["task"] in questions:
            grouped.setdefault(row["task"], []).append(row)
    found: list[Transfer] = []
    for target in sorted(grouped):
        sources = [
            s
            for s in sorted(grouped)
            if questions[s] == questions[target] and _dataset(s) != _dataset(target)
        ]
        own = _own(before, after, grouped[target], tasks[target]) if sources else None
        for source in sources:
            one = Transfer(question=questions[target], source=source, target=target, own=own)
            try:
                moved = [
                    [sides.probe(_moved(f, grouped, tasks[source], tasks[target]))]
                    for f in (before, after)
                ]
                found.append(replace(one, compared=sides.compare(*moved)))
            except NotRun as reason:
                found.append(replace(one, reason=str(reason)))
    return found


def _own(
    before: Features, after: Features, rows: list[Mapping[str, Any]], task: Task
) -> Compared | None:
    try:
        one, other = ([sides.probe(rows_of.gather(task, rows, f))] for f in (before, after))
        return sides.compare(one, other)
    except NotRun:
        return None


def _moved(
    features: Features,
    rows: Mapping[str, list[Mapping[str, Any]]],
    source: Task,
    target: Task,
) -> Examples:
    """Train and validation of one task and test of the other.

    Raises:
        NotRun: Tasks of two kinds, or one that cannot be scored.
    """
    if (source.kind, len(source.classes)) != (target.kind, len(target.classes)):
        raise NotRun(f"{source.id} is {source.kind} and {target.id} {target.kind}")
    if "leave_one_person_out" in (source.scheme, target.scheme):
        raise NotRun("a task that leaves out each person has no train fold to bring along")
    there = _only(rows_of.gather(target, rows[target.id], features), {"test"})
    # The same person may be in both datasets.
    known = set(there.persons)
    learned = [r for r in rows[source.id] if r["person_id"] not in known]
    if not learned:
        raise NotRun(f"all persons of {source.id} are tested in {target.id}")
    here = _only(rows_of.gather(source, learned, features), {"train", "val"})
    vectors = np.concatenate([here.vectors, there.vectors])
    return replace(
        there,
        recordings=np.concatenate([here.recordings, there.recordings]),
        units=np.concatenate([here.units, there.units]),
        persons=np.concatenate([here.persons, there.persons]),
        folds=np.concatenate([here.folds, there.folds]),
        labels=np.concatenate([here.labels, there.labels]),
        windows=[*here.windows, *there.windows],
        vectors=vectors,
        constant=here.constant,
    )


def _only(examples: Examples, folds: set[str]) -> Examples:
    at = np.flatnonzero(np.isin(examples.folds, sorted(folds)))
    return replace(
        examples,
        recordings=examples.recordings[at],
        units=examples.units[at],
        persons=examples.persons[at],
        folds=examples.folds[at],
        labels=examples.labels[at],
        windows=[examples.windows[int(i)] for i in at],
        vectors=examples.vectors[at],
    )


def _dataset(task: str) -> str:
    return task.partition("/")[0]
