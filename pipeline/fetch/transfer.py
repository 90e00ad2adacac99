"""Several files at a time, within a limit; the first failure stops those that have not begun."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from threading import Event
from typing import TypeVar

from pipeline.fetch.download import Got, Want, download
from pipeline.fetch.errors import FetchError

T = TypeVar("T")
J = TypeVar("J")


def each(
    work: Callable[[J], T],
    jobs: Sequence[J],
    at_once: int,
    halt: Callable[[], None] = lambda: None,
) -> list[T]:
    """``work`` of every job, in the order of the jobs.

    Args:
        work: What to do.
        jobs: With what.
        at_once: How many at the same time.
        halt: Tells running jobs that their results are not needed any more.

    Raises:
        Exception: The first that a job raised; running jobs end, others never begin.
    """
    if at_once <= 1 or len(jobs) <= 1:
        return [work(job) for job in jobs]
    with ThreadPoolExecutor(at_once) as pool:
        futures: list[Future[T]] = [pool.submit(work, job) for job in jobs]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:  # after an interrupt, too: the pool waits for what is running
            halt()
            for future in futures:
                future.cancel()
        for future in done:
            if error := future.exception():
                raise error
        return [future.result() for future in futures]


def fetch(
    wants: Sequence[Want],
    written: Callable[[int], None],
    at_once: int = 4,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Got]:
    """Download every file; when one fails for good, the others stop where they are.

    Raises:
        FetchError: The first file that no source could give.
    """
    stop = Event()
    first: list[FetchError] = []

    def one(want: Want) -> Got:
        def counted(size: int) -> None:
            written(size)
            _go_on(not stop.is_set(), want)

        try:
            return download(
                want, counted, lambda seconds: _go_on(not stop.wait(seconds), want), tell
            )
        except FetchError as error:
            if not stop.is_set():
                first.append(error)
            stop.set()
            raise

    try:
        return each(one, wants, at_once, stop.set)
    except FetchError as error:
        raise first[0] from error


def _go_on(yes: bool, want: Want) -> None:
    if not yes:
        raise FetchError("cut", want.file.name, "stopped, because another file failed")
