"""manifests + alignment pairs + scores -> the facts that a checkpoint's model card states."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from acula_model import model_card
from pipeline.manifest import Manifest
from pipeline.steps import store


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
    before, floor = (_auroc(baseline / kind) for kind in ("encoder", "shortcut"))
    return [
        model_card.Result(
            task=row["task"],
            auroc=row["auroc"],
            low=row["low"],
            high=row["high"],
            before=before.get(row["task"]),
            floor=floor.get(row["task"]),
            reason=row["reason"],
        )
        for row in _clean(scores)
    ]


def _auroc(folder: Path) -> dict[str, float | None]:
    return {row["task"]: row["auroc"] for row in _clean(folder)}


def _clean(folder: Path) -> list[dict[str, Any]]:
    """Rows of the variant that shares no person."""
    path = folder / "scores.parquet"
    rows = store.read_table(path).to_pylist() if path.is_file() else []
    return [r for r in rows if r["variant"] == "subject_clean"]
