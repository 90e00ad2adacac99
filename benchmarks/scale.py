"""The whole preparation at two sizes: time, memory, how flat it is, and a run with nothing to do.

Load archives of four-second recordings, three quarters ICBHI's wav files, the rest CoughVID's WebM,
are prepared from archive to shards, each size in a process of its own with two workers. Then
`dagster asset materialize` runs over the larger corpus, in which everything is up to date but for
Dagster's own steps, and over one of a hundred recordings, which is what the graph costs by itself.

    python -m benchmarks.scale --data <folder> [--sizes 20000 100000]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import corpus, rows
from benchmarks.preparation import IDS, MIB

PROJECT = Path(__file__).parents[1]
DAGSTER = str(Path(sys.executable).parent / "dagster")
TINY = 100
STAGES = {
    "normalising wav": "icbhi/recordings", "normalising WebM": "coughvid/recordings",
    "reports": "icbhi/reports", "persons and splits": "subjects", "pairs": "pairs",
    "shards": "shards",
}  # fmt: skip


def archives(data: Path, count: int) -> Path:
    """Folder of the raw archives."""
    raw = data / f"raw-{count}"
    if not raw.exists():
        corpus.write_icbhi(raw / "icbhi", count * 3 // 4)
        corpus.write_coughvid(raw / "coughvid", count // 4)
    return raw


def prepared(data: Path, count: int) -> dict[str, dict[str, float]]:
    """Seconds and MiB by step of a preparation from nothing."""
    root = data / f"root-{count}"
    shutil.rmtree(root, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.preparation", "--json", "--workers", "2"]
    command += ["--data", str(root), "--archives", str(archives(data, count))]
    before = os.times()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    after, found = os.times(), json.loads(done.stdout.splitlines()[-1])
    took = after.children_user + after.children_system
    found["all"]["processor"] = took - before.children_user - before.children_system
    return found


def unchanged(data: Path, count: int) -> tuple[float, float]:
    """Seconds and peak MiB of the second `dagster asset materialize` up to the shards."""
    home = data / f"home-{count}"
    home.mkdir(exist_ok=True)
    for name in ("dagster.yaml", "pyproject.toml"):
        shutil.copy(PROJECT / name, home)
    setting = {
        "ACULA_DATA_ROOT": str(data / f"root-{count}"),
        "ACULA_ARCHIVES": str(archives(data, count)),
        "ACULA_DATASETS": ",".join(IDS),
        "ACULA_WORKERS": "2",
        "PYTHONPATH": str(PROJECT),
    }
    command = [DAGSTER, "asset", "materialize"]
    command += ["-m", "pipeline.definitions", "--select", "*shards"]
    seconds = mib = 0.0
    for _ in range(2):
        start = time.perf_counter()
        with (home / "log").open("w") as log:
            run = subprocess.Popen(
                command, cwd=home, env=os.environ | setting, stdout=log, stderr=log
            )
            _, status, usage = os.wait4(run.pid, 0)
        if status:
            raise RuntimeError((home / "log").read_text()[-2_000:])
        seconds, mib = time.perf_counter() - start, usage.ru_maxrss / MIB
    return seconds, mib


def main() -> None:
    """Both sizes, then the runs with nothing to do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs=2, default=(20_000, 100_000))
    asked = parser.parse_args()
    small, large = asked.sizes
    found = {size: prepared(asked.data, size) for size in (small, large)}
    for name, step in STAGES.items():
        it, less = found[large][step], found[small][step]
        rate, rate_less = (s["rows"] / s["seconds"] for s in (it, less))
        rows.add(
            f"{name}, {large:,} recordings", f"{rate:,.0f}/s, peak {it['mib']:.0f} MiB",
            f"at {small:,}: {less['mib']:.0f} MiB", f"x{rate / rate_less:.2f}, one run each",
        )  # fmt: skip
    whole, less = found[large]["all"], found[small]["all"]
    hours, hours_less = (s["processor"] / s["rows"] * 1e5 / 3600 for s in (whole, less))
    rows.add(
        "core-hours per 100,000 recordings", f"{hours:.2f}", f"at {small:,}: {hours_less:.2f}",
        f"x{hours / hours_less:.2f}",
    )  # fmt: skip
    rows.add(
        f"archive to shards, {large:,} recordings of 4 s",
        f"{whole['seconds'] / 60:.1f} minutes, peak {whole['mib']:.0f} MiB of all processes",
        f"peak memory at {small:,}: {less['mib']:.0f} MiB",
        f"x{whole['mib'] / less['mib']:.2f}",
        "30 minutes, 3,072 MiB, x1.15",
    )
    prepared(asked.data, TINY)
    (again, mib), (graph, mib_less) = (unchanged(asked.data, n) for n in (large, TINY))
    rows.add(
        f"run with nothing to do, {large:,} recordings", f"{again:.1f} s, {mib:.0f} MiB",
        f"{TINY} recordings: {graph:.1f} s, {mib_less:.0f} MiB", f"{again - graph:+.1f} s", "+60 s",
    )  # fmt: skip


if __name__ == "__main__":
    main()
