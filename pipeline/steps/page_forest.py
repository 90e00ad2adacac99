"""Lines of the results -> forest plots: the difference of each task with its interval.

Right is better on all of them. Errors have units, so theirs are shares of what always saying
the training mean errs by, and turned round.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.steps import page_format
from pipeline.steps.page_format import signed
from pipeline.steps.page_scores import Line

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One task; places are shares of the width, cut at the edges."""

    anchor: str
    task: str
    title: str
    low: float
    value: float
    high: float
    cut_low: bool
    cut_high: bool
    significant: bool
    said: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Forest:
    """One plot: tasks of one split variant, protocol, head and metric."""

    variant: str
    protocol: str
    head: str
    metric: str
    bars: list[Bar]
    zero: float
    ticks: list[tuple[float, str]]


def draw(lines: Sequence[Line]) -> list[Forest]:
    """A plot per variant, protocol, head and metric, in the order of the page."""
    groups: dict[tuple[str, str, str, str], list[Line]] = {}
    for line in lines:
        if line.run and line.keys["interval"] is not None:
            row = line.row
            key = (row["variant"], row["protocol"], row["head"], row["metric"])
            groups.setdefault(key, []).append(line)
    return [_forest(*key, own) for key, own in groups.items()]


def _forest(variant: str, protocol: str, head: str, metric: str, lines: Sequence[Line]) -> Forest:
    from matplotlib.ticker import MaxNLocator

    shown = [_better(line) for line in lines]
    edge = min(1.0, max(0.05, *(abs(v) for low, _, high in shown for v in (low, high))))
    marks = [float(t) for t in MaxNLocator(nbins=6).tick_values(-edge, edge)]
    first, last = marks[0], marks[-1]

    def across(value: float) -> float:
        return round((min(max(value, first), last) - first) / (last - first), 4)

    bars: list[Bar] = []
    for line, (low, value, high) in zip(lines, shown, strict=True):
        p = line.row["difference"]["p_holm"]
        significant = p is not None and p < ALPHA
        words = "not significant" if not significant else ("better" if value > 0 else "worse")
        bars.append(
            Bar(
                anchor=line.anchor,
                task=line.row["task"],
                title=line.row["title"],
                low=across(low),
                value=across(value),
                high=across(high),
                cut_low=low < first,
                cut_high=high > last,
                significant=significant,
                said=f"{signed(value)} [{signed(low)}, {signed(high)}]",
                words=words if p is None else f"{words}, p = {page_format.chance(p)}",
            )
        )
    ticks = [(across(t), f"{t:+.2g}".replace("-", "\u2212") if t else "0") for t in marks]
    return Forest(
        variant=variant,
        protocol=protocol,
        head=head,
        metric=metric,
        bars=bars,
        zero=across(0.0),
        ticks=ticks,
    )


def _better(line: Line) -> tuple[float, float, float]:
    """Low, value and high, larger is better, errors as shares of their floor."""
    found, row = line.row["difference"], line.row
    if row["metric"] != "mae":
        return found["low"], found["value"], found["high"]
    floor = row["floors"]["chance"] or 1.0
    return -found["high"] / floor, -found["value"] / floor, -found["low"] / floor
