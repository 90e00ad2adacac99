"""Scores and predictions of one set of features, as two tables in a folder."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from acula_model.evaluation.score import Prediction, Score
from pipeline.steps import store


def write(place: Path, found: Sequence[Score], predictions: Sequence[Prediction]) -> None:
    """Write ``scores.parquet`` and ``predictions.parquet``."""
    import pandas as pd

    place.mkdir(parents=True, exist_ok=True)
    tables = {"scores": [s.row() for s in found], "predictions": [asdict(p) for p in predictions]}
    for name, rows in tables.items():
        with store.finished(place / f"{name}.parquet") as temporary:
            pd.DataFrame(rows).to_parquet(temporary)


def scores(place: Path) -> list[Score]:
    """What ``write`` wrote of the scores."""
    import pandas as pd

    rows = pd.read_parquet(place / "scores.parquet").to_dict("records")
    return [Score.from_row({str(k): v for k, v in row.items()}) for row in rows]
