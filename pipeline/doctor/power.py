"""How exactly a test side of this size can tell an AUROC, and which difference it can show."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from pipeline.doctor.persons import labels_of
from pipeline.doctor.table import Split

ASSUMED = 0.8  # the AUROC at which a split is judged
CORRELATION = 0.5  # of the scores of two models on the same recordings
_NORMAL_975, _NORMAL_80 = 1.96, 0.8416


@dataclass(frozen=True, kw_only=True)
class Power:
    """What the tested side can tell, for the class with the fewest units against the rest.

    Attributes:
        unit: Recordings, or persons: recordings of one person are not independent, so that the
            truth lies between the two.
        half_width: Of the 95 % interval of an AUROC of ``ASSUMED``.
        detectable: Difference of two models on this side that is found four times in five at
            the 5 % level.
    """

    unit: str
    label: str
    positive: int
    negative: int
    half_width: float | None
    detectable: float | None


def standard_error(auroc: float, positive: int, negative: int) -> float:
    """Hanley and McNeil, Radiology 143 (1982), equation 2."""
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = (
        auroc * (1 - auroc) + (positive - 1) * (q1 - auroc**2) + (negative - 1) * (q2 - auroc**2)
    )
    return sqrt(spread / (positive * negative))


def check(split: Split) -> list[Power]:
    """By recordings, and by persons where ids are known; nothing without classes."""
    codes, labels = labels_of(split), split.column("label")
    if codes is None or labels is None:
        return []
    tested = np.logical_or.reduce([t for t, _ in split.turns()]) & (codes >= 0)
    persons, unit = split.keys("person"), "persons"
    if persons is None:
        persons, unit = split.keys("proxy"), "likely persons"
    names = sorted({v for v in labels if v is not None})
    smallest = min(range(len(names)), key=lambda c: int((codes[tested] == c).sum()))
    if len(names) == 2:  # the class of interest is usually the second; the counts are the same
        smallest = 1
    counts = {
        "recordings": (
            int((codes[tested] == smallest).sum()),
            int((codes[tested] != smallest).sum()),
        )
    }
    if persons is not None:
        known = tested & (persons >= 0)
        counts[unit] = (
            len(set(persons[known & (codes == smallest)].tolist())),
            len(set(persons[known & (codes != smallest)].tolist())),
        )
    return [_power(unit, names[smallest], *n) for unit, n in counts.items()]


def _power(unit: str, label: str, positive: int, negative: int) -> Power:
    error = standard_error(ASSUMED, positive, negative) if positive and negative else None
    paired = sqrt(2 * (1 - CORRELATION))
    return Power(
        unit=unit,
        label=label,
        positive=positive,
        negative=negative,
        half_width=None if error is None else _NORMAL_975 * error,
        detectable=None if error is None else (_NORMAL_975 + _NORMAL_80) * error * paired,
    )
