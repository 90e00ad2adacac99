"""A chain -> the Dagster materialisations on its way, by the event pointers that Dagster stores.

Each materialisation carries the storage id of the very event of each asset it was made of, so the
walk is right even where something upstream has been made again since.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.lineage import Chain, Link, Tables

_POINTER = "dagster/input_event_pointer/"
_LAST = ("train_alignment", "shards", "pairs")


def extended(chain: Chain, dataset: str, tables: Tables) -> Chain:
    """The chain with a link for each materialisation; unchanged where there is no instance."""
    home = os.environ.get("DAGSTER_HOME") or (Path.cwd() if Path("dagster.yaml").is_file() else "")
    if not home:
        return chain
    import dagster as dg

    from pipeline.defs import dead_runs

    try:
        with dead_runs.instance() as instance:
            return chain.extended(links(instance, dataset, tables))
    except dg.DagsterError as error:  # a trace does not need Dagster
        link = Link(name="dagster", title="Dagster", facts={"home": str(home)})
        said = str(error).splitlines()[0]
        return chain.extended([link.judged("recorded", f"its instance cannot be read: {said}")])


def links(instance: Any, dataset: str, tables: Tables) -> Iterator[Link]:
    """Materialisations from the last asset back to the dataset's archive, newest first."""
    import dagster as dg

    last = [*_LAST, f"{dataset}/reports", f"{dataset}/recordings", f"{dataset}/archive"]
    start = (dg.AssetKey(name.split("/")) for name in last)
    known = ((key, instance.get_latest_materialization_event(key)) for key in start)
    first = next((key for key, event in known if event), None)
    wanted: list[tuple[dg.AssetKey, int | None]] = [(first, None)] if first else []
    seen: set[str] = set()
    while wanted:
        key, pointer = wanted.pop(0)
        if key.to_user_string() in seen or not _on_the_way(key, dataset):
            continue
        seen.add(key.to_user_string())
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, storage_ids=[pointer] if pointer else None),
            limit=1,
        ).records
        if not records:
            yield _gone(key, pointer)
            continue
        record = records[0]
        tags = record.asset_materialization.tags or {}
        yield _link(key, record, tags, tables)
        wanted += [
            (dg.AssetKey.from_user_string(name.removeprefix(_POINTER)), int(value))
            for name, value in sorted(tags.items())
            if name.startswith(_POINTER) and value.isdigit()
        ]


def _on_the_way(key: Any, dataset: str) -> bool:
    return len(key.path) == 1 or key.path[0] == dataset


def _gone(key: Any, pointer: int | None) -> Link:
    name = key.to_user_string()
    link = Link(name="dagster", title=f"Dagster: {name}", facts={"event": pointer})
    return link.judged("missing", "its event is no longer in the instance")


def _link(key: Any, record: Any, tags: dict[str, str], tables: Tables) -> Link:
    version = tags.get("dagster/data_version")
    facts = {
        "asset": key.to_user_string(),
        "event": record.storage_id,
        "run": record.run_id,
        "at": datetime.fromtimestamp(record.timestamp, UTC).isoformat(timespec="seconds"),
        "data_version": version,
        "code_version": tags.get("dagster/code_version"),
    }
    link = Link(name="dagster", title=f"Dagster: {facts['asset']}", facts=facts)
    now = tables.stamp(_stamp(key.path, tables)).get("version")
    if now and version and now != version:
        return link.judged("recorded", f"made again since: the files here are version {now}")
    return link.judged("verified") if now else link


def _stamp(path: list[str], tables: Tables) -> Path:
    if len(path) == 2:
        return getattr(tables.corpus.dataset(path[0]), f"{path[1]}_stamp", Path("-"))
    return tables.corpus.stamp(path[0])
