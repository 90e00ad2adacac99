"""Data work on a Dask cluster: one on this computer, or one that a scheduler's address names.

Dask is a client inside a step and the step's jobs are its tasks, so workers need neither Dagster
nor its database. They need what the bytes depend on: this project's code, the same libraries, and
the same folders. Each worker is asked before its first job, also one that joins later.
"""

import hashlib
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Job = tuple[Any, ...]
Versions = tuple[tuple[str, str], ...]

# A scheduler that does not answer by then, and one without workers for so long, end the run.
ANSWER, WORKERS = 15.0, 120.0  # s
# They decode, resample, encode, render and write: other versions may make other bytes.
_LIBRARIES = ("av", "jinja2", "numpy", "pyarrow", "soundfile", "soxr")
IDENTITY = ".data_root_id"


class ClusterError(RuntimeError):
    """There is no cluster, or it is none for this work; says what to do."""


class WorkerLost(ChildProcessError):
    """Worker processes are killed again and again; says what to do."""


@dataclass(frozen=True)
class Cluster:
    """Where jobs go that are not done by this computer's own pool.

    Attributes:
        address: ``tcp://host:port`` of a Dask scheduler, or ``dask`` for one on this computer.
        shared: A folder that all workers must see; jobs read and write below it.
    """

    address: str
    shared: Path


def checked(compute: str) -> str:
    """The setting as it is.

    Raises:
        ValueError: It is none of those that exist, or needs a package that is not here.
    """
    if compute not in ("local", "dask") and not re.fullmatch(r"(tcp|tls)://\S+:\d+", compute):
        raise ValueError(f"{compute!r} is neither `local` nor `dask` nor `tcp://host:port`")
    if compute != "local" and not find_spec("distributed"):
        raise ValueError(f"{compute!r} needs Dask, which is not here: pip install 'acula[dask]'")
    return compute


def run(work: Callable[..., T], jobs: Iterable[Job], workers: int, at: Cluster) -> Iterator[T]:
    """As ``pool.run``, on a cluster.

    Raises:
        ClusterError: There is no scheduler or worker, they were lost, or a worker does not fit.
        WorkerLost: Workers die of one job again and again.
    """
    from distributed import KilledWorker

    shared = at.shared.absolute()
    wanted = (_versions(), shared, _identity(shared))
    coming = iter(jobs)
    with _client(at, workers) as client:
        running: set[Any] = set()
        try:
            while True:
                # A few ahead of the workers: jobs may be large, and the scheduler keeps them.
                room = 2 * max(1, _workers(client, at)) - len(running)
                for job in islice(coming, max(0, room)):  # fewer than none where workers died
                    job = tuple(a.absolute() if isinstance(a, Path) else a for a in job)
                    running.add(client.submit(_perform, wanted, work, job, pure=False))
                if not running:
                    return
                for future in _finished(client, running, at):
                    running.discard(future)
                    yield future.result()
        except KilledWorker as error:
            raise WorkerLost(
                f"{error.allowed_failures + 1} workers were killed at one job one after the other, "
                "most likely for want of memory: give each more, or start fewer on a computer"
            ) from error
        except RuntimeError as error:
            if "deserialization of the task graph" not in str(error):
                raise
            raise ClusterError(
                f"the Dask scheduler at {at.address} cannot load this project ({error.__cause__}): "
                "start it where the same version is installed as here"
            ) from error
        except CancelledError as error:
            raise _ended(at) from error
        finally:
            # Of a scheduler that is gone, while what that meant is already on its way up.
            with suppress(OSError, TimeoutError, CancelledError, RuntimeError):
                client.cancel(list(running))


def _finished(client: Any, running: set[Any], at: Cluster) -> set[Any]:
    from distributed import wait

    while True:
        try:
            with client.as_current():
                found: Any = wait(running, timeout=WORKERS, return_when="FIRST_COMPLETED")
                return found.done
        except TimeoutError:
            if not _workers(client, at):
                raise _nobody(at) from None


@contextmanager
def _client(at: Cluster, workers: int) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    if at.address == "dask":
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,  # a worker that is killed is told by what follows
            ) as here,
            Client(here, set_as_default=False) as client,
        ):
            yield client
        return
    try:
        client = Client(at.address, timeout=ANSWER, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {at.address}: start one (`dask scheduler`), correct "
            "ACULA_COMPUTE, or set it to local"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS)
        except TimeoutError:
            raise _nobody(at) from None
        yield client


def _workers(client: Any, at: Cluster) -> int:
    try:
        return len(client.nthreads())
    except OSError as error:
        raise _ended(at) from error


def _ended(at: Cluster) -> ClusterError:
    return ClusterError(
        f"the Dask scheduler of ACULA_COMPUTE={at.address} has ended. Start it again, or set "
        "ACULA_COMPUTE=local, and run the same command: what is finished is kept"
    )


def _nobody(at: Cluster) -> ClusterError:
    return ClusterError(
        f"the Dask scheduler of ACULA_COMPUTE={at.address} has had no worker for {WORKERS:.0f} s: "
        f"start some where this project is installed (`dask worker {at.address} --nthreads 1`) "
        "and run the same command again"
    )


def _perform(wanted: tuple[Versions, Path, str], work: Callable[..., T], job: Job) -> T:
    """One job; runs on a worker."""
    _fits(*wanted)
    return work(*job)


@cache  # a worker that fits is asked once
def _fits(wanted: Versions, shared: Path, identity: str) -> None:
    from distributed import get_worker

    worker = get_worker()
    here = dict(_versions())
    other = [f"{n} {here[n]} instead of {v}" for n, v in wanted if here[n] != v]
    if other:
        raise ClusterError(
            f"the worker {worker.address} runs {', '.join(other)}: install there what is installed "
            "here, and start it again"
        )
    if worker.state.nthreads != 1:
        raise ClusterError(
            f"the worker {worker.address} does {worker.state.nthreads} jobs at a time in one "
            "process: start it with --nthreads 1, and more workers instead (--nworkers)"
        )
    if _read(shared) != identity:
        raise ClusterError(
            f"the worker {worker.address} does not see {shared}: several computers need a data "
            "root on a file system that all of them mount under one path (ACULA_DATA_ROOT)"
        )


@cache
def _versions() -> Versions:
    """Of what makes the bytes: this project's sources by their hash, and libraries."""
    import acula_model
    import pipeline

    roots = [Path(str(package.__file__)).parent for package in (pipeline, acula_model)]
    sources = [p.read_bytes() for root in roots for p in sorted(root.rglob("*.py"))]
    found = {"acula": hashlib.sha256(b"\0".join(sources)).hexdigest()[:12]}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return tuple(found.items())


def _identity(folder: Path) -> str:
    """What a data root is known by on every computer that sees it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (known := _read(folder)):
        mine = folder / f"{IDENTITY}.{secrets.token_hex(8)}"
        mine.write_text(secrets.token_hex(16))
        with suppress(FileExistsError):  # another run was first
            os.link(mine, folder / IDENTITY)
        mine.unlink()
        known = _read(folder)
    return known


def _read(folder: Path) -> str:
    path = folder / IDENTITY
    return path.read_text() if path.is_file() else ""
