"""recordings -> sex, age band, device and site of what is scored, for scores within groups."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.findings import resolve
from pipeline.manifest import FindingSpec, Manifest
from pipeline.vocabulary import Concept

ATTRIBUTES: Mapping[Concept, str] = {
    "sex": "sex",
    "age": "age",
    "device": "device",
    "auscultation_site": "site",
}
COLUMNS = ["recording_id", "findings"]
SEVERAL = "several"
# Where the manifest has no bands of its own: minors, adults, and the old.
_AGES = (18.0, 45.0, 65.0)
Values = dict[str, str | None]


def of_units(
    manifest: Manifest,
    task: str,
    recordings: Iterable[Mapping[str, Any]],
    unit_of: Mapping[str, str],
) -> dict[str, Values]:
    """Attribute values of each unit; the finding that the task asks for is no attribute.

    Args:
        manifest: Of the dataset.
        task: Its name in the manifest.
        recordings: Rows of its recordings table with ``COLUMNS``.
        unit_of: recording id -> the recording or case that is scored; others are left out.

    Returns:
        unit -> attribute -> value; None where nothing is known, ``several`` where the
        recordings of a unit differ.
    """
    asked = manifest.tasks[task]
    chosen: dict[str, str] = {}
    for name, spec in manifest.findings.items():
        attribute = ATTRIBUTES.get(spec.concept) if spec.concept else None
        if attribute and name not in (asked.label, *asked.masks):
            chosen.setdefault(attribute, name)
    found: dict[str, dict[str, set[str]]] = {}
    for row in recordings:
        if row["recording_id"] not in unit_of:
            continue
        known = resolve(manifest, json.loads(row["findings"]))
        own = found.setdefault(unit_of[row["recording_id"]], {a: set() for a in chosen})
        for attribute, name in chosen.items():
            if known[name].status in ("stated", "absent"):
                spec, value = manifest.findings[name], known[name].value
                if spec.kind == "number" and isinstance(value, int | float):
                    own[attribute].add(_band(spec, value))
                else:
                    own[attribute].add(str(known[name]))
    return {unit: {a: _one(v) for a, v in own.items()} for unit, own in found.items()}


def _one(values: set[str]) -> str | None:
    return (min(values) if len(values) == 1 else SEVERAL) if values else None


def _band(spec: FindingSpec, value: float) -> str:
    edges: Sequence[float] = spec.bands or _AGES
    below = [e for e in edges if e <= value]
    above = [e for e in edges if e > value]
    if not below:
        return f"under {above[0]:g} {spec.unit}"
    if not above:
        return f"{below[-1]:g} {spec.unit} and over"
    return f"{below[-1]:g} to {above[0]:g} {spec.unit}"
