"""Data sheet of one dataset: what it holds, of whom, under which terms, and what it leaves open."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pipeline.explorer.catalog import Catalog
from pipeline.explorer.reading import KINDS
from pipeline.manifest import FindingSpec, Manifest

BINS = 24
CODES = 12  # of a finding that the sheet shows


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of equal bins between two numbers; what lies beyond them is in the last bin."""

    low: float
    high: float
    counts: list[int]
    median: float


@dataclass(frozen=True, kw_only=True)
class FindingFacts:
    """How often one finding is stated, and how."""

    name: str
    label: str
    unit: str | None
    recorded: int
    missing: int
    codes: list[tuple[str, str, int]]  # term, word, count
    numbers: Histogram | None


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One dataset."""

    manifest: Manifest
    recordings: int
    hours: float
    persons: int
    kinds: dict[str, int]
    splits: dict[str, int]
    modalities: dict[str, int]
    rates: dict[str, int]
    reasons: dict[str, int]
    durations: Histogram | None
    findings: list[FindingFacts]


def of(catalog: Catalog, dataset: str) -> Sheet:
    """Count one dataset; its findings are read in batches."""
    manifest = catalog.tables.manifests[dataset]
    names = catalog.names
    own = names["dataset"].equal(dataset)
    heard = own & ~names["kind"].equal(KINDS[2])
    seconds = catalog.numbers["duration_s"][heard]
    rates = Counter(f"{int(r):,} Hz" for r in catalog.numbers["native_rate"][heard])
    return Sheet(
        manifest=manifest,
        recordings=int(heard.sum()),
        hours=round(float(seconds.sum()) / 3600, 2),
        persons=len(names["person"].counts(heard)),
        kinds=names["kind"].counts(own),
        splits=names["split"].counts(heard),
        modalities=names["modality"].counts(heard),
        rates=dict(rates.most_common()),
        reasons=names["reason"].counts(own),
        durations=histogram(seconds),
        findings=_findings(catalog, manifest),
    )


def histogram(values: npt.NDArray[np.float64]) -> Histogram | None:
    """Between the least and the 99th percentile, so that one long recording hides nothing."""
    if not len(values):
        return None
    low, high = float(values.min()), float(np.percentile(values, 99))
    if high <= low:
        high = low + 1
    counts, _ = np.histogram(np.minimum(values, high), BINS, (low, high))
    return Histogram(
        low=low, high=high, counts=counts.tolist(), median=round(float(np.median(values)), 2)
    )


def _findings(catalog: Catalog, manifest: Manifest) -> list[FindingFacts]:
    recorded: Counter[str] = Counter()
    codes: dict[str, Counter[str]] = {n: Counter() for n in manifest.findings}
    numbers: dict[str, list[float]] = {n: [] for n in manifest.findings}
    rows = 0
    path = catalog.tables.sure("recordings", manifest.id)
    for batch in pq.ParquetFile(path).iter_batches(10_000, columns=["findings"]):
        for value in batch["findings"].to_pylist():
            rows += 1
            found: dict[str, Any] = json.loads(value)
            for name, said in found.items():
                if name not in codes or said == []:
                    continue
                recorded[name] += 1
                if isinstance(said, list):
                    codes[name].update(map(str, said))
                elif isinstance(said, bool):
                    codes[name]["yes" if said else "no"] += 1
                elif isinstance(said, str):
                    codes[name][said] += 1
                else:
                    numbers[name].append(float(said))
    return [
        FindingFacts(
            name=name,
            label=spec.label,
            unit=spec.unit,
            recorded=rows if spec.always is not None else recorded[name],
            missing=0 if spec.always is not None else rows - recorded[name],
            codes=_words(name, spec, codes[name]),
            numbers=histogram(np.array(numbers[name])),
        )
        for name, spec in manifest.findings.items()
    ]


def _words(name: str, spec: FindingSpec, counts: Counter[str]) -> list[tuple[str, str, int]]:
    return [(f"{name}={c}", spec.words.get(c, c), n) for c, n in counts.most_common(CODES)]
