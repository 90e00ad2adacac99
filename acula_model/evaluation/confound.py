"""How well the device, or the dataset, can be read off an embedding that should hear persons.

Whatever a linear head can read there, a head of a medical task can lean on where the two go
together. Alignment within datasets has no reason to add any of it; a rise is a warning.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from acula_model.evaluation import examples as rows_of
from acula_model.evaluation import sides
from acula_model.evaluation.examples import MIN_PERSONS, Features, NotRun
from acula_model.evaluation.sides import Compared
from acula_model.evaluation.task import Task, TaskRow

# Recordings of a value and a split. An AUROC of so many is known to two hundredths, and a
# dataset of tens of thousands should not weigh more than the others.
LIMIT = 400


@dataclass(frozen=True, kw_only=True)
class Confound:
    """One attribute.

    Attributes:
        compared: AUROC, macro one-vs-rest; chance is 0.5, and 1 means that it can be read.
        values: Value -> its test persons.
        left_out: Values that too few persons have, in train or in test.
    """

    compared: Compared
    values: Mapping[str, int]
    left_out: tuple[str, ...]


def measure(
    before: Features,
    after: Features,
    attribute: str,
    values: Mapping[str, str],
    subjects: Iterable[Mapping[str, Any]],
) -> Confound:
    """Train the default head to tell the values of one attribute, and test it on other persons.

    Args:
        before: recording id -> features of the encoder before alignment.
        after: Of the aligned one.
        attribute: What it is called.
        values: recording id -> value; recordings without one are left out.
        subjects: recording_id, case_id, person_id and split (train, val, test) of recordings.

    Raises:
        NotRun: Fewer than two values have enough persons; says which have.
    """
    heard = [r for r in subjects if r["recording_id"] in values and r["recording_id"] in before]
    persons: dict[tuple[str, str], set[str]] = {}
    for r in heard:
        persons.setdefault((values[r["recording_id"]], r["split"]), set()).add(r["person_id"])
    found = sorted({value for value, _ in persons})
    classes = [
        v
        for v in found
        if all(len(persons.get((v, split), ())) >= MIN_PERSONS for split in ("train", "test"))
    ]
    if len(classes) < 2:
        raise NotRun(
            f"{attribute}: fewer than two values have {MIN_PERSONS} persons in train and in test; "
            f"there are {', '.join(found) or 'none'}"
        )
    task = Task(
        id=f"confound/{attribute}",
        title=attribute,
        kind="binary" if len(classes) == 2 else "multiclass",
        classes=tuple(classes),
    )
    rows = _some(task, heard, values)
    one, other = ([sides.probe(rows_of.gather(task, rows, f))] for f in (before, after))
    return Confound(
        compared=sides.compare(one, other),
        values={v: len(persons[v, "test"]) for v in classes},
        left_out=tuple(v for v in found if v not in classes),
    )


def _some(
    task: Task, heard: Iterable[Mapping[str, Any]], values: Mapping[str, str]
) -> list[TaskRow]:
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for r in heard:
        if (value := values[r["recording_id"]]) in task.classes:
            grouped.setdefault((value, r["split"]), []).append(r)
    return [
        TaskRow(
            task=task.id,
            variant="subject_clean",
            recording_id=r["recording_id"],
            case_id=r["case_id"],
            person_id=r["person_id"],
            fold=split,  # pyright: ignore[reportArgumentType]  # a split is a fold
            label=float(task.classes.index(value)),
        )
        for (value, split), own in sorted(grouped.items())
        for r in sorted(own, key=lambda r: rows_of.chance(r["recording_id"], "confound"))[:LIMIT]
    ]
