"""One row of a table at a time: sorted tables are read by row group, never as a whole."""

import json
from array import array
from collections.abc import Mapping
from functools import cached_property, reduce
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from pipeline.lineage.chain import LineageError
from pipeline.manifest import Manifest, load_all
from pipeline.steps import (
    layout,
    pairs,
    persons,
    recordings,
    remote,
    report_table,
    shards,
    task_rows,
)

pc: Any = pyarrow.compute  # its functions are made at import: no type checker sees them
Row = dict[str, Any]
_SCHEMAS: dict[str, pa.Schema] = {
    "recordings": recordings.SCHEMA,
    "quarantine": recordings.QUARANTINE,
    "reports": report_table.SCHEMA,
    "subjects": persons.SCHEMA,
    "task_rows": task_rows.SCHEMA,
    "pairs": pairs.SCHEMA,
    "shards": shards.INDEX,
}


class Tables:
    """The tables of one data root.

    Raises:
        LineageError: There is no corpus, a table is missing or was written by another version;
            says what to run.
    """

    def __init__(self, data_root: Path):
        self.corpus = layout.Corpus(data_root)
        self._whole: dict[tuple[Path, str], dict[Any, Row]] = {}
        self._checked: set[Path] = set()
        if not self.datasets:
            raise LineageError(
                f"{remote.address(data_root)} holds no corpus: set ACULA_DATA_ROOT, or run "
                "`dagster asset materialize --select '*shards'` first"
            )

    @cached_property
    def manifests(self) -> dict[str, Manifest]:
        return load_all()

    @cached_property
    def datasets(self) -> list[str]:
        """Those of the project that have recordings here."""
        return [d for d in self.manifests if remote.exists(self.corpus.dataset(d).recordings)]

    def dataset(self, recording_id: str) -> str:
        """The dataset that a recording id begins with; empty if it is not here."""
        name = recording_id.partition("/")[0]
        return name if name in self.datasets else ""

    def path(self, table: str, dataset: str = "") -> Path:
        """Where one of the tables lies."""
        if table == "shards":
            return self.corpus.shard_index
        if dataset:
            return getattr(self.corpus.dataset(dataset), table)
        return self.corpus.table(table)

    def exists(self, table: str, dataset: str = "") -> bool:
        return remote.exists(self.path(table, dataset))

    def rows(
        self,
        table: str,
        dataset: str = "",
        where: Mapping[str, str | list[str]] | None = None,
        columns: list[str] | None = None,
    ) -> list[Row]:
        """Rows whose columns have these values (one of these, for a list)."""
        path = self.sure(table, dataset)
        with pq.ParquetFile(path, pre_buffer=False) as file:
            return _matching(file, dict(where or {}), columns).to_pylist()

    def row(self, table: str, dataset: str = "", **equal: str) -> Row | None:
        """The row with this value, or None."""
        ((column, value),) = equal.items()
        if whole := self._whole.get((self.path(table, dataset), column)):
            return whole.get(value)
        if not self.exists(table, dataset):
            return None
        found = self.rows(table, dataset, equal)
        return found[0] if found else None

    def column(self, table: str, column: str, dataset: str = "") -> pa.ChunkedArray:
        """One column of a table."""
        return pq.read_table(self.sure(table, dataset), columns=[column])[column]

    def keep(self, table: str, column: str, dataset: str = "", of: str = "") -> None:
        """Read a table once, for looking up many of its rows by this column.

        Args:
            table: Which.
            column: Its key.
            dataset: Whose table.
            of: Of a table about all datasets: the rows of this one.
        """
        found = self.rows(table, dataset, {"dataset": of} if of else None)
        self._whole[self.path(table, dataset), column] = {r[column]: r for r in found}

    def stamp(self, path: Path) -> Row:
        """What a step recorded about itself; empty if it has not run."""
        remote.need(path)
        return json.loads(path.read_text()) if path.is_file() else {}

    def sure(self, table: str, dataset: str = "") -> Path:
        """The path of a table that is there, readable and of this version."""
        path = self.path(table, dataset)
        if path in self._checked:
            return path
        remote.need(path)
        if not path.is_file():
            raise LineageError(f"{path} is missing: materialise `{table}` again")
        try:
            here = pq.read_schema(path)
        except pa.ArrowInvalid as error:
            raise LineageError(
                f"{path} cannot be read ({error}): materialise `{table}` again"
            ) from error
        if lacking := [n for n in _SCHEMAS[table].names if n not in here.names]:
            raise LineageError(
                f"{path} lacks {', '.join(lacking)}: another version wrote it; materialise "
                f"`{table}` again"
            )
        self._checked.add(path)
        return path


def _matching(
    file: pq.ParquetFile, where: Mapping[str, str | list[str]], columns: list[str] | None
) -> pa.Table:
    """Rows that have all values; groups without them are neither read nor decoded.

    Arrow's own filters would import pandas and decode all columns of each group that may match.
    """
    wanted = {k: [v] if isinstance(v, str) else v for k, v in where.items()}
    if not wanted:
        return file.read(columns)
    names = file.schema_arrow.names
    places = {k: names.index(k) for k in wanted}  # of flat columns, which keys are
    found: list[pa.Table] = []
    for group in range(file.num_row_groups):
        about = file.metadata.row_group(group)
        if not all(_may_hold(about.column(places[k]), v) for k, v in wanted.items()):
            continue
        keys = file.read_row_group(group, list(wanted), use_threads=False)
        masks = [pc.is_in(keys[k], _strings(v).cast(keys[k].type)) for k, v in wanted.items()]
        mask = reduce(pc.and_, masks)
        if pc.any(mask).as_py():
            found.append(file.read_row_group(group, columns, use_threads=False).filter(mask))
    if found:
        return pa.concat_tables(found)
    return file.schema_arrow.empty_table().select(columns or names)


def _strings(values: list[str]) -> pa.StringArray:
    """As ``pa.array(values)``, which would import pandas: half of the time of a trace."""
    encoded = [v.encode() for v in values]
    ends = array("i", accumulate(map(len, encoded), initial=0))
    return pa.StringArray.from_buffers(
        len(values), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))
    )


def _may_hold(column: Any, values: list[str]) -> bool:
    said = column.statistics
    if said is None or not said.has_min_max:
        return True
    return any(said.min <= value <= said.max for value in values)
