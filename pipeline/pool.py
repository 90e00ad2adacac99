"""Data work on all cores of this computer, in processes that import only what they need.

Or on a Dask cluster, see ``cluster``.
"""

import math
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pipeline import cluster as dask
from pipeline.cluster import Cluster, Job, WorkerLost

T = TypeVar("T")

_GROUPS, _OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
AHEAD = 3  # jobs for each worker, so that none waits for the next
_TRIES = 3  # pools that may break one after the other with no job finished in between


def cores() -> int:
    """Cores that this process may use: of its affinity, and of a container's limit."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, quota())))


def quota(groups: Path = _GROUPS, own: Path = _OWN_GROUP) -> float:
    """Cores that the control groups grant (cgroup v2 or v1); infinite where there is no limit.

    Args:
        groups: Where the groups are mounted.
        own: The file that names the group of this process.
    """
    granted = math.inf
    for line in own.read_text().splitlines() if own.is_file() else ():
        _, kinds, path = line.split(":", 2)
        root = groups if not kinds else groups / "cpu"
        if kinds and "cpu" not in kinds.split(","):
            continue
        group = root / path.lstrip("/")
        # A limit may stand on any group above; inside a container the own one is the mount.
        for folder in {root, group, *group.parents} - set(root.parents):
            granted = min(granted, _granted(folder))
    return granted


def _granted(folder: Path) -> float:
    try:
        if (folder / "cpu.max").is_file():
            limit, period = (folder / "cpu.max").read_text().split()
        elif (folder / "cpu.cfs_quota_us").is_file():
            limit = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        else:
            return math.inf
        return math.inf if limit in ("max", "-1") else int(limit) / int(period)
    except (OSError, ValueError):  # not readable, or of a form that no kernel here writes
        return math.inf


# Children read these at start. Idle BLAS threads would double the processor time. And glibc would
# give the memory of every sound back and take it anew: up to a fifth of the time of normalising.
# 32 MiB is the most that older versions take as what is asked of the kernel piece by piece.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # bytes
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}


# Steps may run in threads, and there is one environment and one main module. Reentrant, since
# submitting, with the main module hidden, starts workers.
_STARTING = threading.RLock()


class _Worker(SpawnProcess):
    """Begins with ``_ENVIRONMENT``, which this process has only while it starts one."""

    def start(self) -> None:
        """Begin, alone."""
        with _STARTING:
            before = {n: os.environ.get(n) for n in _ENVIRONMENT}
            os.environ.update(_ENVIRONMENT)
            try:
                super().start()
            finally:
                for name, value in before.items():
                    if value is None:
                        del os.environ[name]
                    else:
                        os.environ[name] = value


class _Workers(SpawnContext):
    """Fork is unsafe beside torch's threads."""

    Process = _Worker


@contextmanager
def started(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that jobs are done by; each begins with the first job that it is there for."""
    with ProcessPoolExecutor(workers, mp_context=_Workers(), initializer=_end_with_parent) as pool:
        yield pool


@contextmanager
def _without_main(work: Callable[..., Any]) -> Iterator[None]:
    """Children import the script of their parent, and `dagster` takes half a second and 50 MB."""
    if work.__module__ == "__main__":
        yield
        return
    with _STARTING:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def run(
    work: Callable[..., T],
    jobs: Iterable[Job],
    workers: int | None = None,
    cluster: Cluster | None = None,
) -> Iterator[T]:
    """Yield ``work(*job)`` for each job as it finishes (order is not kept).

    An exception in one job cancels the jobs that have not started and is raised here. A
    single job, or ``workers=1``, runs in this process. When a worker is killed, the jobs that it
    leaves unfinished are done again by new ones: a job must write all or nothing.

    Args:
        work: A function of a module.
        jobs: Its arguments; taken as they are needed.
        workers: Processes on this computer; all cores if not given.
        cluster: Where jobs go instead; paths among the arguments are made absolute.

    Raises:
        WorkerLost: Workers are killed and no job gets done in between.
        ClusterError: As ``cluster.run``.
    """
    jobs = iter(jobs)
    first = list(islice(jobs, workers or cores()))  # a few jobs need no more workers
    workers, jobs = len(first), chain(first, jobs)
    if cluster and workers:
        yield from dask.run(work, jobs, workers, cluster)
        return
    if workers <= 1:
        yield from (work(*job) for job in jobs)
        return
    coming, waiting, lost = enumerate(jobs), dict[int, Job](), 0
    while True:
        got = 0
        for number, result in _attempt(work, waiting, coming, workers):
            del waiting[number]
            got += 1
            yield result
        if not waiting:
            return
        lost = 1 if got else lost + 1
        if lost >= _TRIES:
            raise WorkerLost(
                f"worker processes were killed {lost} times in a row while jobs were left; most "
                "likely for want of memory: set ACULA_WORKERS to a smaller number"
            )


def _end_with_parent() -> None:
    """A worker whose run is killed would wait for its next job for ever."""

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)  # a part is written whole or not at all

    threading.Thread(target=watch, daemon=True).start()


def _attempt(
    work: Callable[..., T],
    waiting: dict[int, Job],
    coming: Iterator[tuple[int, Job]],
    workers: int,
) -> Iterator[tuple[int, T]]:
    """Number and result of the jobs that one pool gets done; a broken pool ends it early.

    Args:
        work: A function of a module.
        waiting: Jobs that an earlier pool left; gets those that this one begins.
        coming: All others; taken a few ahead of the workers, as jobs may be large.
        workers: Processes.
    """
    futures: dict[Future[T], int] = {}
    again = iter(list(waiting.items()))
    with started(workers) as pool:
        try:
            while True:
                for number, job in islice(chain(again, coming), AHEAD * workers - len(futures)):
                    waiting[number] = job
                    with _without_main(work):  # submitting starts workers
                        futures[pool.submit(work, *job)] = number
                if not futures:
                    return
                done = wait(futures, return_when=FIRST_COMPLETED).done
                for future in sorted(done, key=lambda f: f.exception() is not None):
                    yield futures.pop(future), future.result()
        except BrokenProcessPool:
            return  # what was not done waits for the next pool
        finally:
            for future in futures:
                future.cancel()
