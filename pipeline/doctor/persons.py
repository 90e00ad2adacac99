"""Who is on two sides, and what a model could score that knows nothing but who was seen."""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from acula_model.evaluation.metrics import auroc
from pipeline.doctor.table import Mask, Split

Ints = npt.NDArray[np.int64]
MOST_CLASSES = 20
_MEASURED = re.compile(r"-?\d+\.\d*[1-9]\d*")  # 2.31, not 2.0


@dataclass(frozen=True, kw_only=True)
class Persons:
    """Persons, by id or by a stand-in.

    Attributes:
        kind: ``person`` for ids, ``proxy`` for a stand-in such as place, age and sex.
        source: The column or rule that names them.
        total: Persons.
        shared: Of these, on more than one side.
        between: ``train and test`` -> persons on both.
        unnamed: Recordings whose person is not known.
        unnamed_tested: Of these, tested.
        tested: Recordings on the tested side.
        seen: Of these, their person is on another side, too.
        respelled: Shared persons whose id is never written the same on two sides.
        agreement: Mean over seen recordings: share of the person's other recordings with the
            same label; None without labels.
        pairs: Pairs of a tested recording and another of its person; ``pairs_agreeing`` have
            equal labels.
        lookup: AUROC of the share of a label among the person's other recordings (persons not
            seen get the prior); macro over classes. None where one class is tested.
        examples: Some shared persons, as the table writes them.
    """

    kind: Literal["person", "proxy"]
    source: str
    total: int
    shared: int
    between: dict[str, int]
    unnamed: int
    unnamed_tested: int
    tested: int
    seen: int
    respelled: int
    agreement: float | None
    pairs: int
    pairs_agreeing: int | None
    lookup: float | None
    examples: list[str]


def check(split: Split, kind: Literal["person", "proxy"]) -> Persons | None:
    """Persons of a split, or None where nothing names them."""
    keys, written = split.keys(kind), split.column(kind)
    if keys is None or written is None:
        return None
    sides = {side: set(keys[split.on(side)].tolist()) - {-1} for side in split.sides}
    on = Counter(key for members in sides.values() for key in members)
    shared = {key for key, n in on.items() if n > 1}
    spelling: dict[int, dict[str, set[str]]] = {key: {} for key in shared}
    for key, text, side in zip(keys.tolist(), written, split.rows["side"], strict=True):
        if key in shared and text is not None:
            spelling[key].setdefault(side, set()).add(text)
    names = {key: min(min(texts) for texts in said.values()) for key, said in spelling.items()}
    respelled = sum(_never_equal(list(said.values())) for said in spelling.values())
    tested = np.zeros(len(keys), bool)
    hit = np.zeros(len(keys), bool)
    for now, seen in split.turns():
        tested |= now
        hit |= now & (keys >= 0) & np.isin(keys, keys[seen])
    codes = labels_of(split)
    agreement, pairs, agreeing = _agreement(split, keys, codes)
    return Persons(
        kind=kind,
        source=split.sources.get(kind, kind),
        total=len(on),
        shared=len(shared),
        between={
            f"{a} and {b}": len(sides[a] & sides[b])
            for a, b in combinations(split.sides, 2)
            if sides[a] & sides[b]
        },
        unnamed=int((keys < 0).sum()),
        unnamed_tested=int((tested & (keys < 0)).sum()),
        tested=int(tested.sum()),
        seen=int(hit.sum()),
        respelled=respelled,
        agreement=agreement,
        pairs=pairs,
        pairs_agreeing=agreeing,
        lookup=None if codes is None else lookup(split, keys, codes),
        examples=sorted(names.values())[:10],
    )


def _never_equal(spellings: list[set[str]]) -> bool:
    return not any(a & b for a, b in combinations(spellings, 2))


def labels_of(split: Split) -> Ints | None:
    """Class of each row as a number by sorted name, -1 where there is none.

    None where no row has a label, or its values are no classes: too many, or measured numbers.
    """
    values = split.column("label")
    if values is None:
        return None
    names = sorted({v for v in values if v is not None})
    if not 2 <= len(names) <= MOST_CLASSES or all(_MEASURED.fullmatch(name) for name in names):
        return None
    place = {name: i for i, name in enumerate(names)}
    return np.array([place.get(v or "", -1) if v is not None else -1 for v in values], np.int64)


def _agreement(
    split: Split, keys: Ints, codes: Ints | None
) -> tuple[float | None, int, int | None]:
    """Mean agreement over tested recordings; pairs; pairs with equal labels."""
    shares: list[npt.NDArray[np.float64]] = []
    pairs = agreeing = 0
    for tested, seen in split.turns():
        size = int(keys.max()) + 1 if len(keys) else 0
        if codes is None:
            others = np.bincount(keys[seen & (keys >= 0)], minlength=size)
            pairs += int(others[keys[tested & (keys >= 0)]].sum())
            continue
        known = (keys >= 0) & (codes >= 0)
        table = _rates(keys, codes, seen & known, size)
        rows = np.flatnonzero(tested & known)
        others = table[keys[rows]].sum(1)
        equal = table[keys[rows], codes[rows]]
        pairs += int(others.sum())
        agreeing += int(equal.sum())
        shares.append(equal[others > 0] / others[others > 0])
    if codes is None:
        return None, pairs, None
    every = np.concatenate(shares)
    return (float(every.mean()) if len(every) else None), pairs, agreeing


def _rates(keys: Ints, codes: Ints, rows: Mask, size: int) -> npt.NDArray[np.float64]:
    """Counts [keys, classes] of the given rows."""
    table = np.zeros((size, int(codes.max()) + 1))
    np.add.at(table, (keys[rows], codes[rows]), 1)
    return table


def lookup(split: Split, keys: Ints, codes: Ints) -> float | None:
    """AUROC of a lookup in the seen rows, by any key: a person, a device, a site.

    Args:
        keys: [N], -1 for none.
        codes: [N] classes, -1 for none.

    Returns:
        Macro over classes, pooled over turns; None where one class is tested.
    """
    scores: list[npt.NDArray[np.float64]] = []
    truth: list[Ints] = []
    for tested, seen in split.turns():
        labelled = codes >= 0
        prior = np.bincount(codes[seen & labelled], minlength=int(codes.max()) + 1).astype(float)
        if not prior.sum():
            continue
        prior /= prior.sum()
        table = _rates(keys, codes, seen & labelled & (keys >= 0), int(keys.max()) + 1)
        total = table.sum(1, keepdims=True)
        rates = np.where(total > 0, table / np.maximum(total, 1), prior)
        rates = np.concatenate([rates, prior[None]])  # the last row answers for key -1
        rows = np.flatnonzero(tested & labelled)
        scores.append(rates[keys[rows]])
        truth.append(codes[rows])
    return area(np.concatenate(scores), np.concatenate(truth)) if scores else None


def area(scores_NK: npt.NDArray[np.float64], truth_N: Ints) -> float | None:
    """Macro AUROC, one class against the rest; for two classes that of the second."""
    classes = range(scores_NK.shape[1])
    chosen = [1] if len(classes) == 2 else list(classes)
    areas = [
        auroc(scores_NK[:, c], (truth_N == c).astype(np.float64))
        for c in chosen
        if 0 < (truth_N == c).sum() < len(truth_N)
    ]
    return float(np.mean(areas)) if areas else None
