"""What everything waits for: imports, worker processes, Dagster around steps with nothing to do.

python -m benchmarks.startup --data <folder>
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import rows, scale
from benchmarks.preparation import IDS, MIB
from pipeline import pool
from pipeline.steps import part_audio

ROUNDS = 5
# archive, recordings and reports of each dataset; persons, pairs, shards
STEPS = 3 * len(IDS) + 3


def main() -> None:
    """A line each; medians of five rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    bare = _median(lambda: _python("pass"))
    for module, goal in (("pipeline.definitions", "1.5 s"), ("pipeline.cli", "")):
        took = _median(lambda module=module: _python(f"import {module}")) - bare
        rows.add(f"`import {module}`", f"{took:.2f} s", goal=goal)
    (data / "parts").mkdir(parents=True, exist_ok=True)
    measured = [_workers(data) for _ in range(ROUNDS)]
    seconds, mib = (statistics.median(column) for column in zip(*measured, strict=True))
    rows.add(
        "start of two workers up to their first part", f"{seconds:.2f} s, {mib:.0f} MiB each",
        goal="0.5 s, 80 MiB",
    )  # fmt: skip
    scale.prepared(data, scale.TINY)
    command = _median(lambda: subprocess.run([scale.DAGSTER, "--version"], capture_output=True))
    took = statistics.median(scale.unchanged(data, scale.TINY)[0] for _ in range(3))
    each = f"{(took - command) / STEPS:.2f} s each"
    name, beside = (
        f"run of {STEPS} assets with nothing to do",
        f"`dagster --version`: {command:.1f} s",
    )
    rows.add(name, f"{took:.1f} s", beside, each, "2 s each")


def _median(what: Callable[[], object]) -> float:
    taken: list[float] = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        what()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, cwd=scale.PROJECT)


def _workers(data: Path) -> tuple[float, float]:
    """Seconds until both have done an empty part, and MiB of each then."""
    jobs = [(data, data / "parts", "icbhi", f"empty{n}", []) for n in range(2)]
    start, took, mib = time.perf_counter(), 0.0, list[float]()
    for _ in pool.run(part_audio.make, jobs, 2):
        took = time.perf_counter() - start
        mib = [_pss(pid) for pid in _children() if "spawn_main" in _command(pid)]
    return took, max(mib)


def _children() -> list[str]:
    found = Path("/proc/self/task").glob("*/children")
    return [pid for file in found for pid in file.read_text().split()]


def _command(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def _pss(pid: str) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:") / MIB


if __name__ == "__main__":
    main()
