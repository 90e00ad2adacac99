"""A step's Outcome -> what Dagster shows of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from pipeline.steps import columns, remote, store

# Errors whose message already says what to do: retrying or a stack trace would not help.
_KNOWN = (OSError, ValueError)


@contextmanager
def plain_failures() -> Iterator[None]:
    """Turn a step's own errors into a failure with one sentence and no retries."""
    try:
        yield
    except _KNOWN as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def result(
    context: dg.AssetExecutionContext,
    work: Callable[[], store.Outcome],
    uri: Path | None = None,
    rows: str | None = None,
    more: Callable[[], Mapping[str, Any]] | None = None,
    checks: Callable[[dict[str, Any]], Sequence[dg.AssetCheckResult]] | None = None,
) -> dg.MaterializeResult:
    """Run a step and describe it.

    Args:
        context: Of the asset.
        work: The step.
        uri: Where the output lies.
        rows: Name of the fact that is the output's row count.
        more: Makes tables and plots, after the step.
        checks: Facts of the step -> results of the asset's checks.
    """
    with plain_failures():
        outcome = work()
        extra = dict(more()) if more else {}
        found = checks(outcome.facts) if checks else []
    if outcome.skipped:
        context.log.info("inputs unchanged: nothing was computed")
    metadata = extra  # pictures and tables first
    metadata |= {k: _value(v) for k, v in outcome.facts.items() if v is not None and k not in extra}
    metadata["skipped"] = outcome.skipped
    if rows:
        metadata["dagster/row_count"] = outcome.facts[rows]
    if uri:
        metadata["dagster/uri"] = remote.address(uri)
        if uri.suffix == ".parquet":
            metadata["dagster/column_schema"] = _columns(uri)
    return dg.MaterializeResult(
        metadata=metadata, data_version=dg.DataVersion(outcome.version), check_results=found
    )


def _columns(path: Path) -> dg.TableSchema:
    """Columns of a table with what each means."""
    import pyarrow.parquet as pq

    remote.need(path)
    return dg.TableSchema(
        [
            dg.TableColumn(f.name, type=str(f.type), description=columns.DESCRIPTIONS.get(f.name))
            for f in pq.read_schema(path)
        ]
    )


def _value(value: Any) -> Any:
    return dg.MetadataValue.json(value) if isinstance(value, dict | list) else value


def table(rows: list[dict[str, Any]], most: int = 50, letters: int = 500) -> dg.TableMetadataValue:
    """A small table: large ones, and long cells, would bloat the event log.

    Args:
        rows: All with the keys of the first.
        most: Rows that are shown.
        letters: Of a cell, beyond which it is cut.
    """
    clean = [{k: _cell(v, letters) for k, v in r.items()} for r in rows[:most]]
    columns = [dg.TableColumn(name) for name in (clean[0] if clean else ["nothing"])]
    return dg.MetadataValue.table(
        [dg.TableRecord(r) for r in clean], schema=dg.TableSchema(columns=columns)
    )


def _cell(value: Any, letters: int) -> str | int | float | bool:
    if isinstance(value, int | float | bool):
        return value
    text = str(value)
    return text if len(text) <= letters else f"{text[:letters]} ..."
