"""How the tested side differs from the others in age, sex, device and site."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.doctor.alone import numeric
from pipeline.doctor.table import Mask, Split

Floats = npt.NDArray[np.float64]
# A balanced covariate is below 0.1 (Austin, Statistics in Medicine 28, 2009).
NOTABLE = 0.1
MOST = 10.0


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One column on the tested side against all others.

    Attributes:
        unit: ``persons`` where ids are known (the first recording of each counts), else
            ``recordings``.
        tested: Mean of numbers, else that share.
        difference: Standardised difference; for words of the value whose
            share differs most.
        ks: Largest gap of the two distributions of numbers; ``p`` is its two-sided p-value.
    """

    column: str
    unit: str
    tested: str
    others: str
    difference: float
    ks: float | None
    p: float | None


def check(split: Split) -> list[Drift]:
    """One entry per shown column; a cross-validation drifts by design and has none."""
    turns = list(split.turns())
    if len(turns) != 1:
        return []
    tested, seen = turns[0]
    keys = split.keys("person")
    if keys is not None:
        tested, seen = _one_each(tested, keys), _one_each(seen, keys)
    unit = "recordings" if keys is None else "persons"
    found: list[Drift] = []
    for role, name in split.shown.items():
        values = split.column(role)
        if values is None:
            continue
        numbers = numeric(role, values)
        if numbers is None:
            words = np.array(values, object)
            drift = _words(name, unit, words[tested], words[seen])
        else:
            drift = _numbers(name, unit, numbers[tested], numbers[seen])
        if drift:
            found.append(drift)
    return found


def _one_each(rows: Mask, keys: npt.NDArray[np.int64]) -> Mask:
    """The first row of each person, and all rows without one."""
    places = np.flatnonzero(rows)
    _, first = np.unique(keys[places], return_index=True)
    kept = np.zeros(len(rows), bool)
    kept[places[first]] = True
    return kept | (rows & (keys < 0))


def _numbers(name: str, unit: str, a: Floats, b: Floats) -> Drift | None:
    from scipy.stats import ks_2samp

    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if len(a) < 2 or len(b) < 2:
        return None
    spread = float(np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2))
    test = ks_2samp(a, b)
    return Drift(
        column=name,
        unit=unit,
        tested=f"{a.mean():.1f}",
        others=f"{b.mean():.1f}",
        difference=float(a.mean() - b.mean()) / spread if spread else 0.0,
        ks=float(test.statistic),  # pyright: ignore[reportAttributeAccessIssue]
        p=float(test.pvalue),  # pyright: ignore[reportAttributeAccessIssue]
    )


def _words(
    name: str, unit: str, a: npt.NDArray[np.object_], b: npt.NDArray[np.object_]
) -> Drift | None:
    shares = [pd.Series(side).dropna().value_counts(normalize=True) for side in (a, b)]
    if any(s.empty for s in shares):
        return None
    share = {
        v: tuple(float(s.get(v, 0.0)) for s in shares)
        for v in set[str]().union(*(s.index for s in shares))
    }
    worst = max(sorted(share), key=lambda v: abs(share[v][0] - share[v][1]))
    p, q = share[worst]
    spread = float(np.sqrt((p * (1 - p) + q * (1 - q)) / 2))
    # Two sides of one value each, and not the same: no finite number says how far they are.
    gap = (p - q) / spread if spread else float(np.sign(p - q)) * MOST
    return Drift(
        column=name,
        unit=unit,
        tested=f"{p:.0%} {worst}",
        others=f"{q:.0%} {worst}",
        difference=gap,
        ks=None,
        p=None,
    )
