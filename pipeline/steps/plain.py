"""Measures as JSON values: an interval is its value and its ends, and what is no number is null."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from acula_model.evaluation.intervals import Difference, Interval


def of(value: Any) -> Any:
    """Dataclasses, mappings and lists of them, all the way down; keys become texts."""
    if isinstance(value, Interval):
        names = ("value", "low", "high", *(["p"] if isinstance(value, Difference) else []))
        return {name: of(getattr(value, name)) for name in names}
    if is_dataclass(value):
        return {f.name: of(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): of(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [of(v) for v in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
