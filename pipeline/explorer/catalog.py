"""All recordings and refused files of a data root as columns in memory, for filters and lists.

Names are codes into a list, so that a filter is one comparison of integers; a page needs the rest
of its fifty rows only.
"""

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from pipeline.explorer import sound
from pipeline.lineage import Tables
from pipeline.manifest import Manifest
from pipeline.steps import marks

pc: Any = pyarrow.compute  # its functions are made at import: no type checker sees them
KINDS = ("pair", "probed only", "refused")
APART = "\x1f"  # between a report and the names that are searched with it
SNIPPET = 240  # characters of a report in the list
SEARCHED = 4_000  # characters of a report; a report has some hundred
_RECORDING = (
    "recording_id", "modality", "findings", "member", "native_rate", "duration_s", "rms_dbfs",
    "clipped_fraction", "part", "offset", "size",
)  # fmt: skip
_SUBJECT = ("recording_id", "person_id", "split")
_NUMBERS = ("native_rate", "duration_s", "rms_dbfs", "clipped_fraction", "offset", "size")
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Names:
    """One column of names: [N] codes into ``names``; -1 where a row has none."""

    codes: Codes
    names: list[str]

    @classmethod
    def of(cls, column: "pa.Array[Any] | pa.ChunkedArray[Any]") -> "Names":
        whole = pa.chunked_array([column]) if isinstance(column, pa.Array) else column
        coded = whole.combine_chunks().dictionary_encode()
        codes = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
        return cls(codes, coded.dictionary.to_pylist())

    def equal(self, name: str) -> npt.NDArray[np.bool_]:
        """[N]: rows of this name."""
        code = self._places.get(name)
        return np.zeros(len(self.codes), bool) if code is None else self.codes == code

    def name(self, row: int) -> str:
        """A row's name; empty where it has none."""
        code = self.codes[row]
        return self.names[code] if code >= 0 else ""

    def counts(self, rows: npt.NDArray[Any]) -> dict[str, int]:
        """How many of these rows have each name, the most frequent first."""
        own = self.codes[rows]
        found = np.bincount(own[own >= 0], minlength=len(self.names))
        return {self.names[i]: int(found[i]) for i in np.argsort(-found, kind="stable") if found[i]}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}


