"""Person groups, splits and pairs of a corpus of tables alone: seconds and peak memory.

Seventy per cent ICBHI's layout, the rest CoughVID's; each step runs in a process of its own, whose
peak resident size is told.

    python -m benchmarks.grouping [--rows 1000000] [--data <folder>]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import corpus, rows
from benchmarks.preparation import IDS
from pipeline import settings as configuration
from pipeline.manifest import load_all
from pipeline.steps import pairs, report_table, subjects


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
        for dataset, count, made in (
            ("icbhi", asked.rows * 7 // 10, corpus._icbhi),
            ("coughvid", asked.rows - asked.rows * 7 // 10, corpus._coughvid),
        ):
            if not (data / dataset).exists():
                corpus.write_table(data, dataset, made(count))
        goals = {"subjects": "60 s, 1,024 MiB", "reports": "5,000/s", "pairs": "5,000/s"}
        for name in ("subjects", "reports", "pairs"):
            command = [sys.executable, "-m", "benchmarks.grouping", "--data", str(data)]
            done = subprocess.run(
                [*command, "--step", name], check=True, stdout=subprocess.PIPE, text=True
            )
            seconds, peak = map(float, done.stdout.split()[-2:])
            rows.add(
                f"{name}, {asked.rows:,} rows",
                f"{seconds:.0f} s, {asked.rows / seconds:,.0f}/s, peak {peak:.0f} MiB there",
                goal=goals[name],
            )


if __name__ == "__main__":
    main()
