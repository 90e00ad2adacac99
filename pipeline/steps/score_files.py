"""Probe scores and predictions of one set of features, as two tables in a folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from acula_model.probe import Prediction, Score
from pipeline.steps import store


def write(place: Path, scores: Sequence[Score], predictions: Sequence[Prediction]) -> None:
    """Write ``scores.parquet`` and ``predictions.parquet``."""
    import pandas as pd

    place.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame([asdict(s) | {"counts": json.dumps(s.counts)} for s in scores])
    for name, frame in (
        ("scores", table),
        ("predictions", pd.DataFrame([asdict(p) for p in predictions])),
    ):
        with store.finished(place / f"{name}.parquet") as temporary:
            frame.to_parquet(temporary)
