"""Materialisations that Dagster has stored: out of its SQLite file, or through its instance.

Importing Dagster and opening an instance take two seconds, twice as long as all the rest of a trace
on 200,000 pairs; the file answers in milliseconds. The instance answers for every other storage,
and where the file is not of the form that is known here.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

# Of the index, as Dagster 1.13 has it; what is wiped there is deleted.
_STORED = """
    SELECT id, run_id, event FROM event_logs
    WHERE asset_key = ? AND dagster_event_type = 'ASSET_MATERIALIZATION' AND (? IS NULL OR id = ?)
    ORDER BY id DESC LIMIT 1
"""


@dataclass(frozen=True, kw_only=True)
class Made:
    """One materialisation of an asset."""

    asset: str  # dataset/name, or name
    event: int  # Dagster's storage id
    run: str
    at: float  # seconds since 1970
    tags: dict[str, str]


class Log(Protocol):
    """What Dagster remembers."""

    def made(self, asset: str, event: int | None = None) -> Made | None:
        """A certain materialisation of an asset, or its latest; None if it is not known (any more).

        Args:
            asset: Its key, with slashes.
            event: Storage id.
        """
        ...


class SqliteLog:
    """The index of ``storage: {sqlite: {base_dir: ...}}``, opened for reading only."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def made(self, asset: str, event: int | None = None) -> Made | None:
        """See ``Log``.

        Raises:
            sqlite3.Error: The file is of another form, or damaged.
        """
        key = json.dumps(asset.split("/"))
        row = self._connection.execute(_STORED, (key, event, event)).fetchone()
        if row is None:
            return None
        entry = json.loads(row[2])
        said = entry["dagster_event"]["event_specific_data"]["materialization"]
        tags = said.get("tags") or {}
        return Made(asset=asset, event=row[0], run=row[1], at=entry["timestamp"], tags=tags)


class InstanceLog:
    """Any storage, through Dagster."""

    def __init__(self, instance: Any) -> None:
        self._instance = instance

    def made(self, asset: str, event: int | None = None) -> Made | None:
        """See ``Log``."""
        import dagster as dg

        key = dg.AssetKey(asset.split("/"))
        wanted = dg.AssetRecordsFilter(
            asset_key=key, storage_ids=None if event is None else [event]
        )
        for record in self._instance.fetch_materializations(wanted, limit=1).records:
            tags = dict(record.asset_materialization.tags or {})
            return Made(
                asset=asset,
                event=record.storage_id,
                run=record.run_id,
                at=record.timestamp,
                tags=tags,
            )
        return None


def index(home: Path) -> Path | None:
    """Where the SQLite file is that ``dagster.yaml`` names; None for any other storage."""
    config = home / "dagster.yaml"
    storage = (yaml.safe_load(config.read_text()) if config.is_file() else None) or {}
    base = ((storage.get("storage") or {}).get("sqlite") or {}).get("base_dir")
    return Path(base, "history", "runs", "index.db") if isinstance(base, str) else None


@contextmanager
def in_sqlite(file: Path) -> Iterator[Log]:
    """The log in that file; a run may go on writing to it."""
    uri = f"{file.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        yield SqliteLog(connection)


@contextmanager
def in_instance() -> Iterator[Log]:
    """The log of the instance that the command line and UI use."""
    from pipeline.defs import dead_runs

    with dead_runs.instance() as instance:
        yield InstanceLog(instance)


def home() -> Path | None:
    """Dagster's home: the variable's, or here; None where there is none."""
    if named := os.environ.get("DAGSTER_HOME"):
        return Path(named)
    return Path.cwd() if Path("dagster.yaml").is_file() else None
