"""All recordings and refused files of a data root as columns in memory, for filters and lists.

Names are codes into a list, so that a filter is one comparison of integers; a page needs the rest
of its fifty rows only.
"""

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
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
    "recording_id", "modality", "member", "native_rate", "duration_s", "rms_dbfs",
    "clipped_fraction", "part", "offset", "size",
)  # fmt: skip
_OTHERS = {
    "subjects": ("recording_id", "person_id", "split"), "pairs": ("recording_id",),
}  # fmt: skip
_NUMBERS = ("native_rate", "duration_s", "rms_dbfs", "clipped_fraction", "offset", "size")
_NAMES = ("dataset", "kind", "modality", "split", "person", "reason", "device", "part")
_BATCH = 20_000  # rows at once
_PARSED = 1_000  # rows whose findings are read at once
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Names:
    """One column of names: [N] codes into ``names``; -1 where a row has none."""

    codes: Codes
    names: list[str]

    @classmethod
    def of(cls, column: "pa.ChunkedArray[Any]") -> "Names":
        """Of dictionary-encoded chunks, each with a dictionary of its own."""
        coded = column.unify_dictionaries()
        codes = [pc.fill_null(c.indices, -1).to_numpy(zero_copy_only=False) for c in coded.chunks]
        names = coded.chunk(0).dictionary.to_pylist() if coded.num_chunks else []
        return cls(np.concatenate([*codes, np.zeros(0)]).astype(np.int32), names)

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
    """Rows in the order of their tables, which is that of ids; refused files stand at the end.

    Raises:
        LineageError: There is no corpus, or another version wrote its tables; says what to run.
    """

    def __init__(self, data_root: Path):
        self.tables = Tables(data_root)
        self.state = state(self.tables)
        terms = _Terms()
        others = {t: _other(self.tables, t, names) for t, names in _OTHERS.items()}
        whole = pa.concat_tables(
            frame for d in self.tables.datasets for frame in _frames(self.tables, d, terms, others)
        )
        del others
        self.ids = whole["id"].combine_chunks()
        self.searched = whole["searched"]  # report or detail of the refusal, id, member
        self.numbers = {
            n: whole[n].to_numpy().astype(np.float64) for n in _NUMBERS
        }  # NaN where there is no sound
        self.names = {name: Names.of(whole[name]) for name in _NAMES}
        self.terms, self._term_rows = terms.known, terms.arrays()
        pa.default_memory_pool().release_unused()

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, name: str) -> int | None:
        """Where a recording or refused file stands."""
        found = pc.index(self.ids, pa.scalar(name, pa.large_string())).as_py()
        return None if found < 0 else found

    def name(self, row: int) -> str:
        """What a row is called."""
        return self.ids[row].as_py()

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
            name=self.name(row),
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
        row = self.row(name)
        if row is None or not (part := self.names["part"].name(row)):
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


def _frames(
    tables: Tables, dataset: str, terms: _Terms, others: Mapping[str, "pa.Table"]
) -> Iterator["pa.Table"]:
    """Recordings in batches, which bounds the memory of what a catalog does not keep; refusals."""
    path, columns = tables.sure("recordings", dataset), list(_RECORDING)
    device = _read_findings(path, tables.manifests[dataset], terms)
    reports = _other(tables, "reports", ("recording_id", "full_text"), dataset)
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
                **{n: batch[n] for n in _NUMBERS},
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
            searched=_searched(said, names, refused["name"]), **dict.fromkeys(_NUMBERS),
        )  # fmt: skip


def _read_findings(path: Path, manifest: Manifest, terms: _Terms) -> "pa.Array[Any]":
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


def _other(tables: Tables, table: str, columns: tuple[str, ...], dataset: str = "") -> "pa.Table":
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
        kind = pa.float64() if name in _NUMBERS else pa.large_string()
        given = pa.array(values, kind) if isinstance(values, list) else values
        column = pa.nulls(rows, kind) if values is None else pc.cast(given, kind)
        made[name] = column.dictionary_encode() if name in _NAMES else column
    return pa.table(made)


def in_words(manifests: Mapping[str, Manifest], term: str, dataset: str) -> str:
    """A term in words: the finding's label and the code's word."""
    name, _, code = term.partition("=")
    spec = manifests[dataset].findings.get(name) if dataset in manifests else None
    return f"{spec.label}: {spec.words.get(code, code)}" if spec else term.replace("=", ": ")
