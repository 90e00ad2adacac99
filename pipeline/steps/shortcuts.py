"""recordings -> features that hear no sound: device, site, age, sex, duration, loudness, format.

What a probe reads from these is the floor of a medical claim: on the published COPD task the
device alone scores 0.987. Findings that somebody heard in the sound (``heard`` in the
manifest) and the label findings themselves are left out.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.findings import resolve
from pipeline.manifest import Manifest
from pipeline.records import Value
from pipeline.settings import Settings
from pipeline.steps import layout, store

COLUMNS = [
    "recording_id",
    "dataset",
    "findings",
    "native_rate",
    "native_format",
    "duration_s",
    "rms_dbfs",
    "peak",
    "clipped_fraction",
]


def table(
    settings: Settings, manifests: Mapping[str, Manifest]
) -> dict[str, npt.NDArray[np.float64]]:
    """Features of every recording of the evaluated datasets; their width differs by dataset."""
    corpus = layout.Corpus(settings.data_root)
    found: dict[str, npt.NDArray[np.float64]] = {}
    for dataset in settings.evaluated:
        rows = store.read_table(corpus.dataset(dataset).recordings, COLUMNS).to_pylist()
        said = {r["recording_id"]: json.loads(r["findings"]) for r in rows}
        found |= features(rows, said, manifests)
    return found


def features(
    recordings: Iterable[Mapping[str, Any]],
    findings: Mapping[str, Mapping[str, Value]],
    manifests: Mapping[str, Manifest],
) -> dict[str, npt.NDArray[np.float64]]:
    """Features of each recording.

    Args:
        recordings: Rows of recordings tables: facts about the sound file.
        findings: recording id -> raw findings, whether or not a report states them: a date of
            recording is no clinical fact, yet it predicts.
        manifests: Of the datasets.

    Returns:
        recording id -> [D]: one-hot terms of what the metadata say, then five numbers.
    """
    said: dict[str, set[str]] = {}
    numbers: dict[str, list[float]] = {}
    for row in recordings:
        manifest = manifests[row["dataset"]]
        known = resolve(manifest, findings[row["recording_id"]])
        silent = {n for n, s in manifest.findings.items() if not s.heard} - manifest.strict_masks
        said[row["recording_id"]] = {
            *(term for name in silent for term in known[name].terms),
            f"rate={row['native_rate']}",
            f"format={row['native_format']}",
        }
        numbers[row["recording_id"]] = [
            row["duration_s"],
            np.log(row["duration_s"]),
            row["rms_dbfs"],
            row["peak"],
            row["clipped_fraction"],
        ]
    columns = {t: i for i, t in enumerate(sorted(set[str]().union(*said.values())))}
    found: dict[str, npt.NDArray[np.float64]] = {}
    for key, terms in said.items():
        vector = np.zeros(len(columns) + 5)
        vector[[columns[t] for t in terms]] = 1
        vector[len(columns) :] = numbers[key]
        found[key] = vector
    return found
