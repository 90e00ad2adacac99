"""Whole Dagster runs killed at random points, with the pool and with Dask: does the next mend all?

Each round kills a run (its process alone, or with its workers) when the data root has a random
number of files; every third round works on a local Dask cluster. After the rounds a run must leave
the files that an undisturbed one leaves, byte for byte.

    python -m benchmarks.kills --rounds 20
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from benchmarks import corpus
from pipeline.cluster import IDENTITY

RECORDINGS = 300  # three parts


def content(root: Path) -> dict[str, str]:
    """Every file; of a stamp only the version, since the facts count what this run had to do."""

    def said(path: Path) -> bytes:
        stamp = path.suffix == ".json" and path.parent.name in ("icbhi", root.name)
        return json.loads(path.read_text())["version"].encode() if stamp else path.read_bytes()

    files = (p for p in sorted(root.rglob("*")) if p.is_file() and p.name != IDENTITY)
    return {p.relative_to(root).as_posix(): sha256(said(p)).hexdigest() for p in files}


def files_below(root: Path) -> int:
    """How many, also while folders vanish, where ``rglob`` of Python 3.11 raises."""
    return sum(len(files) for _, _, files in os.walk(root))


class Runs:
    """Runs of Dagster from archive to shards, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "home").mkdir()
        (folder / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        corpus.write_icbhi(folder / "archives" / "icbhi", RECORDINGS)

    def start(self, data: Path, compute: str = "local") -> subprocess.Popen[bytes]:
        """One run, in a process group of its own."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ACULA_", "DAGSTER_"))}
        given = {
            "ACULA_DATA_ROOT": data, "ACULA_ARCHIVES": self._folder / "archives",
            "ACULA_DATASETS": "icbhi", "ACULA_WORKERS": 2, "ACULA_COMPUTE": compute,
            "DAGSTER_HOME": self._folder / "home",
        }  # fmt: skip
        command = [str(Path(sys.executable).with_name("dagster")), "asset", "materialize"]
        with (self._folder / "runs.log").open("ab") as log:
            return subprocess.Popen(
                [*command, "-m", "pipeline.definitions", "--select", "*shards"],
                cwd=self._folder,
                env=clean | {k: str(v) for k, v in given.items()},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def finish(self, data: Path) -> None:
        """One run that nobody disturbs."""
        if code := self.start(data).wait():
            log = (self._folder / "runs.log").read_text(errors="replace")
            raise RuntimeError(f"the run ended with {code}:\n{log[-3000:]}")

    def kill(self, data: Path, compute: str, files: int, workers: bool) -> bool:
        """Kill a run when the data root has so many files; False if it was done before."""
        run = self.start(data, compute)
        try:
            while run.poll() is None and files_below(data) < files:
                time.sleep(0.005)
            killed = run.poll() is None
            if killed and workers:
                os.killpg(run.pid, signal.SIGKILL)
            return killed
        finally:
            run.kill()
            run.wait()


def rounds(folder: Path, count: int, seed: int, say: Callable[[str], None]) -> None:
    """Kill ``count`` runs and compare.

    Raises:
        AssertionError: A file is another one than without the kills; names it.
    """
    draw, runs = random.Random(seed), Runs(folder)
    undisturbed, disturbed = folder / "undisturbed", folder / "disturbed"
    runs.finish(undisturbed)
    wanted = content(undisturbed)
    done = 0
    while done < count:
        compute, workers = ("local", "dask")[done % 3 == 2], draw.random() < 0.5
        there = files_below(disturbed)
        # No more than what can still come, so that each run is killed at something.
        files = draw.randint(min(there + 1, len(wanted)), len(wanted))
        killed = runs.kill(disturbed, compute, files, workers)
        say(f"{compute:5} {'killed' if killed else 'done'} at {files} of {len(wanted)} files")
        done += killed
        if not killed:
            compare(disturbed, wanted)
            for path in (disturbed / "icbhi" / "parts").iterdir():
                path.unlink()
            (disturbed / "icbhi" / "recordings.json").unlink()
    runs.finish(disturbed)
    compare(disturbed, wanted)


def compare(root: Path, wanted: dict[str, str]) -> None:
    """Nothing lost, nothing doubled, no other byte and nothing left over."""
    found = content(root)
    names = sorted(n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n))
    assert not names, f"not as without kills: {', '.join(names[:10])}"


def main() -> None:
    """Print one line per kill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    wanted = parser.parse_args()
    print(f"seed {wanted.seed}")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        rounds(Path(folder), wanted.rounds, wanted.seed, print)
    print(f"{wanted.rounds} runs killed; tables and shards as without")  # noqa: T201


if __name__ == "__main__":
    main()
