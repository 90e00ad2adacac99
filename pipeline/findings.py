"""A recording's raw values + its manifest -> findings with word, unit and status."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from pipeline.manifest import FindingSpec, Manifest
from pipeline.records import Value

# stated: the source says what it is. absent: the source says it is not there.
# unknown: the source says it cannot tell. not_recorded: the source is silent.
Status = Literal["stated", "absent", "unknown", "not_recorded"]
_REMEMBERED = 4096  # values per finding; numbers may have any number of them


class UnknownCode(ValueError):
    """A value that the manifest has no word or no finding for."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fact about one recording. ``words`` is empty for numbers and flags."""

    name: str
    label: str
    status: Status
    value: Value | None = None
    words: tuple[str, ...] = ()
    unit: str | None = None
    terms: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """The words as one phrase."""
        return " and ".join(self.words)

    def __str__(self) -> str:
        if self.words:
            return self.word
        return f"{self.value:g}" if isinstance(self.value, float) else str(self.value)


class Resolver:
    """Findings of many recordings of one dataset; equal values share one finding."""

    def __init__(self, manifest: Manifest) -> None:
        self._dataset, self._specs = manifest.id, manifest.findings
        self._known: dict[str, dict[str, Finding]] = {name: {} for name in self._specs}

    def __call__(self, values: Mapping[str, Value]) -> dict[str, Finding]:
        """Every declared finding; those without a value have the status ``not_recorded``.

        Raises:
            UnknownCode: A name or a code that the manifest does not declare.
        """
        if strangers := [name for name in values if name not in self._specs]:
            raise UnknownCode(f"{self._dataset}: no finding {strangers} in the manifest")
        return {
            name: self._one(name, spec, values.get(name, spec.always))
            for name, spec in self._specs.items()
        }

    def _one(self, name: str, spec: FindingSpec, value: Value | None) -> Finding:
        known, key = self._known[name], repr(value)  # 1, 1.0 and True are equal, and not the same
        finding = known.get(key)
        if finding is None:
            finding = _finding(name, spec, value)
            if len(known) < _REMEMBERED:
                known[key] = finding
        return finding


def resolve(manifest: Manifest, values: Mapping[str, Value]) -> dict[str, Finding]:
    """The findings of one recording; a ``Resolver`` is faster for many, and raises the same."""
    return Resolver(manifest)(values)


def _finding(name: str, spec: FindingSpec, value: Value | None) -> Finding:
    if value is None or value in ((), []):  # no code at all does not state absence
        return Finding(name=name, label=spec.label, status="not_recorded")
    status: Status = "stated"
    words: tuple[str, ...] = ()
    if spec.kind in ("code", "codes"):
        codes = value if isinstance(value, tuple | list) else (value,)
        if missing := [c for c in codes if c not in spec.words]:
            raise UnknownCode(f"no word for {name} {missing}; known: {', '.join(spec.words)}")
        words = tuple(spec.words[str(c)] for c in codes)
        if set(codes) <= set(spec.absent):
            status = "absent"
        elif set(codes) <= set(spec.unknown):
            status = "unknown"
        terms = tuple(f"{name}={c}" for c in codes)
    elif spec.kind == "flag":
        if not isinstance(value, bool):
            raise UnknownCode(f"{name} is a flag; got {value!r}")
        status = "stated" if value else "absent"
        terms = (f"{name}={'yes' if value else 'no'}",)
    else:
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise UnknownCode(f"{name} is a number; got {value!r}")
        terms = (f"{name}~{bisect_right(spec.bands, value)}",)
    return Finding(
        name=name,
        label=spec.label,
        status=status,
        value=value,
        words=words,
        unit=spec.unit,
        terms=terms,
    )
