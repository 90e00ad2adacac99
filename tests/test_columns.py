"""Columns: every one of every table is described, and Dagster shows it."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from pipeline.defs import outcome
from pipeline.settings import Settings
from pipeline.steps import (
    columns,
    layout,
    pairs,
    persons,
    recordings,
    report_table,
    shards,
    store,
    task_rows,
)  # fmt: skip

SCHEMAS = {
    "recordings": recordings.SCHEMA, "quarantine": recordings.QUARANTINE,
    "reports": report_table.SCHEMA, "subjects": persons.SCHEMA, "task_rows": task_rows.SCHEMA,
    "task_notes": task_rows.NOTES_SCHEMA, "pairs": pairs.SCHEMA, "shards": shards.INDEX,
}  # fmt: skip


@pytest.mark.parametrize("table", SCHEMAS)
def test_every_column_is_described(table: str) -> None:
    assert [n for n in SCHEMAS[table].names if not columns.DESCRIPTIONS.get(n)] == []


def test_no_description_is_of_a_column_that_is_gone() -> None:
    names = {n for schema in SCHEMAS.values() for n in schema.names}
    assert columns.DESCRIPTIONS.keys() - names == set()


def test_dagster_shows_the_columns_of_a_table(
    materialise: Callable[..., dict[str, store.Outcome]], tiny_settings: Settings
) -> None:
    done = materialise("pairs")["pairs"]
    table = layout.Corpus(tiny_settings.data_root).table("pairs")

    @dg.asset
    def shown(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        return outcome.result(context, lambda: done, uri=Path(table), rows="pairs")

    with dg.DagsterInstance.ephemeral() as instance:
        found = dg.materialize([shown], instance=instance)
    metadata = found.asset_materializations_for_node("shown")[0].metadata
    schema = metadata["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema)
    assert [c.name for c in schema.columns] == pairs.SCHEMA.names
    (align,) = [c for c in schema.columns if c.name == "align"]
    assert align.type == "bool" and "held out by no task" in str(align.description)
    assert metadata["dagster/row_count"].value == done.facts["pairs"]
