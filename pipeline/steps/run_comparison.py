"""Scored runs -> one table of tasks: each run's score, and each later run minus the first.

Differences are paired: the same persons are drawn and swapped for both runs. A control is a run
like any other, so ``sample`` against ``sample+shuffled_reports`` is one line.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acula_model.evaluation import intervals, subgroups
from acula_model.evaluation.intervals import Difference, Scored
from acula_model.evaluation.score import Prediction, Score
from acula_model.evaluation.task import Task
from pipeline.steps import layout, score_files
from pipeline.steps.score_files import Key

_SHOWN = 3  # units named in an error


class ComparisonError(ValueError):
    """Runs that cannot be found or compared; says what to do."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A scored run by what the user called it."""

    name: str
    folder: Path
    scores: Mapping[Key, Score]
    predictions: Mapping[Key, list[Prediction]]


@dataclass(frozen=True, kw_only=True)
class Way:
    """Which scores of the runs are compared."""

    variant: str = "subject_clean"
    protocol: str = "default"
    head: str = "linear"

    def key(self, task: str) -> Key:
        """Of a task's score."""
        return task, self.variant, self.protocol, self.head


@dataclass(frozen=True, kw_only=True)
class Line:
    """One task.

    Attributes:
        scores: One per run; None where the run did not score the task.
        differences: Of each run but the first from the first, with the p value that holds for
            all tasks together (Holm); None where one of the two has no score.
    """

    task: str
    metric: str
    scores: list[Score | None]
    differences: list[tuple[Difference, float] | None]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The table, and under it the mean AUROC difference over tasks that both runs have."""

    runs: list[Run]
    way: Way
    lines: list[Line]
    means: list[tuple[int, Difference] | None]

    def facts(self) -> dict[str, Any]:
        """JSON values."""
        names = [r.name for r in self.runs]
        return {
            "schema": 1,
            "runs": [{"name": r.name, "folder": r.folder.name} for r in self.runs],
            "reference": names[0],
            **vars(self.way),
            "tasks": [
                {
                    "task": line.task,
                    "metric": line.metric,
                    "scores": [
                        s and {n: _number(getattr(s, n)) for n in ("value", "low", "high")}
                        for s in line.scores
                    ],
                    "differences": [
                        d and _of(d[0]) | {"p_holm": d[1], "run": name}
                        for d, name in zip(line.differences, names[1:], strict=True)
                    ],
                }
                for line in self.lines
            ],
            "mean_auroc_differences": [
                m and _of(m[1]) | {"tasks": m[0], "run": name}
                for m, name in zip(self.means, names[1:], strict=True)
            ],
        }


def load(data_root: Path, name: str) -> Run:
    """A run by its folder, its folder's name under the data root, or its recipe's name.

    Of several runs of one recipe the one that was finished last is taken.

    Raises:
        ComparisonError: There is no such run, or it was not scored; lists those there are.
    """
    runs = layout.Corpus(data_root).runs
    there = sorted(p for p in runs.glob("*") if _scores(p))
    of_recipe = [p for p in there if re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{8}}", p.name)]
    choices = [Path(name), runs / name, *sorted(of_recipe, key=_finished, reverse=True)]
    for folder in choices:
        place = _scores(folder)
        if place is not None:
            scores = {score_files.key(s): s for s in score_files.scores(place)}
            predictions = score_files.predictions(place)
            called = name if Path(name).name == name else "/".join(folder.resolve().parts[-2:])
            return Run(name=called, folder=folder, scores=scores, predictions=predictions)
    known = ", ".join(p.name for p in there) or "none"
    raise ComparisonError(
        f"no scored run {name!r}: give a folder with scores or one of {known} (runs under {runs})"
    )


def _scores(folder: Path) -> Path | None:
    places = (folder / "scores", folder)
    return next((p for p in places if (p / "predictions.parquet").is_file()), None)


def _finished(folder: Path) -> float:
    stamp = folder / "stamp.json"
    return stamp.stat().st_mtime if stamp.is_file() else 0.0


def compare(runs: Sequence[Run], tasks: Mapping[str, Task], way: Way) -> Comparison:
    """Hold runs against the first one.

    Args:
        runs: Two or more.
        tasks: task id -> task, of all that the runs scored.
        way: Which of their scores.

    Raises:
        ComparisonError: Fewer than two runs, nothing to compare, a task that is not known, or a
            task that two runs were tested on with different units; names some of these.
    """
    if len(runs) < 2:
        raise ComparisonError("name two runs or more")
    names = sorted({k[0] for r in runs for k in r.predictions if k == way.key(k[0])})
    if not names:
        known = sorted({" ".join(k[1:]) for r in runs for k in r.predictions})
        raise ComparisonError(
            f"no run has scores of {' '.join(vars(way).values())}; there are: {', '.join(known)}"
        )
    if strangers := [n for n in names if n not in tasks]:
        raise ComparisonError(f"no manifest describes the tasks {', '.join(strangers)}")
    gaps = [_gaps(run, runs[0], names, tasks, way) for run in runs[1:]]
    corrected = [intervals.holm({t: g.p for t, g in own.items()}) for own in gaps]
    lines = [
        Line(
            task=name,
            metric=tasks[name].metric,
            scores=[_score(run, way.key(name)) for run in runs],
            differences=[
                (own[name], holm[name]) if name in own else None
                for own, holm in zip(gaps, corrected, strict=True)
            ],
        )
        for name in names
    ]
    means = [
        _mean(run, runs[0], list(own), tasks, way) for run, own in zip(runs[1:], gaps, strict=True)
    ]
    return Comparison(runs=list(runs), way=way, lines=lines, means=means)


def _score(run: Run, key: Key) -> Score | None:
    score = run.scores.get(key)
    return score if score is not None and score.value is not None else None


def _gaps(
    ours: Run, other: Run, names: Sequence[str], tasks: Mapping[str, Task], way: Way
) -> dict[str, Difference]:
    found: dict[str, Difference] = {}
    for name in names:
        mine, theirs = (r.predictions.get(way.key(name)) for r in (ours, other))
        if mine and theirs:
            _same_units(name, (ours.name, mine), (other.name, theirs))
            kind = tasks[name].kind
            found[name] = intervals.difference(
                subgroups.scored(mine, kind), subgroups.scored(theirs, kind)
            )
    return found


def _mean(
    ours: Run, other: Run, names: Sequence[str], tasks: Mapping[str, Task], way: Way
) -> tuple[int, Difference] | None:
    chosen = [n for n in names if tasks[n].metric == "auroc"]
    if not chosen:
        return None

    def said(run: Run) -> dict[str, list[Scored]]:
        return {n: [subgroups.scored(run.predictions[way.key(n)], tasks[n].kind)] for n in chosen}

    return len(chosen), intervals.mean_difference(said(ours), said(other))


def _same_units(
    task: str, ours: tuple[str, list[Prediction]], other: tuple[str, list[Prediction]]
) -> None:
    (mine, my_said), (theirs, their_said) = ours, other
    here, there = ({p.unit: (p.person_id, p.label) for p in said} for said in (my_said, their_said))
    for name, strangers in (
        (mine, here.keys() - there.keys()),
        (theirs, there.keys() - here.keys()),
    ):
        if strangers:
            some = ", ".join(sorted(strangers)[:_SHOWN])
            raise ComparisonError(
                f"{task}: only {name} was tested on {some} ({len(strangers)} such units); "
                "score both runs again on the same task rows"
            )
    if differing := sorted(u for u in here if here[u] != there[u]):
        raise ComparisonError(
            f"{task}: {', '.join(differing[:_SHOWN])} ({len(differing)} such units) have another "
            f"label or person in {mine} than in {theirs}; score both again on the same task rows"
        )


def _of(gap: Difference) -> dict[str, Any]:
    edges = {n: _number(getattr(gap, n)) for n in ("low", "high", "detectable")}
    return {"value": gap.value, "p": gap.p, **edges}


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
