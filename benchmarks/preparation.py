"""The data steps from archives to shards: seconds, rows per second and peak memory of each.

Memory is that of this process and its workers together (proportional set size, so that shared
pages count once), sampled every 50 ms. With ``--archives`` all steps run; without, those that
need no sound, on the tables of ``benchmarks.corpus --tables``.

    python -m benchmarks.preparation --data <data root> --archives <folder>
    python -m benchmarks.preparation --data <data root>
"""

import argparse
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pipeline import settings as configuration
from pipeline.manifest import load_all
from pipeline.steps import archive, pairs, recordings, report_table, shards, store, subjects

MIB = 2**10  # of KiB, in which Linux counts


def _tree() -> list[Path]:
    """This process and all below it."""
    found = [Path("/proc/self")]
    for process in found:
        for file in process.glob("task/*/children"):
            found += [Path(f"/proc/{pid}") for pid in file.read_text().split()]
    return found


def _memory() -> float:
    """MiB."""
    total = 0
    for process in _tree():
        try:
            text = (process / "smaps_rollup").read_text()
        except OSError:  # it ended meanwhile
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:")
    return total / MIB


class Watch:
    """Peak memory since the last question."""

    def __init__(self) -> None:
        self._peak = 0.0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            self._peak = max(self._peak, _memory())
            time.sleep(0.05)

    def peak(self) -> float:
        """MiB; starts anew."""
        peak, self._peak = max(self._peak, _memory()), 0.0
        return peak


def main() -> None:
    """One line per step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--archives", type=Path)
    parser.add_argument("--workers", type=int)
    wanted = parser.parse_args()
    ids = ("icbhi", "coughvid")
    at = configuration.load(
        data_root=wanted.data,
        archives=str(wanted.archives or "sample"),
        datasets=",".join(ids),
        workers=wanted.workers,
    )
    known = {d: load_all()[d] for d in ids}
    steps: list[tuple[str, Callable[[], store.Outcome]]] = []
    for d in ids:
        if wanted.archives:
            steps.append((f"{d}/archive", lambda d=d: archive.obtain(known[d], at)))
            steps.append((f"{d}/recordings", lambda d=d: recordings.prepare(known[d], at, _quiet)))
        steps.append((f"{d}/reports", lambda d=d: report_table.make(known[d], at)))
    steps += [("subjects", lambda: subjects.decide(at, known)), ("pairs", lambda: pairs.join(at))]
    if wanted.archives:
        steps.append(("shards", lambda: shards.write(at, known, _quiet)))
    watch, peaks, begun = Watch(), [watch_start := _memory()], time.perf_counter()
    print(f"{'before':20} {watch_start:8.0f} MiB")  # noqa: T201
    for name, step in steps:
        start = time.perf_counter()
        outcome = step()
        seconds = time.perf_counter() - start
        peaks.append(watch.peak())
        counts = [outcome.facts.get(k, 0) for k in ("recordings", "reports", "pairs", "files")]
        rows = max(counts)
        print(  # noqa: T201
            f"{name:20} {peaks[-1]:8.0f} MiB {seconds:8.2f} s {rows / seconds:9.0f} rows/s"
            f"{'  (unchanged)' if outcome.skipped else ''}",
            flush=True,
        )
    print(f"{'all':20} {max(peaks):8.0f} MiB {time.perf_counter() - begun:8.2f} s")  # noqa: T201


def _quiet(_: str) -> None:
    pass


if __name__ == "__main__":
    main()
