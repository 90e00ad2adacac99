"""Writing shards beside copying the same bytes through a tar, and beside the disk.

The corpus is CoughVID's and ICBHI's load archives, prepared once. Every round packs all pairs anew
by the pipeline's own step, with one process and with two; copies the shards' members through
Python's `tarfile`, one after the other; and reads the parts they come from.

    python -m benchmarks.shards --data <folder> [--pairs 20000] [--rounds 5]
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from benchmarks import corpus, rows
from pipeline import settings as configuration
from pipeline.manifest import load_all
from pipeline.steps import archive, layout, pairs, recordings, report_table, shards, subjects

IDS = ("icbhi", "coughvid")


def prepared(data: Path, count: int, workers: int) -> configuration.Settings:
    """Settings of a corpus with pairs, made if it is not there."""
    raw = data / "raw"
    if not raw.exists():
        corpus.write_icbhi(raw / "icbhi", count * 3 // 4)
        corpus.write_coughvid(raw / "coughvid", count // 4)
    at = configuration.load(
        data_root=data / "root", archives=str(raw), datasets=",".join(IDS), workers=workers
    )
    known = {d: load_all()[d] for d in IDS}
    for d in IDS:
        archive.obtain(known[d], at)
        recordings.prepare(known[d], at, lambda _: None)
        report_table.make(known[d], at)
    subjects.decide(at, known)
    pairs.join(at)
    return at


def packed(data: Path, count: int, workers: int) -> float:
    """Seconds of the step, from no shard at all, in this process."""
    at = prepared(data, count, workers)
    here = layout.Corpus(at.data_root)
    for path in (here.stamp("shards"), here.shard_index):
        path.unlink(missing_ok=True)
    shutil.rmtree(here.shards, ignore_errors=True)
    start = time.perf_counter()
    shards.write(at, {d: load_all()[d] for d in IDS}, lambda _: None)
    return time.perf_counter() - start


def copied(folder: Path, to: Path) -> float:
    """Seconds to read every member of the shards and to write it into another tar."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    start = time.perf_counter()
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as source, tarfile.open(to / path.name, "w") as out:
            for member in source:
                out.addfile(member, source.extractfile(member))
    return time.perf_counter() - start


def fresh(data: Path, count: int, workers: int) -> float:
    """Seconds of the step in a process of its own, as Dagster runs it."""
    command = [sys.executable, "-m", "benchmarks.shards", "--data", str(data)]
    command += ["--pairs", str(count), "--only", str(workers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Paired rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", type=int, help="workers: one run, seconds printed")
    asked = parser.parse_args()
    if asked.only:
        print(packed(asked.data, asked.pairs, asked.only))  # noqa: T201
        return
    folder = layout.Corpus(prepared(asked.data, asked.pairs, 2).data_root).shards
    taken: dict[str, list[float]] = {"one": [], "two": [], "tar": []}
    for _ in range(asked.rounds):
        taken["one"].append(fresh(asked.data, asked.pairs, 1))
        taken["two"].append(fresh(asked.data, asked.pairs, 2))
        taken["tar"].append(copied(folder, asked.data / "copy"))
    size = sum(p.stat().st_size for p in folder.rglob("*.tar"))
    shutil.rmtree(asked.data / "copy")
    for name, said in (("one", "one process"), ("two", "two processes")):
        ratios = [t / o for t, o in zip(taken["tar"], taken[name], strict=True)]
        per_second = statistics.median(asked.pairs / s for s in taken[name])
        rows.add(
            f"writing shards, {said}",
            f"{per_second:,.0f} pairs/s of {size / asked.pairs:,.0f} bytes",
            "copying the same bytes through `tarfile` (one process)",
            rows.span(ratios),
            "0.70",
        )


if __name__ == "__main__":
    main()
