"""Tables of a data root -> frames of one row per recording or refused file, in bounded memory."""

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from pipeline.lineage import Tables
from pipeline.manifest import Manifest

pc: Any = pyarrow.compute  # its functions are made at import: no type checker sees them
KINDS = ("pair", "probed only", "refused")
APART = "\x1f"  # between a report and the names that are searched with it
SEARCHED = 4_000  # characters of a report; a report has some hundred
NUMBERS = ("native_rate", "duration_s", "rms_dbfs", "clipped_fraction", "offset", "size")
NAMES = ("dataset", "kind", "modality", "split", "person", "reason", "device", "part")
_RECORDING = (
    "recording_id", "modality", "member", "native_rate", "duration_s", "rms_dbfs",
    "clipped_fraction", "part", "offset", "size",
)  # fmt: skip
OTHERS = {
    "subjects": ("recording_id", "person_id", "split"), "pairs": ("recording_id",),
}  # fmt: skip
_BATCH = 20_000  # rows at once
_PARSED = 1_000  # rows whose findings are read at once
Codes = npt.NDArray[np.int32]


def codes_of(found: Mapping[str, Any]) -> list[str]:
    """Findings as terms: ``name=code`` for words and flags; numbers have none."""
    said: list[str] = []
    for name, value in found.items():
        if isinstance(value, bool):
            said.append(f"{name}={'yes' if value else 'no'}")
        elif isinstance(value, str):
            said.append(f"{name}={value}")
        elif isinstance(value, list):
            said += [f"{name}={v}" for v in value]
    return said


class Terms:
    """Terms as codes while rows are read: a corpus has hundreds of them, in millions of places."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self._codes, self._owners = array("i"), array("i")
        self.rows = 0

    def add(self, said: list[str]) -> None:
        """The next row's."""
        for term in said:
            self._codes.append(self.known.setdefault(term, len(self.known)))
            self._owners.append(self.rows)
        self.rows += 1

    def arrays(self) -> tuple[Codes, Codes]:
        """[T] codes beside the rows that have them."""
        return np.array(self._codes, np.int32), np.array(self._owners, np.int32)


def frames(
    tables: Tables, dataset: str, terms: Terms, others: Mapping[str, "pa.Table"]
) -> Iterator["pa.Table"]:
    """Recordings in batches, which bounds the memory of what a catalog does not keep; refusals."""
    path, columns = tables.sure("recordings", dataset), list(_RECORDING)
    device = _read_findings(path, tables.manifests[dataset], terms)
    reports = other_columns(tables, "reports", ("recording_id", "full_text"), dataset)
    others = {**others, "reports": reports}
    places = {t: _places(path, other) for t, other in others.items()}
    start = 0
    with pq.ParquetFile(path) as file:
        # One thread: decoding ahead would hold several times what is kept.
        for batch in file.iter_batches(_BATCH, columns=columns, use_threads=False):
            here = {t: others[t].take(p.slice(start, len(batch))) for t, p in places.items()}
            ids, subject, paired = batch["recording_id"], here["subjects"], here["pairs"]
            yield _table(
                id=ids, dataset=[dataset] * len(ids), modality=batch["modality"],
                kind=pc.if_else(pc.is_valid(paired["recording_id"]), *KINDS[:2]),
                split=subject["split"], person=subject["person_id"], part=batch["part"],
                reason=None, device=device.slice(start, len(ids)),
                searched=_searched(here["reports"]["full_text"], ids, batch["member"]),
                **{n: batch[n] for n in NUMBERS},
            )  # fmt: skip
            start += len(batch)
    if tables.exists("quarantine", dataset):
        refused = pq.read_table(tables.sure("quarantine", dataset))
        names = pa.array(_unique([f"{dataset}/{n}" for n in refused["name"].to_pylist()]))
        for _ in names:
            terms.add([])
        detail = pc.fill_null(refused["detail"], "")
        said = pc.binary_join_element_wise(refused["meaning"], detail, ": ")
        yield _table(
            id=names, dataset=[dataset] * len(names), kind=[KINDS[2]] * len(names), modality=None,
            split=None, person=None, part=None, reason=refused["reason"], device=None,
            searched=_searched(said, names, refused["name"]), **dict.fromkeys(NUMBERS),
        )  # fmt: skip


def _read_findings(path: Path, manifest: Manifest, terms: Terms) -> "pa.Array[Any]":
    """Add the terms of each row; returns its device."""
    named = next((n for n, spec in manifest.findings.items() if spec.concept == "device"), "")
    devices: list[str | None] = []
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_PARSED, columns=["findings"], use_threads=False):
            for value in batch["findings"]:
                found: dict[str, Any] = json.loads(value.as_py())
                devices.append(found.get(named))
                terms.add(codes_of(found))
    return pa.array(devices, pa.large_string())


def _unique(names: Sequence[str]) -> list[str]:
    """A file may be refused twice, for two reasons."""
    seen: dict[str, int] = {}
    found: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def other_columns(
    tables: Tables, table: str, columns: tuple[str, ...], dataset: str = ""
) -> "pa.Table":
    """Columns of another table; empty where its step has not run."""
    if not tables.exists(table, dataset):
        return pa.table({c: pa.nulls(0, pa.string()) for c in columns})
    with pq.ParquetFile(tables.sure(table, dataset)) as file:
        batches = list(file.iter_batches(_BATCH, columns=list(columns), use_threads=False))
        schema = pa.schema([file.schema_arrow.field(c) for c in columns])
    return pa.Table.from_batches([b.select(list(columns)) for b in batches], schema)


def _places(recordings: Path, other: "pa.Table") -> "pa.Array[Any]":
    """Where another table has each recording; null where it has none."""
    ids = pq.read_table(recordings, columns=["recording_id"])["recording_id"]
    found = pc.index_in(ids, value_set=other["recording_id"].combine_chunks())
    return found.combine_chunks()


def _searched(text: Any, *names: Any) -> Any:
    shown = pc.fill_null(pc.utf8_slice_codeunits(text, 0, SEARCHED), "")
    return pc.binary_join_element_wise(shown, *names, APART)


def _table(**columns: Any) -> "pa.Table":
    rows = len(columns["id"])
    made: dict[str, Any] = {}
    for name, values in sorted(columns.items()):
        kind = pa.float64() if name in NUMBERS else pa.large_string()
        given = pa.array(values, kind) if isinstance(values, list) else values
        column = pa.nulls(rows, kind) if values is None else pc.cast(given, kind)
        made[name] = column.dictionary_encode() if name in NAMES else column
    return pa.table(made)
