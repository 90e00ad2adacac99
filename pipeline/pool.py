"""Data work on all cores of this computer, in processes that import only what they need.

Or on a Dask cluster, see ``cluster``.
"""

import math
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pipeline import cluster as dask
from pipeline.cluster import Cluster, Job, WorkerLost

T = TypeVar("T")

_GROUPS, _OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
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


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Children read these at start; idle BLAS threads would double the processor time."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {n: os.environ.get(n) for n in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run(
    work: Callable[..., T],
    jobs: Sequence[Job],
    workers: int | None = None,
    cluster: Cluster | None = None,
) -> Iterator[T]:
    """Yield ``work(*job)`` for each job as it finishes (order is not kept).

    An exception in one job cancels the jobs that have not started and is raised here. A
    single job, or ``workers=1``, runs in this process. When a worker is killed, the jobs that it
    leaves unfinished are done again by new ones: a job must write all or nothing.

    Args:
        work: A function of a module.
        jobs: Its arguments.
        workers: Processes on this computer; all cores if not given.
        cluster: Where jobs go instead; paths among the arguments are made absolute.

    Raises:
        WorkerLost: Workers are killed and no job gets done in between.
        ClusterError: As ``cluster.run``.
    """
    workers = min(workers or cores(), len(jobs))
    if cluster and jobs:
        yield from dask.run(work, jobs, workers, cluster)
        return
    if workers <= 1:
        yield from (work(*job) for job in jobs)
        return
    waiting, lost = dict(enumerate(jobs)), 0
    while waiting:
        before = len(waiting)
        for number, result in _attempt(work, waiting, workers):
            del waiting[number]
            yield result
        lost = 1 if len(waiting) < before else lost + 1
        if waiting and lost >= _TRIES:
            raise WorkerLost(
                f"worker processes were killed {lost} times in a row, {len(waiting)} jobs are "
                "left; most likely for want of memory: set ACULA_WORKERS to a smaller number"
            )


def _end_with_parent() -> None:
    """A worker whose run is killed would wait for its next job for ever."""

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)  # a part is written whole or not at all

    threading.Thread(target=watch, daemon=True).start()


def _attempt(
    work: Callable[..., T], waiting: Mapping[int, Job], workers: int
) -> Iterator[tuple[int, T]]:
    """Number and result of the jobs that one pool gets done; a broken pool ends it early."""
    spawn = multiprocessing.get_context("spawn")  # fork is unsafe beside torch's threads
    futures: dict[Future[T], int] = {}
    with (
        _single_threaded(),
        ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent) as pool,
    ):
        try:
            for number, job in waiting.items():
                futures[pool.submit(work, *job)] = number
        except BrokenProcessPool:
            pass  # those that were not submitted wait for the next pool
        try:
            for future in as_completed(futures):
                try:
                    result = future.result()
                except BrokenProcessPool:
                    continue
                yield futures[future], result
        finally:
            for future in futures:
                future.cancel()
