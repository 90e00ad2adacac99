"""How long `acula trace` takes on a corpus of 200,000 pairs, imports and Dagster's events included.

Tables are made up at full size (no sound: a trace without --verify reads none), with three runs of
all assets in a Dagster instance; then the command is run in fresh processes: a pair, a recording
id, a person, an unknown id.

    python -m benchmarks.trace [--pairs 200000] [--rounds 5]
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks import rows
from pipeline.records import pair_id
from pipeline.steps import layout, pairs, persons, recordings, report_table, shards, store

DATASET = "circor"
_FILL: dict[pa.DataType, Any] = {
    pa.string(): "x", pa.int64(): 1, pa.float64(): 0.5, pa.bool_(): False,
    pa.list_(pa.string()): ["native id"],
}  # fmt: skip
_TEXT = "The heart sounds are those of a female child. " * 6


def _row(schema: pa.Schema, **values: Any) -> dict[str, Any]:
    return {f.name: values.get(f.name, _FILL[f.type]) for f in schema}


def make(root: Path, count: int) -> None:
    """Tables of ``count`` pairs of one dataset; four recordings per person."""
    corpus, here = layout.Corpus(root), layout.Dataset(root, DATASET)
    sentences = json.dumps([{"text": _TEXT, "findings": ["sex"]}])
    said = {f"{r}_{k}": v for r in ("full", "strict")
            for k, v in (("sentences", sentences), ("text", _TEXT))}  # fmt: skip
    made = [
        said | {
            "recording_id": f"{DATASET}/{n:07d}_AV", "dataset": DATASET, "native_id": f"{n:07d}_AV",
            "pair_id": pair_id(f"{DATASET}/{n:07d}_AV"), "person_id": f"{DATASET}/{n // 4:07d}",
            "findings": '{"sex": "Female"}', "row": '{"Sex": "Female"}', "rewriter": None,
            "shard": f"train/train-{n % 1024:05d}.tar",
        }
        for n in range(count)
    ]  # fmt: skip
    by_pair = sorted(made, key=lambda r: r["pair_id"])
    for path, schema, ordered in (
        (here.recordings, recordings.SCHEMA, made),
        (here.reports, report_table.SCHEMA, made),
        (corpus.table("subjects"), persons.SCHEMA, made),
        (corpus.table("pairs"), pairs.SCHEMA, by_pair),
        (corpus.shard_index, shards.INDEX, sorted(made, key=lambda r: r["shard"])),
    ):
        store.write_table(path, [_row(schema, **r) for r in ordered], schema)


def remember(home: Path) -> None:
    """Three runs of every asset on the way of a pair, in the instance of ``home``."""
    import dagster as dg

    own = [f"{DATASET}/{step}" for step in ("archive", "recordings", "reports")]
    quiet = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
    names = [*own, "subjects", "pairs", "shards", "train_alignment"]
    shutil.copy(Path(__file__).parents[1] / "dagster.yaml", home)
    assets = []
    for number, name in enumerate(names):

        @dg.asset(key=name.split("/"), deps=[dg.AssetKey(n.split("/")) for n in names[:number]])
        def asset() -> dg.MaterializeResult[Any]:
            return dg.MaterializeResult(data_version=dg.DataVersion("made up"))

        assets.append(asset)
    with contextlib.chdir(home), dg.DagsterInstance.from_config(str(home)) as instance:
        for _ in range(3):
            dg.materialize(assets, instance=instance, run_config=quiet)


def seconds(root: Path, what: str) -> float:
    """Wall time of one command in a fresh process."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "from pipeline.cli import main; main()", "trace", what],
        env=os.environ | {"ACULA_DATA_ROOT": str(root), "PYTHONPATH": str(Path.cwd())},
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return time.perf_counter() - began


def main() -> None:
    """Print the median of each question."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, given.pairs)
        remember(root)
        last = f"{DATASET}/{given.pairs - 1:07d}_AV"
        for name, what in {
            "pair id": pair_id(last), "recording id": last, "beginning of a pair id":
            pair_id(last)[:10], "person": f"person:{DATASET}/0000007", "unknown id": f"{last}X",
        }.items():  # fmt: skip
            taken = [seconds(root, what) for _ in range(given.rounds)]
            rows.add(
                f"`acula trace`, {name}, {given.pairs:,} pairs",
                f"{statistics.median(taken):.2f} s, {max(taken):.2f} s at most",
                goal="3 s",
            )


if __name__ == "__main__":
    main()
