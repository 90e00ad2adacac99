"""Details of a score -> small drawings: ROC, reliability, agreement of measured and predicted.

Coordinates are on a square of 100 units with the origin at the top left, as SVG has them, in
path strings short enough that sixty rows fit into a page.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SIDE = 100
MOST_POINTS = 300
PREDICTED = ["task", "variant", "protocol", "head", "label", "score"]  # of a prediction
Details = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One square with what was before alignment and after it; a path is empty if unknown."""

    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Bland and Altman's plot (1986): error over the mean of measured and predicted.

    Attributes:
        points: Path of the dots; empty where no predictions were given.
        bias: Height of the mean error, and ``low`` and ``high`` of its 95 % limits.
        zero: Height of no error.
        x_ticks: Place and label; ``y_ticks`` likewise.
        shown: Units drawn, of ``units``.
    """

    points: str
    bias: float
    low: float
    high: float
    zero: float
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    shown: int
    units: int


def by_row(
    predictions: Iterable[Mapping[str, Any]],
) -> dict[tuple[str, str, str, str], list[tuple[float, float]]]:
    """(task, variant, protocol, head) -> label and prediction of each unit."""
    found: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for p in predictions:
        key = (p["task"], p["variant"], p["protocol"], p["head"])
        found.setdefault(key, []).append((float(p["label"]), float(p["score"])))
    return found


def roc(before: Details, after: Details) -> Panel | None:
    """Sensitivity over false positive rate."""
    if not after.get("roc"):
        return None
    return Panel(before=_line(before.get("roc") or []), after=_line(after["roc"]))


def reliability(before: Details, after: Details) -> Panel | None:
    """Share that came true over confidence; a bin's dot grows with its units."""
    if not after.get("reliability"):
        return None
    return Panel(
        before=_dots(before.get("reliability") or [], hollow=True),
        after=_dots(after["reliability"], hollow=False),
    )


def _line(points: Sequence[Sequence[float]]) -> str:
    corners = [(round(SIDE * x), round(SIDE * (1 - y))) for x, y in points]
    # A corner amid a straight stretch draws nothing.
    kept = [
        c
        for i, c in enumerate(corners)
        if i in (0, len(corners) - 1)
        or not (
            corners[i - 1][0] == c[0] == corners[i + 1][0]
            or corners[i - 1][1] == c[1] == corners[i + 1][1]
        )
    ]
    return "M" + " ".join(f"{x} {y}" for x, y in kept) if kept else ""


def _dots(bins: Sequence[Mapping[str, float]], hollow: bool) -> str:
    """Diamonds before, squares after: told apart without colour."""
    total = sum(b["units"] for b in bins)
    found = ""
    for b in bins:
        half = round(1.5 + 5 * math.sqrt(b["units"] / total), 1)
        x, y = round(SIDE * b["confidence"], 1), round(SIDE * (1 - b["share"]), 1)
        if hollow:
            found += f"M{x:g} {y - half:g}l{half:g} {half:g}-{half:g} {half:g}-{half:g}-{half:g}z"
        else:
            found += f"M{x - half:g} {y - half:g}h{2 * half:g}v{2 * half:g}h-{2 * half:g}z"
    return found


def agreement(after: Details, said: Sequence[tuple[float, float]]) -> Agreement | None:
    """Draw the limits of agreement, and the units where they are known."""
    limits = after.get("bland_altman")
    if not limits:
        return None
    from matplotlib.ticker import MaxNLocator

    step = max(1, math.ceil(len(said) / MOST_POINTS))
    dots = [((label + guess) / 2, guess - label) for label, guess in sorted(said)[::step]]
    xs = MaxNLocator(nbins=3).tick_values(*_span([x for x, _ in dots] or [0.0, 1.0]))
    heights = [*limits.values(), 0.0, *(y for _, y in dots)]
    ys = MaxNLocator(nbins=4).tick_values(*_span(heights))

    def across(value: float) -> float:
        return round(float(SIDE * (value - xs[0]) / (xs[-1] - xs[0])), 1)

    def up(value: float) -> float:
        return round(float(SIDE * (1 - (value - ys[0]) / (ys[-1] - ys[0]))), 1)

    return Agreement(
        points="".join(f"M{across(x):g} {up(y):g}h0" for x, y in dots),
        bias=up(limits["bias"]),
        low=up(limits["low"]),
        high=up(limits["high"]),
        zero=up(0.0),
        x_ticks=[(across(x), f"{x:.3g}") for x in xs] if dots else [],
        y_ticks=[(up(y), f"{y:.3g}".replace("-", "\u2212")) for y in ys],
        shown=len(dots),
        units=len(said),
    )


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
