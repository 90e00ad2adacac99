"""Task rows, recordings and cached embeddings -> what the map of embeddings draws."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import layout, page_map, probing, store, task_rows


def files(
    settings: Settings, probed: Mapping[str, list[str]], front_end: str, key: str
) -> list[Path]:
    """Embeddings that one encoder left of the probed recordings, a file per dataset."""
    wanted = (probing.vectors_file(settings, d, own, front_end, key) for d, own in probed.items())
    return [p for p in wanted if p.is_file()]


def vectors(paths: Sequence[Path]) -> page_map.Vectors:
    """recording id -> [D]."""
    found: dict[str, Any] = {}
    for path in paths:
        with np.load(path, allow_pickle=False) as kept:
            found |= zip(kept["ids"].tolist(), kept["vectors"], strict=True)
    return found


def attributes(settings: Settings, manifests: Mapping[str, Manifest]) -> dict[str, dict[str, str]]:
    """Title -> recording id -> value: dataset, device, and the label of each task."""
    devices: dict[str, str] = {}
    datasets: dict[str, str] = {}
    corpus = layout.Corpus(settings.data_root)
    for dataset in settings.evaluated:
        findings = manifests[dataset].findings
        named = [n for n, f in findings.items() if f.concept == "device"]
        here = corpus.dataset(dataset)
        for row in store.read_rows(here.recordings, ["recording_id", "findings"]):
            known = json.loads(row["findings"])
            said = [sys.intern(str(known[n])) for n in named if n in known]
            datasets[row["recording_id"]] = dataset
            devices[row["recording_id"]] = said[0] if said else page_map.UNKNOWN
    found = {"dataset": datasets, "device": devices}
    labels: dict[str, dict[str, float]] = {}
    columns = ["task", "variant", "recording_id", "label"]
    clean = pc.field("variant") == task_rows.CLEAN
    for row in store.read_rows(corpus.table("task_rows"), columns, clean):
        labels.setdefault(row["task"], {})[row["recording_id"]] = row["label"]
    for task, own in sorted(labels.items()):
        dataset, _, name = task.partition("/")
        declared = manifests[dataset].tasks[name]
        classes = list(declared.codes)
        found[f"label of {task}"] = _classes(own, classes) if classes else _bands(own)
    return found


def _classes(labels: Mapping[str, float], classes: Sequence[str]) -> dict[str, str]:
    return {i: classes[int(label)] for i, label in labels.items()}


def _bands(labels: Mapping[str, float]) -> dict[str, str]:
    """Thirds of a measured number."""
    low, high = np.quantile(list(labels.values()), [1 / 3, 2 / 3])
    return {
        i: f"up to {low:.3g}" if v <= low else (f"up to {high:.3g}" if v <= high else "above")
        for i, v in labels.items()
    }
