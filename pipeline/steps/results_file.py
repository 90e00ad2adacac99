"""Results -> ``results.json``, the same rows flat in ``results.parquet``, and the schema."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.steps import store
from pipeline.steps.results_schema import Measured, Results, Row

_TEXT = ("task", "title", "dataset", "kind", "unit", "metric", "variant", "protocol", "head")
_NUMBERS = {
    "before": ("value", "low", "high", "sd_over_seeds"),
    "after": ("value", "low", "high", "sd_over_seeds"),
    "difference": ("value", "low", "high", "p", "p_holm", "minimum_detectable"),
    "beyond_shortcut": ("value", "low", "high", "p"),
}
_FLOORS = ("chance", "majority", "identity_lookup", "shortcut", "shuffled")
_COUNTS = ("shared_persons", "aligned_persons", "heard_persons", "near_duplicates")
_NESTED = ("units", "persons", "classes", "class_names", "flags", "details", "subgroups")
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in (*_TEXT, "regime")),
        *(pa.field(f"{n}_{f}", pa.float64()) for n, own in _NUMBERS.items() for f in own),
        *(pa.field(f"floor_{name}", pa.float64()) for name in _FLOORS),
        pa.field("label_leak_full", pa.float64()),
        pa.field("label_leak_strict", pa.float64()),
        *(pa.field(name, pa.int64()) for name in _COUNTS),
        pa.field("pretraining", pa.string()),
        pa.field("mark", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("reason", pa.string()),
        *(pa.field(name, pa.string()) for name in (*_NESTED, "certificate")),  # JSON
    ]
)


def paths(run: Path) -> list[Path]:
    """The three files of a run."""
    return [run / f"results.{ending}" for ending in ("json", "parquet", "schema.json")]


def write(run: Path, results: Results) -> None:
    """Write the three files; nothing in them names a person."""
    values, table, schema = paths(run)
    store.write_json(schema, Results.model_json_schema())
    store.write_table(table, [_flat(row) for row in results.rows], SCHEMA)
    content = results.model_dump(by_alias=True)
    if content["beyond"] is None:
        del content["beyond"]
    store.write_json(values, _plain(content))


def read(run: Path) -> Results:
    """Results of a run.

    Raises:
        FileNotFoundError: Nothing was compared yet; names the command.
    """
    path = paths(run)[0]
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: run `dagster asset materialize --select '*comparison'` first"
        )
    return Results.model_validate_json(path.read_bytes())


def _flat(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(row, name) for name in (*_TEXT, "regime", "reason")}
    for name, fields in _NUMBERS.items():
        own = getattr(row, name)
        found |= {f"{name}_{field}": own and getattr(own, field) for field in fields}
    for name in _FLOORS:
        own = getattr(row.floors, name)
        found[f"floor_{name}"] = own if own is None or isinstance(own, float) else own.value
    leak = row.floors.label_leak
    found |= {f"label_leak_{n}": leak and getattr(leak, n) for n in ("full", "strict")}
    found |= {name: getattr(row.leakage, name) for name in (*_COUNTS, "pretraining")}
    found |= {"mark": row.verdict.mark, "verdict": row.verdict.words}
    values: Mapping[str, Any] = Measured.model_dump(row)
    return found | {n: json.dumps(_plain(values[n])) for n in (*_NESTED, "certificate")}


def _plain(value: Any) -> Any:
    """JSON has no nan."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and value - value != 0 else value
