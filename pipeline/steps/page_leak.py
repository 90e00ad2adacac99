"""Scores of the label-leak probes -> one line per task of the results page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from acula_model.evaluation import intervals, subgroups
from acula_model.evaluation.score import Score
from pipeline.manifest import Manifest
from pipeline.steps import label_leak, score_files


@dataclass(frozen=True, kw_only=True)
class Line:
    """What the words of a task's reports tell about its label, on the clean split.

    Attributes:
        full: Score of a probe on the words of the full report.
        strict: Of the strict report, which leaves the labels out.
        findings: Of the findings that a strict report may state, without any words.
        excess: strict minus findings, paired by person; of an error, findings minus strict.
        reason: Why there is no score.
    """

    task: str
    title: str
    dataset: str
    metric: str
    full: Score | None = None
    strict: Score | None = None
    findings: Score | None = None
    excess: intervals.Interval | None = None
    reason: str | None = None

    @property
    def leaks(self) -> bool:
        """The strict words tell more than the findings in them: something gives the label away."""
        return self.excess is not None and self.excess.low > 0

    @property
    def telling(self) -> bool:
        """The findings tell something by themselves."""
        found = self.findings
        if found is None or found.low is None or found.high is None or found.floor is None:
            return False
        return found.high < found.floor if self.metric == "mae" else found.low > found.floor


def lines(place: Path, manifests: Mapping[str, Manifest], datasets: Sequence[str]) -> list[Line]:
    """One line per task that has reports."""
    found = {s: dict(_clean(score_files.scores(place / s))) for s in label_leak.SOURCES}
    said = {s: score_files.predictions(place / s) for s in ("strict", "findings")}
    table: list[Line] = []
    for dataset in datasets:
        for name, task in manifests[dataset].tasks.items():
            key = f"{dataset}/{name}"
            own = {source: scores.get(key) for source, scores in found.items()}
            known = {s: x for s, x in own.items() if x is not None and x.value is not None}
            strict = own["strict"]
            excess = None
            if {"strict", "findings"} <= known.keys():
                ours, other = (
                    subgroups.scored(said[s][score_files.key(known[s])], task.kind)
                    for s in (
                        ("findings", "strict") if task.metric == "mae" else ("strict", "findings")
                    )
                )
                excess = intervals.difference(ours, other)
            table.append(
                Line(
                    task=key,
                    title=task.title,
                    dataset=dataset,
                    metric=task.metric,
                    excess=excess,
                    reason=strict.reason if strict else "no recording carries this label",
                    **known,
                )
            )
    return table


def _clean(scores: Sequence[Score]) -> Iterator[tuple[str, Score]]:
    for score in scores:
        if (score.variant, score.protocol) == ("subject_clean", "default"):
            yield score.task, score
