"""history.json -> curves over epochs as shares of a plot, which the template draws as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Point = tuple[float, float]
Tick = tuple[float, str]
History = Sequence[Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One line; ``kind`` is its dash: ``first``, ``second`` or ``floor``."""

    name: str
    kind: str
    points: list[Point]
    last: str


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One plot; places are shares of its width and height (0 is left and bottom)."""

    title: str
    note: str
    traces: list[Trace]
    best: float | None
    best_epoch: int
    best_value: float | None
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    zero: float | None


@dataclass(frozen=True, kw_only=True)
class _Plot:
    """What goes into one plot: history key -> name and dash of its line. The first is the main."""

    title: str
    note: str
    keys: Mapping[str, tuple[str, str]]
    from_zero: bool = False
    at_zero: str = ""  # what zero means, where it is the floor


_PLOTS = (
    _Plot(
        title="Alignment loss",
        note="train",
        keys={"alignment_loss": ("alignment loss", "first")},
    ),
    _Plot(
        title="The encoder\u2019s own loss",
        note="masked spectrogram",
        keys={
            "masked_loss": ("train", "first"),
            "held_out_masked_loss": ("held-out persons", "second"),
        },
    ),
    _Plot(
        title="Debiased CKA, held-out persons",
        note="within datasets, so knowing the dataset alone gives 0 too",
        keys={
            "held_out_cka": ("sounds and reports", "first"),
            "teacher_cka": ("sounds and teacher", "second"),
        },
        from_zero=True,
        at_zero="floor: unrelated pairs",
    ),
    _Plot(
        title="Report found among the first 5",
        note="recall of a sound\u2019s report, held-out persons",
        keys={
            "report_recall_5": ("recall at 5", "first"),
            "report_recall_5_chance": ("chance", "floor"),
        },
        from_zero=True,
    ),
    _Plot(
        title="Sound found among the first 5",
        note="recall of a report\u2019s sound, held-out persons",
        keys={
            "sound_recall_5": ("recall at 5", "first"),
            "sound_recall_5_chance": ("chance", "floor"),
        },
        from_zero=True,
    ),
    _Plot(
        title="Effective rank",
        note="directions that held-out projections spread over; 1 is a collapse",
        keys={"audio_rank": ("sounds", "first"), "text_rank": ("reports", "second")},
        from_zero=True,
    ),
)


def curves(history: History, best_epoch: int) -> list[Curve]:
    """The plots of what this run measured; a gauge that it has no value of is left out of one."""
    found = [_curve(plot, history, best_epoch) for plot in _PLOTS]
    return [c for c in found if c.traces or c.title.startswith("Debiased")]


def measured(history: History, name: str) -> dict[int, float]:
    """epoch -> value of one gauge, where it is a number."""
    values = {int(h["epoch"]): h.get(name) for h in history}
    return {e: float(v) for e, v in values.items() if v is not None and math.isfinite(v)}


def _curve(plot: _Plot, history: History, best_epoch: int) -> Curve:
    from matplotlib.ticker import MaxNLocator

    known = {key: v for key in plot.keys if (v := measured(history, key))}
    every = [v for own in known.values() for v in own.values()]
    every += [0.0] if plot.from_zero or not every else []
    ys = MaxNLocator(nbins=4).tick_values(min(every), max(every))
    last = max([2, *(e for own in known.values() for e in own)])
    xs = [x for x in MaxNLocator(nbins=6, integer=True).tick_values(1, last) if 1 <= x <= last]

    def across(epoch: float) -> float:
        return round((epoch - 1) / (last - 1), 4)

    def up(value: float) -> float:
        return round(float((value - ys[0]) / (ys[-1] - ys[0])), 4)

    traces = [
        Trace(
            name=plot.keys[key][0],
            kind=plot.keys[key][1],
            points=[(across(e), up(v)) for e, v in sorted(own.items())],
            last=f"{own[max(own)]:.3g}".replace("-", "\u2212"),
        )
        for key, own in known.items()
    ]
    if plot.at_zero and traces:
        level = up(0.0)
        traces.append(
            Trace(name=plot.at_zero, kind="floor", points=[(0.0, level), (1.0, level)], last="0")
        )
    main = known.get(next(iter(plot.keys)), {})
    return Curve(
        title=plot.title,
        note=plot.note,
        traces=traces,
        best=across(best_epoch) if best_epoch in main else None,
        best_epoch=best_epoch,
        best_value=main.get(best_epoch),
        x_ticks=[(across(x), f"{x:.0f}") for x in xs],
        y_ticks=[(up(y), f"{y:.3g}".replace("-", "\u2212")) for y in ys],
        zero=up(0.0) if plot.from_zero else None,
    )
