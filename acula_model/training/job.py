"""A training run as a file, so that any launcher can start it: this machine, Slurm, Kubernetes.

``python -m acula_model.training job.json`` is one process; ``torchrun ... -m acula_model.training
job.json`` is many, on one node or several. What it needs lies beside the file or is named in it.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acula_model.recipes import Recipe
from acula_model.training.errors import TrainingError

if TYPE_CHECKING:
    from acula_model.training.loop import Result
    from acula_model.training.trackers import TrackerName

JOB, RESULT, ERROR = "job.json", "result.json", "error.txt"
Launch = Callable[[Sequence[str]], None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a run is made of; paths are absolute or start at the working folder.

    Attributes:
        recipe: What to do.
        folder: Gets everything that the run writes.
        shards: WebDataset tars of the pairs.
        mels: Cache of spectra; None reads sounds from the shards as they are needed.
        vectors: Parquet of ``report_hash`` and ``vector``.
        vectors_digest: Of what was written there; other vectors are refused. Empty takes any.
        aligned, gauge, only_heard: Pair ids; see ``loop.Given``.
        about: Kept with the checkpoint.
        teacher: State of a fitted teacher, kept with the checkpoint.
        key: Of everything the run reads.
        device: ``auto``, ``cpu``, ``cuda``.
        workers: Threads that decode, without a cache.
        save_seconds: Between two states within an epoch.
        trackers: Where else numbers go.
        parent: Host and process to end with; a GPU must not be held for a run that is gone.
    """

    recipe: Recipe
    folder: Path
    shards: Path
    mels: Path | None
    vectors: Path
    vectors_digest: str = ""
    aligned: Sequence[str]
    gauge: Sequence[str]
    only_heard: Sequence[str] = ()
    about: dict[str, Any] = field(default_factory=dict[str, Any])
    teacher: Path | None = None
    key: str = ""
    device: str = "auto"
    workers: int = 0
    save_seconds: float = 600.0
    trackers: "Sequence[TrackerName]" = ()
    parent: tuple[str, int] | None = None

    def write(self) -> Path:
        """Write ``job.json`` into the run's folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / JOB
        temporary = path.with_name(f".{JOB}.{os.getpid()}")
        temporary.write_text(json.dumps(asdict(self), default=str) + "\n")
        temporary.replace(path)
        return path

    @classmethod
    def read(cls, path: Path) -> "Job":
        """From ``job.json``.

        Raises:
            TrainingError: It is no job of this version.
        """
        try:
            values = json.loads(path.read_text())
            values["recipe"] = Recipe(**values["recipe"])
            for name in ("folder", "shards", "mels", "vectors", "teacher"):
                values[name] = None if values[name] is None else Path(values[name])
            values["parent"] = values["parent"] and tuple(values["parent"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"{path} is no training job of this version: {error}") from error


def command(path: Path, processes: int = 1) -> list[str]:
    """Command line that runs a job on this machine."""
    if processes == 1:
        return [sys.executable, "-m", "acula_model.training", str(path)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, f"--nproc-per-node={processes}", "-m", "acula_model.training", str(path)]


def devices() -> int:
    """GPUs of this machine, or 1: how many processes train."""
    import torch

    return max(1, torch.cuda.device_count())


def this_process() -> tuple[str, int]:
    """Host and number, for ``Job.parent``."""
    return socket.gethostname(), os.getpid()


def start(arguments: Sequence[str], progress: Callable[[str], None] = print) -> None:
    """Run a command as a child; its lines become lines of progress, its errors stay as they are.

    Raises:
        CalledProcessError: It failed.
    """
    with subprocess.Popen(
        arguments, env=environment(arguments), stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            progress(line.rstrip())
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, arguments)


def environment(arguments: Sequence[str]) -> dict[str, str]:
    """Of the child: the cores shared among its processes, unless the user has said otherwise."""
    threads = max(1, len(os.sched_getaffinity(0)) // _processes(arguments))
    return {"OMP_NUM_THREADS": str(threads), **os.environ}


def run(
    job: Job,
    processes: int = 1,
    launch: Launch | None = None,
    progress: Callable[[str], None] = print,
) -> "Result":
    """Run a job in processes of its own and wait for it.

    Args:
        job: What to run.
        processes: On this machine.
        launch: Runs the command; ``start`` if not given.
        progress: Gets the lines of ``start``.

    Raises:
        TrainingError: It failed; says why in the words of the process that did.
    """
    from acula_model.training.loop import Result

    path = job.write()
    for name in (RESULT, ERROR):
        (job.folder / name).unlink(missing_ok=True)
    try:
        line = command(path, processes)
        launch(line) if launch else start(line, progress)
    except subprocess.CalledProcessError as error:
        raise TrainingError(_reason(job.folder, error.returncode)) from error
    if not (job.folder / RESULT).is_file():
        raise TrainingError(_reason(job.folder, None))
    found = json.loads((job.folder / RESULT).read_text())
    return Result(
        folder=Path(found["folder"]), best_epoch=found["best_epoch"], history=found["history"]
    )


def _processes(arguments: Sequence[str]) -> int:
    named = [a for a in arguments if a.startswith("--nproc-per-node=")]
    return int(named[0].partition("=")[2]) if named else 1


def _reason(folder: Path, code: int | None) -> str:
    if (folder / ERROR).is_file():
        return (folder / ERROR).read_text().strip()
    how = "ended without a result" if code is None else f"ended with code {code}"
    if code is not None and code < 0:
        how = f"was killed by signal {-code} (9 often means: out of memory)"
    return f"the training process {how}; the same command goes on from its last saved state"
