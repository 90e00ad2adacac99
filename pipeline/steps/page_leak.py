"""Scores of the label-leak probes -> one line per task of the results page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from acula_model.metrics import Interval
from pipeline.manifest import Manifest
from pipeline.steps import label_leak, page_scores


@dataclass(frozen=True, kw_only=True)
class Line:
    """What the words of a task's reports tell about its label.

    Attributes:
        full: AUROC of a probe on the words of the full report.
        strict: Of the strict report, which leaves the labels out.
        findings: Of the findings that a strict report may state, without any words.
        excess: strict minus findings, paired by person.
        reason: Why there is no score.
    """

    task: str
    title: str
    dataset: str
    full: Interval | None
    strict: Interval | None
    findings: Interval | None
    excess: Interval | None
    reason: str | None

    @property
    def leaks(self) -> bool:
        """The strict words tell more than the findings in them: something gives the label away."""
        return self.excess is not None and self.excess.low > 0


def lines(place: Path, manifests: Mapping[str, Manifest], datasets: Sequence[str]) -> list[Line]:
    """One line per task without shared persons."""
    found = {source: page_scores.load(place / source) for source in label_leak.SOURCES}
    table: list[Line] = []
    for dataset in datasets:
        for name, task in manifests[dataset].tasks.items():
            key = (f"{dataset}/{name}", "subject_clean")
            score = found["strict"].scores.get(key)
            table.append(
                Line(
                    task=key[0],
                    title=task.title,
                    dataset=dataset,
                    full=page_scores.interval(found["full"], key),
                    strict=page_scores.interval(found["strict"], key),
                    findings=page_scores.interval(found["findings"], key),
                    excess=page_scores.difference(found["strict"], found["findings"], [key]),
                    reason=score["reason"] if score else "no recording carries this label",
                )
            )
    return table
