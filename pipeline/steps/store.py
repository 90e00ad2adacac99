"""Files that are either finished or absent, tables, and the stamp by which a step skips itself."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.steps import disk


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


@contextmanager
def finished(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block succeeds.

    Works for a file or a folder that the block creates. On any error the temporary is
    removed, and whatever stood at ``path`` before is untouched. What a killed process left
    behind goes when a later one writes into the same folder.

    Raises:
        CannotWrite: The disk is full or may not be written; says what to do.
    """
    with disk.explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.sweep(path.parent)
        temporary = disk.beside(path)
        disk.remove(temporary)
        try:
            yield temporary
            if temporary.is_dir() and path.exists():
                disk.remove(path)
            temporary.replace(path)
        finally:
            disk.remove(temporary)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, all or nothing."""
    with finished(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")


# Rows that a worker process takes at a time.
ROWS_PER_GROUP = 4096


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> str:
    """Write rows as parquet, all or nothing; returns a hash of the logical content."""
    table = pa.Table.from_pylist(list(rows), schema=schema)
    with finished(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROWS_PER_GROUP)
    return table_version(table)


def table_version(table: pa.Table) -> str:
    """Hash of column names, types and values (not of file bytes)."""
    hasher = hashlib.sha256(table.schema.remove_metadata().serialize().to_pybytes())
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    hasher.update(sink.getvalue())
    return hasher.hexdigest()[:16]


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read one parquet file.

    Raises:
        FileNotFoundError: The step that makes it has not run; says which command does.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: run `dagster asset materialize --select '*train_alignment'` "
            "first, or materialise everything upstream in the Dagster UI"
        )
    return pq.read_table(path, columns=columns)


def cached(
    stamp: Path,
    inputs: Mapping[str, Any],
    outputs: Sequence[Path],
    work: Callable[[], tuple[str, dict[str, Any]]],
) -> Outcome:
    """Run ``work`` unless its stamp says that it has run on the same inputs.

    Args:
        stamp: JSON file beside the output that remembers inputs, version and facts.
        inputs: Everything the output depends on: upstream versions, options, code version.
        outputs: Paths that must still exist for the stamp to count.
        work: Makes the output; returns its version and facts (JSON values).
    """
    key = digest(inputs)
    if stamp.is_file() and all(p.exists() for p in outputs):
        known = json.loads(stamp.read_text())
        if known["key"] == key:
            return Outcome(version=known["version"], skipped=True, facts=known["facts"])
    with disk.explained(stamp.parent):
        stamp.unlink(missing_ok=True)
        version, facts = work()
    outcome = Outcome(version=version, skipped=False, facts=facts)
    write_json(stamp, {"key": key, "inputs": dict(inputs), **asdict(outcome)})
    return outcome


def version_at(stamp: Path) -> str:
    """Version that the stamp of a finished step records."""
    if not stamp.is_file():
        raise FileNotFoundError(
            f"{stamp} is missing: run `dagster asset materialize --select '*train_alignment'` first"
        )
    return json.loads(stamp.read_text())["version"]
