"""Person groups, splits and pairs of a corpus of tables alone: seconds and peak memory.

Persons and splits at full size, then these, reports and pairs at a tenth of it. Seventy per cent
ICBHI's layout, the rest CoughVID's; each step runs in a process of its own, whose peak resident
size is told.

    python -m benchmarks.grouping [--rows 1000000] [--data <folder>]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from benchmarks import corpus, rows
from benchmarks.preparation import IDS
from pipeline import settings as configuration
from pipeline.manifest import load_all
from pipeline.steps import pairs, report_table, store, subjects

NAMES = {"subjects": "persons, splits and task rows", "reports": "reports", "pairs": "pairs"}
STEPS, ROUNDS = tuple(NAMES), 5


def step(data: Path, name: str) -> None:
    """Run one step and print its seconds and peak MiB."""
    at = configuration.load(data_root=data, datasets=",".join(IDS))
    known = {d: load_all()[d] for d in IDS}
    start = time.perf_counter()
    if name == "reports":
        for d in IDS:
            report_table.make(known[d], at)
    elif name == "subjects":
        subjects.decide(at, known)
    else:
        pairs.join(at)
    took = time.perf_counter() - start
    # Not getrusage: its peak is inherited from the process that started this one.
    peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    print(took, int(peak) / 1024)  # noqa: T201


def tables(root: Path, count: int) -> None:
    """What the recordings step would leave, without sound."""
    wav = count * 7 // 10
    for dataset, number, made in (
        ("icbhi", wav, corpus._icbhi),
        ("coughvid", count - wav, corpus._coughvid),
    ):
        if not (root / dataset).exists():
            corpus.write_table(root, dataset, made(number))


def _listed(root: Path, count: int) -> None:
    """Reading the list of pairs, beside the release's way: a csv, and `iterrows` of pandas."""
    path, csv = root / "pairs.parquet", root / "pairs.csv"
    columns = ["pair_id", "full_text"]
    pairs_ = store.read_table(path, columns)
    pairs_.to_pandas().to_csv(csv)

    def theirs() -> list[tuple[str, str]]:
        return [(row["pair_id"], row["full_text"]) for _, row in pd.read_csv(csv).iterrows()]

    def ours() -> list[tuple[str, str]]:
        return [(r["pair_id"], r["full_text"]) for r in store.read_rows(path, columns)]

    assert sorted(ours()) == sorted(theirs())
    taken: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        for name, way in (("ours", ours), ("theirs", theirs)):
            start = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - start)
    ratios = [b / a for a, b in zip(taken["ours"], taken["theirs"], strict=True)]
    rate = f"{count / statistics.median(taken['ours']):,.0f}/s"
    rows.add(f"reading the list of {count:,} pairs", rate, "csv and `iterrows`", rows.span(ratios))


def main() -> None:
    """Make the tables, then the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--data", type=Path, help="kept; a temporary folder otherwise")
    parser.add_argument("--step", help="one step in this process")
    asked = parser.parse_args()
    if asked.step:
        step(asked.data, asked.step)
        return
    with tempfile.TemporaryDirectory() as scratch:
        data = asked.data or Path(scratch)
        for count, names in ((asked.rows, ("subjects",)), (asked.rows // 10, STEPS)):
            root = data / str(count)
            tables(root, count)
            for name in names:
                command = [sys.executable, "-m", "benchmarks.grouping", "--data", str(root)]
                done = subprocess.run(
                    [*command, "--step", name], check=True, stdout=subprocess.PIPE, text=True
                )
                seconds, peak = map(float, done.stdout.split()[-2:])
                rows.add(
                    f"{NAMES[name]}, {count:,} rows",
                    f"{seconds:.0f} s, {count / seconds:,.0f}/s, peak {peak:.0f} MiB there",
                    goal="60 s, 1,024 MiB" if count == asked.rows else "5,000/s",
                )
        _listed(root, count)


if __name__ == "__main__":
    main()
