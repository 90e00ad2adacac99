"""Scores and predictions of one set of features, as two tables in a folder."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from acula_model.evaluation.score import Prediction, Score
from pipeline.steps import store

# task, variant, protocol, head: what a score is of, besides the features.
Key = tuple[str, str, str, str]


def key(of: Score | Prediction) -> Key:
    """What a score or a prediction is of."""
    return of.task, of.variant, of.protocol, of.head


def write(place: Path, found: Sequence[Score], predictions: Sequence[Prediction]) -> None:
    """Write ``scores.parquet`` and ``predictions.parquet``."""
    import pandas as pd

    place.mkdir(parents=True, exist_ok=True)
    tables = {"scores": [s.row() for s in found], "predictions": [asdict(p) for p in predictions]}
    for name, rows in tables.items():
        with store.finished(place / f"{name}.parquet") as temporary:
            pd.DataFrame(rows).to_parquet(temporary)


def scores(place: Path) -> list[Score]:
    """What ``write`` wrote of the scores.

    Raises:
        FileNotFoundError: Nothing was scored there; says which command does it.
    """
    return [Score.from_row(row) for row in _rows(place / "scores.parquet")]


def predictions(place: Path) -> dict[Key, list[Prediction]]:
    """What ``write`` wrote of the predictions, by what they are of and in the order of units.

    Raises:
        FileNotFoundError: Nothing was scored there; says which command does it.
    """
    found: dict[Key, list[Prediction]] = defaultdict(list)
    for row in _rows(place / "predictions.parquet"):
        given = row["probabilities"]
        if given is not None:  # a whole column of none reads as nan
            row["probabilities"] = None if isinstance(given, float) else [float(p) for p in given]
        one = Prediction(**row)
        found[key(one)].append(one)
    return {k: sorted(own, key=lambda p: p.unit) for k, own in found.items()}


def _rows(path: Path) -> list[dict[str, Any]]:
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: run `dagster asset materialize --select '*train_alignment'` first"
        )
    return [{str(k): v for k, v in r.items()} for r in pd.read_parquet(path).to_dict("records")]