class Catalog:
    """Rows in the order of their ids; refused files stand behind a dataset's recordings.

    Raises:
        LineageError: There is no corpus, or another version wrote its tables; says what to run.
    """

    def __init__(self, data_root: Path):
        self.tables = Tables(data_root)
        self.state = state(self.tables)
        terms = _Terms()
        whole = pa.concat_tables(_frame(self.tables, d, terms) for d in self.tables.datasets)
        self.ids: list[str] = whole["id"].to_pylist()
        self.searched = whole["searched"]  # report or detail of the refusal, id, member
        self.numbers = {
            n: whole[n].to_numpy().astype(np.float64) for n in _NUMBERS
        }  # NaN where there is no sound
        columns = ("dataset", "kind", "modality", "split", "person", "reason", "device", "part")
        self.names = {name: Names.of(whole[name]) for name in columns}
        self.terms, self._term_rows = terms.known, terms.arrays()
        self._rows = {name: i for i, name in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, name: str) -> int | None:
        """Where a recording or refused file stands."""
        return self._rows.get(name)

    def with_term(self, term: str) -> npt.NDArray[np.bool_]:
        """[N]: rows with a finding, as ``name=code``; without ``=`` any of that name."""
        if "=" in term:
            wanted = [self.terms[term]] if term in self.terms else []
        else:
            wanted = [i for t, i in self.terms.items() if t.startswith(f"{term}=")]
        mask = np.zeros(len(self), bool)
        codes, rows = self._term_rows
        mask[rows[np.isin(codes, wanted)]] = True
        return mask

    def entry(self, row: int) -> "Entry":
        """A row as the list shows it."""
        return Entry(
            name=self.ids[row],
            text=_snippet(self.searched[row].as_py().split(APART, 1)[0]),
            seconds=float(self.numbers["duration_s"][row]),
            decibel=float(self.numbers["rms_dbfs"][row]),
            **{k: v.name(row) for k, v in self.names.items() if k != "part"},
        )

    def flac(self, name: str) -> bytes:
        """Bytes of a recording's sound.

        Raises:
            KeyError: No recording is called so.
            FileNotFoundError: Its part is missing; says what to run.
        """
        row = self._rows[name]
        if not (part := self.names["part"].name(row)):
            raise KeyError(name)
        folder = self.tables.corpus.dataset(self.names["dataset"].name(row)).parts
        offset, size = (int(self.numbers[n][row]) for n in ("offset", "size"))
        return sound.flac(folder, part, offset, size)

    def hours(self, rows: npt.NDArray[Any]) -> float:
        """Of sound in these rows."""
        return float(np.nansum(self.numbers["duration_s"][rows])) / 3600

    def terms_of(self, dataset: str) -> dict[str, str]:
        """Terms of one dataset, or of all, in words and with their counts, by name."""
        codes, rows = self._term_rows
        manifests = self.tables.manifests
        if dataset:
            codes = codes[self.names["dataset"].equal(dataset)[rows]]
        counts = np.bincount(codes, minlength=len(self.terms))
        return {
            term: f"{in_words(manifests, term, dataset)} ({counts[i]:,})"
            for term, i in sorted(self.terms.items())
            if counts[i]
        }


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the list."""

    name: str
    text: str
    seconds: float
    decibel: float
    dataset: str
    kind: str
    modality: str
    split: str
    person: str
    reason: str
    device: str


def _snippet(text: str) -> str:
    if len(text) <= SNIPPET:
        return text
    return f"{text[:SNIPPET].rpartition(' ')[0] or text[:SNIPPET]} ..."


def state(tables: Tables) -> dict[str, float]:
    """When each table was written; another answer means another catalog."""
    places = [tables.path(t) for t in ("subjects", "pairs")]
    for dataset in tables.datasets:
        places += [tables.path(t, dataset) for t in ("recordings", "quarantine", "reports")]
    return {str(p): p.stat().st_mtime for p in places if p.is_file()}


def marked(path: Path) -> dict[str, marks.Mark]:
    """Doubtful pairs by recording."""
    return {m.recording_id: m for m in marks.doubtful(marks.read(path)[0]).values()}


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


class _Terms:
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


def _frame(tables: Tables, dataset: str, terms: _Terms) -> "pa.Table":
    recordings = pq.read_table(tables.sure("recordings", dataset), columns=list(_RECORDING))
    recordings = recordings.take(pc.sort_indices(recordings["recording_id"]))
    ids = recordings["recording_id"]
    subject = _beside(ids, tables, "subjects", _SUBJECT)
    text = _beside(ids, tables, "pairs", ("recording_id", "full_text"))["full_text"]
    manifest = tables.manifests[dataset]
    named = next((n for n, s in manifest.findings.items() if s.concept == "device"), "")
    devices: list[str | None] = []
    for value in recordings["findings"]:
        found: dict[str, Any] = json.loads(value.as_py())
        devices.append(found.get(named))
        terms.add(codes_of(found))
    table = _table(
        id=ids, dataset=[dataset] * len(ids), kind=pc.if_else(pc.is_valid(text), *KINDS[:2]),
        modality=recordings["modality"], split=subject["split"], person=subject["person_id"],
        part=recordings["part"], reason=None, device=devices,
        searched=_searched(text, ids, recordings["member"]),
        **{n: recordings[n] for n in _NUMBERS},
    )  # fmt: skip
    if not tables.exists("quarantine", dataset):
        return table
    refused = pq.read_table(tables.sure("quarantine", dataset))
    names = pa.array(_unique([f"{dataset}/{n}" for n in refused["name"].to_pylist()]))
    for _ in names:
        terms.add([])
    bad = _table(
        id=names, dataset=[dataset] * len(names), kind=[KINDS[2]] * len(names), modality=None,
        split=None, person=None, part=None, reason=refused["reason"], device=None,
        searched=_searched(pc.binary_join_element_wise(
            refused["meaning"], pc.fill_null(refused["detail"], ""), ": "), names, refused["name"]),
        **dict.fromkeys(_NUMBERS),
    )  # fmt: skip
    return pa.concat_tables([table, bad])


def _unique(names: Sequence[str]) -> list[str]:
    """A file may be refused twice, for two reasons."""
    seen: dict[str, int] = {}
    found: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _beside(
    ids: "pa.ChunkedArray[Any]", tables: Tables, table: str, columns: tuple[str, ...]
) -> "pa.Table":
    """Rows of another table in the order of ids; null where it has none."""
    if not tables.exists(table):
        return pa.table({c: pa.nulls(len(ids), pa.string()) for c in columns})
    other = pq.read_table(tables.path(table), columns=list(columns))
    places = pc.index_in(ids, value_set=other["recording_id"].combine_chunks())
    return other.take(places.combine_chunks())


def _searched(text: Any, *names: Any) -> Any:
    shown = pc.fill_null(pc.utf8_slice_codeunits(text, 0, SEARCHED), "")
    return pc.binary_join_element_wise(shown, *names, APART)


def _table(**columns: Any) -> "pa.Table":
    rows = len(columns["id"])
    types = {n: pa.float64() if n in _NUMBERS else pa.large_string() for n in columns}
    return pa.table({
        n: pa.nulls(rows, types[n]) if v is None else pc.cast(_array(v), types[n])
        for n, v in columns.items()
    })  # fmt: skip


def _array(values: Any) -> Any:
    return pa.array(values, pa.large_string()) if isinstance(values, list) else values


def in_words(manifests: Mapping[str, Manifest], term: str, dataset: str) -> str:
    """A term in words: the finding's label and the code's word."""
    name, _, code = term.partition("=")
    spec = manifests[dataset].findings.get(name) if dataset in manifests else None
    return f"{spec.label}: {spec.words.get(code, code)}" if spec else term.replace("=", ": ")
