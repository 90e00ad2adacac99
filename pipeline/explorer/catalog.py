"""All recordings and refused files of a data root as columns in memory, for filters and lists.

Names are codes into a list, so that a filter is one comparison of integers; a page needs the rest
of its fifty rows only.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from pipeline.explorer import sound
from pipeline.explorer.reading import (
    APART,
    NAMES,
    NUMBERS,
    OTHERS,
    Codes,
    Terms,
    frames,
    other_columns,
)
from pipeline.lineage import Tables
from pipeline.manifest import Manifest
from pipeline.steps import marks, remote

pc: Any = pyarrow.compute  # its functions are made at import: no type checker sees them
SNIPPET = 240  # characters of a report in the list


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


@dataclass(frozen=True)
class Sets:
    """Names of which a row may have several: the rows of each."""

    length: int
    rows: dict[str, npt.NDArray[np.int32]]

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """[N]: rows of this name."""
        found = np.zeros(self.length, bool)
        found[self.rows.get(name, [])] = True
        return found

    def counts(self, rows: npt.NDArray[np.bool_]) -> dict[str, int]:
        """How many of these rows have each name, the most frequent first."""
        found = Counter({name: int(rows[own].sum()) for name, own in self.rows.items()})
        return {name: n for name, n in found.most_common() if n}


class Catalog:
    """Rows in the order of their tables, which is that of ids; refused files stand at the end.

    Raises:
        LineageError: There is no corpus, or another version wrote its tables; says what to run.
    """

    def __init__(self, data_root: Path):
        self.tables = Tables(data_root)
        self.state = state(self.tables)
        terms = Terms()
        others = {t: other_columns(self.tables, t, names) for t, names in OTHERS.items()}
        whole = pa.concat_tables(
            frame for d in self.tables.datasets for frame in frames(self.tables, d, terms, others)
        )
        del others
        self.ids = whole["id"].combine_chunks()
        self.searched = whole["searched"]  # report or detail of the refusal, id, member
        self.numbers = {
            n: whole[n].to_numpy().astype(np.float64) for n in NUMBERS
        }  # NaN where there is no sound
        self.names = {name: Names.of(whole[name]) for name in NAMES}
        self.terms, self._term_rows = terms.known, terms.arrays()
        self.diagnosed = self._diagnosed()
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

    def _diagnosed(self) -> Sets:
        """Rows by diagnosis, in the words that datasets share for their own codes."""
        codes, rows = self._term_rows
        found: dict[str, list[npt.NDArray[np.int32]]] = defaultdict(list)
        for dataset in self.tables.datasets:
            own = self.names["dataset"].equal(dataset)[rows]
            said, by = codes[own], rows[own]
            for name, spec in self.tables.manifests[dataset].findings.items():
                for code, words in spec.words.items() if spec.concept == "diagnosis" else ():
                    if (term := self.terms.get(f"{name}={code}")) is not None:
                        found[words].append(by[said == term])
        return Sets(len(self), {w: np.unique(np.concatenate(r)) for w, r in found.items()})

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
    remote.need(*places)
    return {str(p): p.stat().st_mtime for p in places if p.is_file()}


def marked(path: Path) -> dict[str, marks.Mark]:
    """Doubtful pairs by recording."""
    return {m.recording_id: m for m in marks.doubtful(marks.read(path)[0]).values()}


def in_words(manifests: Mapping[str, Manifest], term: str, dataset: str) -> str:
    """A term in words: the finding's label and the code's word."""
    name, _, code = term.partition("=")
    spec = manifests[dataset].findings.get(name) if dataset in manifests else None
    return f"{spec.label}: {spec.words.get(code, code)}" if spec else term.replace("=", ": ")
