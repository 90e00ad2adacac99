"""A Dask scheduler and workers as processes of their own, and jobs that they are given."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
WAIT = 60.0  # s, for processes to come or go beside busy ones


class Processes:
    """Started here, and ended with the block, whatever becomes of it."""

    def __init__(self, folder: Path, code: Path) -> None:
        self._folder, self._all = folder, list[subprocess.Popen[bytes]]()
        self._file = folder / "scheduler.json"
        self.scheduler = self._start(
            "scheduler",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            str(self._file),
            code=code,
        )

    @property
    def address(self) -> str:
        wait_for(lambda: self._file.is_file() and self._file.read_text().endswith("}"))
        return json.loads(self._file.read_text())["address"]

    def worker(self, code: Path = ROOT, threads: int = 1) -> subprocess.Popen[bytes]:
        """One that imports the project from a folder; it is not started again when it is killed."""
        own = ("--no-nanny", "--no-dashboard", "--nthreads", str(threads))
        return self._start(
            "worker", self.address, *own, "--local-directory", str(self._folder), code=code
        )

    def _start(self, kind: str, *options: str, code: Path = ROOT) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options]
        paths = os.pathsep.join(map(str, (code, Path(__file__).parent)))
        with (self._folder / f"{kind}{len(self._all)}.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=code, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": paths}
            )
        self._all.append(process)
        return process

    def end(self) -> None:
        for process in reversed(self._all):
            process.kill()
            process.wait()


@contextmanager
def cluster(folder: Path, workers: int = 0, code: Path = ROOT) -> Iterator[Processes]:
    """A scheduler with so many workers."""
    started = Processes(folder, code)
    try:
        for _ in range(workers):
            started.worker()
        yield started
    finally:
        started.end()


def wait_for(condition) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, f"waited {WAIT} s for {condition}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """A zombie is not: in a container nobody may ask for the status of an orphan."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the second where it ends while it is read
        return False
    return state != "Z"


def square(number: int) -> int:
    return number * number


def refuse(number: int) -> int:
    if number == 3:
        raise ValueError("number 3")
    return number


def die_once(number: int, mark: Path) -> int:
    """The worker that takes number 3 first is killed before it has done it."""
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def write_slowly(path: Path) -> str:
    time.sleep(0.3)
    path.write_text("done")
    return path.name


def who(number: int) -> int:
    time.sleep(0.2)
    return os.getpid()
