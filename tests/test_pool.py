"""The pool: cores of a container, results, errors, and workers that are killed."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
from cluster_world import alive, wait_for

from pipeline import pool


def groups(root: Path, files: dict[str, str], own: str) -> tuple[Path, Path]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "own").write_text(own)
    return root, root / "own"


@pytest.mark.parametrize(
    ("files", "own", "granted"),
    [
        ({"cpu.max": "max 100000\n"}, "0::/\n", math.inf),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 4.0),
        ({"a/cpu.max": "800000 100000", "a/b/cpu.max": "200000 100000"}, "0::/a/b", 2.0),
        ({"cpu.max": "200000 100000"}, "0::/not/mounted/here\n", 2.0),
        (
            {"cpu/x/cpu.cfs_quota_us": "300000\n", "cpu/x/cpu.cfs_period_us": "100000\n"},
            "3:memory:/x\n2:cpu,cpuacct:/x\n",
            3.0,
        ),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "2:cpu:/", math.inf),
        ({"cpu.max": "nonsense"}, "0::/\n", math.inf),
        ({}, "", math.inf),
    ],
)
def test_a_containers_limit_counts(
    tmp_path: Path, files: dict[str, str], own: str, granted: float
) -> None:
    assert pool.quota(*groups(tmp_path, files, own)) == granted


def test_at_least_one_core_and_never_more_than_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "quota", lambda: 0.2)
    assert pool.cores() == 1
    monkeypatch.setattr(pool, "quota", lambda: math.inf)
    assert pool.cores() == len(os.sched_getaffinity(0))


def square(number: int) -> int:
    return number * number


def die_once(number: int, mark: str) -> int:
    """The worker that takes number 3 first is killed before it has done it."""
    if number == 3 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def always_die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number: int) -> int:
    if number == 3:
        raise ValueError("number 3")
    return number


def test_results_with_and_without_processes() -> None:
    jobs = [(n,) for n in range(8)]
    for workers in (1, 2):
        assert sorted(pool.run(square, jobs, workers)) == [n * n for n in range(8)]
    assert list(pool.run(square, [], 2)) == []


def test_a_killed_worker_costs_nothing_but_time(tmp_path: Path) -> None:
    mark = str(tmp_path / "killed")
    found = list(pool.run(die_once, [(n, mark) for n in range(8)], 2))
    assert Path(mark).exists()
    assert sorted(found) == [n * n for n in range(8)]  # each once: none lost, none doubled


def test_workers_that_are_killed_again_and_again_end_with_advice() -> None:
    with pytest.raises(pool.WorkerLost, match=r"jobs were left; .*ACULA_WORKERS"):
        list(pool.run(always_die, [(n,) for n in range(6)], 2))


def test_jobs_are_taken_a_few_ahead_of_the_workers() -> None:
    """They may be large: those of a corpus need not fit in memory."""
    taken = list[int]()

    def jobs() -> Iterator[tuple[int]]:
        for number in range(40):
            taken.append(number)
            yield (number,)

    found = list[int]()
    for result in pool.run(square, jobs(), 2):
        found.append(result)
        assert len(taken) <= len(found) + 2 * pool.AHEAD
    assert sorted(found) == [n * n for n in range(40)]


SCRIPT = """
import dagster
from pipeline import pool
from test_pool import loaded
if __name__ == "__main__":
    for found in pool.run(loaded, [(), ()], 2):
        print(*found)
"""


def loaded() -> list[str]:
    return sorted({"dagster", "numpy"} & set(sys.modules)) or ["nothing"]


def test_workers_do_not_import_the_script_of_their_run(tmp_path: Path) -> None:
    """`dagster` would take each half a second and 50 MB."""
    (tmp_path / "script.py").write_text(SCRIPT)
    paths = os.pathsep.join((str(Path(pool.__file__).parents[1]), str(Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.stdout.split() == ["nothing", "nothing"]


RUN = """
from pipeline import pool
from test_pool import linger
if __name__ == "__main__":
    for number in pool.run(linger, [(n,) for n in range(1000)], 2):
        print(number, flush=True)
"""


def linger(number: int) -> int:
    time.sleep(0.2)
    return os.getpid()


def test_workers_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    """Nobody is left to take what they do, nor to tell them to stop."""
    (tmp_path / "run.py").write_text(RUN)
    paths = os.pathsep.join((str(Path(pool.__file__).parents[1]), str(Path(__file__).parent)))
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "run.py")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    ) as run:
        assert run.stdout
        workers: set[int] = set()
        while len(workers) < 2:
            workers.add(int(run.stdout.readline()))
        run.kill()
    wait_for(lambda: not any(map(alive, workers)))


def environment() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in pool._ENVIRONMENT}


def test_pools_that_overlap_have_their_environment_and_leave_none() -> None:
    """As of steps in two threads, of which the first ends first."""
    before = dict(os.environ)
    first, second = pool.started(1), pool.started(1)
    first.__enter__()
    workers = second.__enter__()
    first.__exit__(None, None, None)
    assert workers.submit(environment).result() == pool._ENVIRONMENT
    second.__exit__(None, None, None)
    assert dict(os.environ) == before


def test_workers_begin_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each puts back the environment that it found, which must not be another's."""
    before, seen = dict(os.environ), list[dict[str, str | None]]()

    def slow(_: SpawnProcess) -> None:
        time.sleep(0.02)
        seen.append(environment())

    monkeypatch.setattr(SpawnProcess, "start", slow)
    threads = [threading.Thread(target=pool._Worker().start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [pool._ENVIRONMENT] * 4 and dict(os.environ) == before


def test_an_error_of_a_job_is_raised() -> None:
    with pytest.raises(ValueError, match="number 3"):
        list(pool.run(refuse, [(n,) for n in range(8)], 2))
