"""A made-up task: features in which a label moves one direction and a person moves all."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model.evaluation.task import Task

Row = dict[str, Any]
Features = dict[str, npt.NDArray[np.float64]]
FOLDS = ("train", "train", "val", "test", "test")
BINARY = Task(id="icbhi/copd", title="COPD", classes=("healthy", "COPD"))
SEVERITY = Task(id="icbhi/copd", title="Severity", kind="multiclass", classes=("a", "b", "c"))
VOLUME = Task(id="icbhi/copd", title="Volume", kind="regression", unit="L")
LEFT_OUT = replace(VOLUME, scheme="leave_one_person_out")


def world(
    task: Task = BINARY, persons: int = 100, each: int = 2, signal: float = 3.0,
    folds: tuple[str, ...] = FOLDS, seed: int = 0, width: int = 16, scales: float = 3.0,
) -> tuple[Features, list[Row]]:  # fmt: skip
    """Features of very different scales; labels go round within each fold."""
    rng = np.random.default_rng(seed)
    classes = {"binary": 2, "multiclass": len(task.classes), "regression": 0}[task.kind]
    if task.scheme == "leave_one_person_out":
        folds = ("each",)
    features: Features = {}
    rows: list[Row] = []
    for n in range(persons):
        label = n // len(folds) % classes if classes else float(rng.normal(3, 0.7))
        own = rng.standard_normal(width)
        for take in range(each):
            name = f"icbhi/{n:03}_{take}"
            vector = own + 0.3 * rng.standard_normal(width)
            vector[3 + (int(label) if classes > 2 else 0)] += signal * (1 if classes > 2 else label)
            features[name] = vector * np.logspace(-scales, scales, width)
            rows.append(
                {"task": task.id, "variant": "subject_clean", "recording_id": name,
                 "case_id": f"icbhi/visit{n:03}", "person_id": f"icbhi/{n:03}",
                 "fold": folds[n % len(folds)], "label": float(label)}
            )  # fmt: skip
    return features, rows
