"""One recording on two sides: equal ids, names, bytes or samples, or the same sound re-encoded."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.doctor.near import Group
from pipeline.doctor.table import Split

MEANING = {
    "id": "the same recording id",
    "path": "the same file name",
    "raw": "equal bytes",
    "sound": "equal samples",
    "near": "the same sound after a codec, a gain or a cut",
}
CERTAIN = ("id", "raw", "sound")


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Recordings that are on two sides.

    Attributes:
        kind: A key of ``MEANING``.
        groups: Sets of equal recordings that reach over two sides.
        tested: Tested recordings whose like is on another side.
        other_person: Groups that the ids say are of different persons.
        other_label: Groups whose labels differ.
        examples: Some groups, each as ``side: name``.
    """

    kind: str
    groups: int
    tested: int
    other_person: int
    other_label: int
    examples: list[list[str]]


def check(split: Split, near: Sequence[Group] | None = None) -> list[Duplicates]:
    """One entry per kind that the table can be checked for."""
    found: list[Duplicates] = []
    for kind in ("id", "path", "raw", "sound"):
        keys = _paths(split) if kind == "path" else split.keys(kind)
        if keys is not None:
            found.append(_straddling(split, kind, keys))
    names = split.column("id")
    if near is not None and names is not None:
        group_of = {m: i for i, group in enumerate(near) for m in group.members}
        keys = np.array([group_of.get(n or "", -1) for n in names], np.int64)
        found.append(_straddling(split, "near", keys))
    return found


def _paths(split: Split) -> npt.NDArray[np.int64] | None:
    """File names without folders, where these tell the files of a side apart; else whole paths."""
    values = split.column("path")
    if values is None:
        return None
    whole = [(v or "").replace("\\", "/").casefold() for v in values]
    bare = [w.rsplit("/", 1)[-1] for w in whole]
    sides = list(split.rows["side"])
    distinct = len(set(zip(sides, bare, strict=True))) == len(set(zip(sides, whole, strict=True)))
    chosen = bare if distinct else whole
    place: dict[str, int] = {}
    keys = [place.setdefault(c, len(place)) if c else -1 for c in chosen]
    return np.array(keys, np.int64)


def _straddling(split: Split, kind: str, keys: npt.NDArray[np.int64]) -> Duplicates:
    hit = np.zeros(len(keys), bool)
    for tested, seen in split.turns():
        hit |= tested & (keys >= 0) & np.isin(keys, keys[seen])
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order])) + 1
    sides = split.rows["side"].to_numpy(object)
    shared = [
        rows
        for rows in np.split(order, edges)
        if len(rows) > 1 and keys[rows[0]] >= 0 and len(set(sides[rows])) > 1
    ]
    names = split.column("id") or split.column("path") or [None] * len(keys)
    return Duplicates(
        kind=kind,
        groups=len(shared),
        tested=int(hit.sum()),
        other_person=sum(_differ(split.keys("person"), shared)),
        other_label=sum(_differ(split.keys("label"), shared)),
        examples=[
            [f"{sides[r]}: {names[r] or f'row {r + 1}'}" for r in rows[:6]] for rows in shared[:5]
        ],
    )


def _differ(
    keys: npt.NDArray[np.int64] | None, groups: Iterable[npt.NDArray[np.int64]]
) -> list[bool]:
    if keys is None:
        return []
    return [len(set(keys[rows].tolist()) - {-1}) > 1 for rows in groups]
