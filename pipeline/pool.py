"""Data work on all cores of this computer, in processes that import only what they need."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def cores() -> int:
    """Cores that this process may use (not the number that the computer has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    work: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int | None = None
) -> Iterator[T]:
    """Yield ``work(*job)`` for each job as it finishes (order is not kept).

    An exception in one job cancels the jobs that have not started and is raised here. A
    single job, or ``workers=1``, runs in this process.
    """
    workers = min(workers or cores(), len(jobs))
    if workers <= 1:
        yield from (work(*job) for job in jobs)
        return
    spawn = multiprocessing.get_context("spawn")  # fork is unsafe beside torch's threads
    with _single_threaded(), ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        futures: list[Future[T]] = [pool.submit(work, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
