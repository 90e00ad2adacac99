"""manifests + alignment pairs + scores -> the facts that a checkpoint's model card states."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from acula_model import model_card
from acula_model.evaluation.score import Score
from pipeline.manifest import Manifest
from pipeline.steps import score_files


def write(
    checkpoint: Path,
    rows: Iterable[Mapping[str, Any]],
    manifests: Mapping[str, Manifest],
    scores: Path,
    baseline: Path,
    synthetic: bool,
) -> None:
    """Write the card of a checkpoint.

    Args:
        checkpoint: Its folder.
        rows: The pairs table.
        manifests: By dataset.
        scores: Folder with the scores of the checkpoint.
        baseline: Folder with those before alignment and of the shortcut; its parts may be missing.
        synthetic: The archives were the built-in samples.
    """
    model_card.write(checkpoint, corpora(rows, manifests), _results(scores, baseline), synthetic)


def corpora(
    rows: Iterable[Mapping[str, Any]], manifests: Mapping[str, Manifest]
) -> list[model_card.Corpus]:
    """Sources and terms of the datasets that alignment reads."""
    counts = Counter(str(row["dataset"]) for row in rows if row["align"])
    return [
        model_card.Corpus(
            title=m.title,
            version=m.version,
            homepage=m.homepage,
            licence=m.licence.name,
            licence_url=m.licence.url,
            licence_source=m.licence.source,
            commercial_use=m.licence.commercial_use,
            agreement=m.licence.agreement,
            attribution=m.attribution,
            citation=m.citation,
            pairs=count,
        )
        for m, count in ((manifests[d], n) for d, n in sorted(counts.items()))
    ]


def _results(scores: Path, baseline: Path) -> list[model_card.Result]:
    before, floor = (
        {s.task: s.value for s in _clean(baseline / kind)} for kind in ("encoder", "shortcut")
    )
    return [
        model_card.Result(
            task=score.task,
            metric=score.metric.upper(),
            value=score.value,
            low=score.low,
            high=score.high,
            before=before.get(score.task),
            floor=floor.get(score.task),
            reason=score.reason,
        )
        for score in _clean(scores)
    ]


def _clean(folder: Path) -> list[Score]:
    """Default scores of the variant that shares no person."""
    if not (folder / "scores.parquet").is_file():
        return []
    return [
        s
        for s in score_files.scores(folder)
        if (s.variant, s.protocol, s.head) == ("subject_clean", "default", "linear")
    ]
