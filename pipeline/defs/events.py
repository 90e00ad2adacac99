"""A chain -> the Dagster materialisations on its way, by the event pointers that Dagster stores.

Each materialisation carries the storage id of the very event of each asset it was made of, so the
walk is right even where something upstream has been made again since.
"""

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pipeline.defs import event_log
from pipeline.lineage import Chain, Link, Tables

_POINTER = "dagster/input_event_pointer/"
_LAST = ("train_alignment", "shards", "pairs")


def extended(chain: Chain, dataset: str, tables: Tables) -> Chain:
    """The chain with a link for each materialisation; unchanged where there is no instance."""
    home = event_log.home()
    if home is None:
        return chain
    if file := event_log.index(home):
        if not file.is_file():
            return chain  # nothing has been materialised
        try:
            with event_log.in_sqlite(file) as log:
                return chain.extended(links(log, dataset, tables))
        except (sqlite3.Error, LookupError, json.JSONDecodeError):
            pass  # not of the form known to us: Dagster knows its own
    import dagster as dg
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with event_log.in_instance() as log:
            return chain.extended(links(log, dataset, tables))
    except (dg.DagsterError, SQLAlchemyError) as error:  # a trace does not need Dagster
        link = Link(name="dagster", title="Dagster", facts={"home": str(home)})
        said = str(error).splitlines()[0]
        return chain.extended([link.judged("recorded", f"its instance cannot be read: {said}")])


def links(log: event_log.Log, dataset: str, tables: Tables) -> Iterator[Link]:
    """Materialisations from the last asset back to the dataset's archive, newest first."""
    last = [*_LAST, f"{dataset}/reports", f"{dataset}/recordings", f"{dataset}/archive"]
    first = next((name for name in last if log.made(name)), None)
    wanted: list[tuple[str, int | None]] = [(first, None)] if first else []
    seen: set[str] = set()
    while wanted:
        name, pointer = wanted.pop(0)
        if name in seen or not _on_the_way(name, dataset):
            continue
        seen.add(name)
        made = log.made(name, pointer)
        if made is None:
            yield _gone(name, pointer)
            continue
        yield _link(made, tables)
        wanted += [
            (key.removeprefix(_POINTER), int(value))
            for key, value in sorted(made.tags.items())
            if key.startswith(_POINTER) and value.isdigit()
        ]


def _on_the_way(name: str, dataset: str) -> bool:
    return "/" not in name or name.startswith(f"{dataset}/")


def _gone(name: str, pointer: int | None) -> Link:
    link = Link(name="dagster", title=f"Dagster: {name}", facts={"event": pointer})
    return link.judged("missing", "its event is no longer in the instance")


def _link(made: event_log.Made, tables: Tables) -> Link:
    version = made.tags.get("dagster/data_version")
    facts = {
        "asset": made.asset,
        "event": made.event,
        "run": made.run,
        "at": datetime.fromtimestamp(made.at, UTC).isoformat(timespec="seconds"),
        "data_version": version,
        "code_version": made.tags.get("dagster/code_version"),
    }
    link = Link(name="dagster", title=f"Dagster: {made.asset}", facts=facts)
    now = tables.stamp(_stamp(made.asset.split("/"), tables)).get("version")
    if now and version and now != version:
        return link.judged("recorded", f"made again since: the files here are version {now}")
    return link.judged("verified") if now else link


def _stamp(path: list[str], tables: Tables) -> Path:
    if len(path) == 2:
        return getattr(tables.corpus.dataset(path[0]), f"{path[1]}_stamp", Path("-"))
    return tables.corpus.stamp(path[0])
