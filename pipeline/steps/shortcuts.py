"""pairs -> features that hear no sound: device, site, age, sex, duration, loudness, format.

What a probe reads from these is the floor of a medical claim: on the published COPD task the
device alone scores 0.987. Findings that somebody heard in the sound (``heard`` in the
manifest) and the label findings themselves are left out.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.findings import resolve
from pipeline.manifest import Manifest
from pipeline.records import Value


def features(
    pairs: Iterable[Mapping[str, Any]],
    findings: Mapping[str, Mapping[str, Value]],
    manifests: Mapping[str, Manifest],
) -> dict[str, npt.NDArray[np.float64]]:
    """Features of each recording.

    Args:
        pairs: Rows of the pairs table: facts about the sound file.
        findings: recording id -> raw findings, whether or not a report states them: a date of
            recording is no clinical fact, yet it predicts.
        manifests: Of the datasets.

    Returns:
        recording id -> [D]: one-hot terms of what the metadata say, then five numbers.
    """
    said: dict[str, set[str]] = {}
    numbers: dict[str, list[float]] = {}
    for row in pairs:
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
    table: dict[str, npt.NDArray[np.float64]] = {}
    for key, terms in said.items():
        vector = np.zeros(len(columns) + 5)
        vector[[columns[t] for t in terms]] = 1
        vector[len(columns) :] = numbers[key]
        table[key] = vector
    return table
