"""What a single column tells about the label, with no sound heard: device, site, age, sex, date."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.doctor.persons import area, labels_of, lookup
from pipeline.doctor.table import Split

Floats = npt.NDArray[np.float64]
MOST_VALUES = 30  # more are no classes of a table
NOT_SAID = "not recorded"


@dataclass(frozen=True, kw_only=True)
class Alone:
    """One column held against the label.

    Attributes:
        numeric: Numbers and dates are read by boosted trees, words by the label's rate for each.
        auroc: On the tested side, learned from the others; None where that cannot be had.
        table: ``(side, label) -> value -> rows`` of columns of words.
        is_label: Each value goes with one label and each label with one value.
    """

    column: str
    numeric: bool
    auroc: float | None
    table: list[tuple[str, str, dict[str, int]]]
    is_label: bool


def check(split: Split) -> list[Alone]:
    """One entry per column that the split shows, by what it tells."""
    codes = labels_of(split)
    if codes is None:
        return []
    found: list[Alone] = []
    for role, name in split.shown.items():
        values = split.column(role)
        if values is None or name == split.sources.get("label"):
            continue
        numbers = numeric(role, values)
        if numbers is not None:
            auroc = _learned(split, numbers, codes)
            found.append(Alone(column=name, numeric=True, auroc=auroc, table=[], is_label=False))
            continue
        words = [v if v is not None else NOT_SAID for v in values]
        if len(set(words)) <= max(MOST_VALUES, len(words) // 20):
            found.append(_words(split, name, words, codes))
    return sorted(found, key=lambda a: -(a.auroc or 0))


def numeric(role: str, values: list[str | None]) -> Floats | None:
    """Numbers, or days for dates; nan where nothing is said. None for words."""
    said = pd.Series(values, dtype=object)
    numbers = pd.to_numeric(said, errors="coerce")
    if role == "date" and numbers.notna().sum() < 0.9 * said.notna().sum():
        days = pd.to_datetime(said, errors="coerce", utc=True, format="ISO8601")
        numbers = (days - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)
    known = numbers.notna().sum()
    if not known or known < 0.9 * said.notna().sum():
        return None
    if len(set(numbers.dropna())) <= 2 and role not in ("age", "date"):
        return None  # 0 and 1 are words
    return np.asarray(numbers, np.float64)


def _learned(split: Split, numbers: Floats, codes: npt.NDArray[np.int64]) -> float | None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    scores: list[Floats] = []
    truth: list[npt.NDArray[np.int64]] = []
    for tested, seen in split.turns():
        learn, rows = seen & (codes >= 0), tested & (codes >= 0)
        if len(set(codes[learn].tolist())) < 2 or not rows.any():
            continue
        # A leaf of the usual 20 rows would be larger than a rare class, and blur its edge.
        rare = min(n for n in np.bincount(codes[learn]) if n)
        leaf = int(np.clip(rare // 2, 2, 20))
        model = HistGradientBoostingClassifier(min_samples_leaf=leaf, random_state=0)
        model.fit(numbers[learn, None], codes[learn])
        full = np.zeros((int(rows.sum()), int(codes.max()) + 1))
        full[:, np.unique(codes[learn])] = model.predict_proba(numbers[rows, None])
        scores.append(full)
        truth.append(codes[rows])
    return area(np.concatenate(scores), np.concatenate(truth)) if scores else None


def _words(split: Split, name: str, words: list[str], codes: npt.NDArray[np.int64]) -> Alone:
    keys = pd.factorize(np.array(words, object))[0].astype(np.int64)
    labels = split.column("label") or []
    sides = list(split.rows["side"])
    cells = Counter(zip(sides, labels, words, strict=True))
    order = {side: i for i, side in enumerate(split.sides)}
    rows = sorted({(s, y) for s, y, _ in cells if y is not None}, key=lambda r: (order[r[0]], r[1]))
    values = [w for w, _ in Counter(words).most_common(MOST_VALUES)]
    pairs = {(y, w) for _, y, w in cells if y is not None and w != NOT_SAID}
    one_to_one = len(pairs) == len({y for y, _ in pairs}) == len({w for _, w in pairs})
    return Alone(
        column=name,
        numeric=False,
        auroc=lookup(split, keys, codes),
        table=[(s, y, {w: cells[s, y, w] for w in values}) for s, y in rows],
        is_label=one_to_one,
    )
