"""Files that are either finished or absent, tables, and the stamp by which a step skips itself."""

import ctypes
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.steps import disk, remote
from pipeline.steps.disk import finished as finished


class HasSource(Protocol):
    """A module."""

    @property
    def __file__(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a step did: the version of its output, whether it was already there, and counts."""

    version: str
    skipped: bool
    facts: dict[str, Any]


def digest(value: Any) -> str:
    """16 hex digits of the sha256 of a JSON value; key order does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_version(*modules: HasSource) -> str:
    """Hash of the source of modules: editing them makes what they produced stale."""
    sources = [Path(str(m.__file__)).read_bytes() for m in modules]
    return hashlib.sha256(b"\0".join(sources)).hexdigest()[:16]


def package_version(package: HasSource, *modules: HasSource, without: Sequence[str] = ()) -> str:
    """Hash of all sources of a package, and of further modules.

    Args:
        package: Its folder.
        modules: Further ones.
        without: Files of the package that do not count, or folders (with a slash at the end).
    """
    root = Path(str(package.__file__)).parent
    found = sorted(p for p in root.rglob("*.py"))
    sources = [p for p in found if not _among(p.relative_to(root).as_posix(), without)]
    digests = [hashlib.sha256(p.read_bytes()).hexdigest() for p in sources]
    return digest([digests, code_version(*modules)])


def _among(path: str, names: Sequence[str]) -> bool:
    return any(path.startswith(n) if n.endswith("/") else path == n for n in names)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, all or nothing."""
    with finished(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")


# Rows that a worker process takes at a time.
ROWS_PER_GROUP = 4096


def write_table(path: Path, rows: pa.Table | Sequence[Mapping[str, Any]], schema: pa.Schema) -> str:
    """Write rows as parquet, all or nothing; returns a hash of the logical content."""
    table: Any = rows
    if not isinstance(rows, pa.Table):
        table = pa.Table.from_pylist(list(rows), schema=schema)
    table = table.select(schema.names).cast(schema)
    with finished(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROWS_PER_GROUP)
    return table_version(table)


def write_pieces(path: Path, pieces: Iterable[pa.Table], schema: pa.Schema) -> str:
    """As ``write_table`` of a table that comes in pieces of whole row groups, but for the last."""
    versions = list[str]()
    with (
        finished(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for piece in pieces:
            piece = piece.select(schema.names).cast(schema)
            writer.write_table(piece, row_group_size=ROWS_PER_GROUP)
            versions.append(table_version(piece))
    return digest(versions)


def table_version(table: pa.Table) -> str:
    """Hash of column names, types and values (not of file bytes)."""
    hasher = _Hasher(hashlib.sha256(table.schema.remove_metadata().serialize().to_pybytes()))
    table = table.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(pa.PythonFile(hasher, "w"), table.schema) as writer:
        writer.write_table(table)
    return hasher.digest.hexdigest()[:16]


class _Hasher(io.RawIOBase):
    """A file that keeps a hash of what is written."""

    def __init__(self, digest: "hashlib._Hash") -> None:
        self.digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return len(data)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read one parquet file.

    Raises:
        FileNotFoundError: The step that makes it has not run; says which command does.
        StoreError: The data root is a URL, and the file cannot be had from there.
    """
    # Several threads are no faster here, and leave a quarter more memory behind.
    return pq.read_table(_there(path), columns=columns, use_threads=False, pre_buffer=False)


def read_batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Read one parquet file piece by piece, a few thousand rows each.

    Raises:
        FileNotFoundError: As ``read_table``.
    """
    with pq.ParquetFile(_there(path), pre_buffer=False) as file:
        yield from file.iter_batches(ROWS_PER_GROUP, columns=columns, use_threads=False)


def read_rows(
    path: Path, columns: list[str], where: pc.Expression | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of one parquet file, a few thousand of them in memory at a time.

    Args:
        path: The file.
        columns: Those of a row.
        where: What of these columns a row must fulfil; others never become Python objects.

    Raises:
        FileNotFoundError: As ``read_table``.
    """
    for batch in read_batches(path, columns):
        table = pa.Table.from_batches([batch])
        yield from (table if where is None else table.filter(where)).to_pylist()


def one_of(column: str, values: Iterable[str]) -> pc.Expression:
    """For ``read_rows``: which rows have one of these strings in a column; of none, none has."""
    return pc.field(column).isin(pa.array(list(values), pa.string()))  # else [] has no type


def _there(path: Path) -> Path:
    remote.need(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: run `dagster asset materialize --select '*train_alignment'` "
            "first, or materialise everything upstream in the Dagster UI"
        )
    return path


def cached(
    stamp: Path,
    inputs: Mapping[str, Any],
    outputs: Sequence[Path],
    work: Callable[[], tuple[str, dict[str, Any]]],
    *,
    stored: Sequence[Path] | None = None,
    elsewhere: bool = True,
    say: Callable[[str], None] | None = None,
) -> Outcome:
    """Run ``work`` unless its stamp says that it has run on the same inputs.

    Args:
        stamp: JSON file beside the output that remembers inputs, version and facts.
        inputs: Everything the output depends on: upstream versions, options, code version.
        outputs: Paths that must still exist for the stamp to count.
        work: Makes the output; returns its version and facts (JSON values).
        stored: Files and folders that belong into the store of a data root that is a URL; the
            step stays on this computer if not given.
        elsewhere: Whether it is enough that the store has them.
        say: Hears how far sending is.
    """
    key = digest(inputs)
    home = remote.of(stamp) if stored is not None else None
    if home:
        home.adopt(stamp, key)
    if stamp.is_file():
        known = json.loads(stamp.read_text())
        sent = home is not None and home.has(stamp, key)
        here = all(p.exists() for p in outputs)
        if not sent:  # the folder of a store may hold a part of what the stamp names
            here = here and all((stamp.parent / n).exists() for n in known.get("files", ()))
        if known["key"] == key and (here or (sent and elsewhere)):
            if home and not sent:
                write_json(stamp, home.send(stamp, known, stored or (), say, whole=True))
            return Outcome(version=known["version"], skipped=True, facts=known["facts"])
    with disk.explained(stamp.parent):
        stamp.unlink(missing_ok=True)
        version, facts = work()
    _give_back()
    outcome = Outcome(version=version, skipped=False, facts=facts)
    said = {"key": key, "inputs": dict(inputs), **asdict(outcome)}
    write_json(stamp, said)
    if home:
        write_json(stamp, home.send(stamp, said, stored or (), say, whole=False))
    return outcome


def _give_back() -> None:
    """Memory that is free but kept: else each step begins on top of what the last one took."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)  # glibc has it, musl has not


def stamped(stamp: Path) -> dict[str, Any]:
    """What the stamp of a finished step records: version, facts and inputs."""
    remote.need(stamp)
    if not stamp.is_file():
        raise FileNotFoundError(
            f"{stamp} is missing: run `dagster asset materialize --select '*train_alignment'` first"
        )
    return json.loads(stamp.read_text())


def version_at(stamp: Path) -> str:
    """Version that the stamp of a finished step records."""
    return stamped(stamp)["version"]
