"""The data steps from archives to shards: seconds, rows per second and peak memory of each.

Memory is that of this process and its workers together (proportional set size, so that shared
pages count once), sampled every 50 ms. With ``--archives`` all steps run; without, those that
need no sound, on the tables of ``benchmarks.corpus --tables``.

    python -m benchmarks.preparation --data <data root> --archives <folder>
    python -m benchmarks.preparation --data <data root>
"""

# ruff: noqa: T201
import argparse
import json
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline import settings as configuration
from pipeline.manifest import Manifest, load_all
from pipeline.steps import (
    archive,
    pairs,
    published,
    recordings,
    report_table,
    shards,
    store,
    subjects,
)

IDS = ("icbhi", "coughvid")
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


def measure(
    at: configuration.Settings, with_sound: bool, told: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Seconds, rows and peak MiB of each step that is run, and of all.

    Args:
        at: Where; ICBHI and CoughVID are prepared.
        with_sound: All steps; else those that need no sound.
        told: Gets a line for each.
    """
    known = {d: load_all()[d] for d in IDS}
    steps: list[tuple[str, Callable[[], store.Outcome]]] = []
    for d in IDS:
        if with_sound:
            steps.append((f"{d}/archive", lambda d=d: archive.obtain(known[d], at)))
            steps.append((f"{d}/recordings", lambda d=d: recordings.prepare(known[d], at, _quiet)))
        steps.append((f"{d}/reports", lambda d=d: report_table.make(known[d], at)))
    # Where no network is, a first run waits for the publisher of lists and gives it up.
    steps.append(("published lists", lambda: _lists(known.values(), at)))
    steps += [("subjects", lambda: subjects.decide(at, known)), ("pairs", lambda: pairs.join(at))]
    if with_sound:
        steps.append(("shards", lambda: shards.write(at, known, _quiet)))
    found = {"before": {"mib": _memory(), "seconds": 0.0, "rows": 0}}
    watch = Watch()
    for name, step in steps:
        start = time.perf_counter()
        outcome = step()
        seconds = time.perf_counter() - start
        counts = [outcome.facts.get(k, 0) for k in ("recordings", "reports", "pairs", "files")]
        found[name] = here = {"mib": watch.peak(), "seconds": seconds, "rows": max(counts)}
        told(
            f"{name:20} {here['mib']:8.0f} MiB {seconds:8.2f} s {max(counts) / seconds:9.0f} rows/s"
            f"{'  (unchanged)' if outcome.skipped else ''}"
        )
    del found["published lists"]
    all_ = {"mib": max(s["mib"] for s in found.values()), "rows": found["pairs"]["rows"]}
    found["all"] = all_ | {"seconds": sum(s["seconds"] for s in found.values())}
    told(f"{'all':20} {found['all']['mib']:8.0f} MiB {found['all']['seconds']:8.2f} s")
    return found


def _lists(known: Iterable[Manifest], at: configuration.Settings) -> store.Outcome:
    found = published.at_hand(known, at)
    return store.Outcome(version="", skipped=False, facts={"files": len(found)})


def main() -> None:
    """One line per step, or one JSON value."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--archives", type=Path)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--json", action="store_true", help="for `benchmarks.scale`")
    wanted = parser.parse_args()
    at = configuration.load(
        data_root=wanted.data,
        archives=str(wanted.archives or "sample"),
        datasets=",".join(IDS),
        workers=wanted.workers,
    )
    told = _quiet if wanted.json else lambda line: print(line, flush=True)
    found = measure(at, bool(wanted.archives), told)
    if wanted.json:
        print(json.dumps(found))


def _quiet(_: str) -> None:
    pass


if __name__ == "__main__":
    main()
