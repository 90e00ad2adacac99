"""What a run says while it runs: lines, a JSONL file, and trackers that the user has."""

import importlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

from acula_model.training.errors import TrainingError

LOG = "log.jsonl"
EVERY = 15.0  # seconds between two lines about steps
Tracker = Literal["mlflow", "wandb"]


def known(names: Sequence[str]) -> list[Tracker]:
    """Names that are trackers.

    Raises:
        TrainingError: One is not; lists those that are.
    """
    if wrong := [n for n in names if n not in get_args(Tracker)]:
        raise TrainingError(f"no tracker {wrong[0]!r}; known: {', '.join(get_args(Tracker))}")
    return [cast("Tracker", n) for n in names]


class Sink(Protocol):
    """Takes numbers of one step."""

    def __call__(self, values: Mapping[str, float], step: int) -> None: ...


class Reporter:
    """Writes to everything at once; silent on all processes but the first."""

    def __init__(
        self,
        folder: Path,
        progress: Callable[[str], None],
        trackers: Sequence[Tracker] = (),
        settings: Mapping[str, Any] | None = None,
        silent: bool = False,
    ):
        """Open the log for appending: a resumed run goes on in the same file."""
        self._progress = (lambda _: None) if silent else progress
        self._log = None if silent else (folder / LOG).open("a", encoding="utf-8")
        self._sinks = (
            [] if silent else [_TRACKERS[t](folder, dict(settings or {})) for t in trackers]
        )
        self._told = time.monotonic()

    def say(self, line: str) -> None:
        """A line for people."""
        self._progress(line)

    def step(self, values: Mapping[str, float], step: int, line: Callable[[], str]) -> None:
        """Numbers of a step; a line now and then."""
        self._write("step", values, step)
        if time.monotonic() - self._told > EVERY:
            self._told = time.monotonic()
            self._progress(line())

    def epoch(self, values: Mapping[str, float], step: int, line: str) -> None:
        """Numbers of an epoch, and its line."""
        self._write("epoch", values, step)
        if self._log is not None:
            self._log.flush()
        self._progress(line)

    def _write(self, kind: str, values: Mapping[str, float], step: int) -> None:
        if self._log is not None:
            entry = {"kind": kind, "time": round(time.time(), 3), "step": step, **values}
            self._log.write(json.dumps(entry) + "\n")
        for sink in self._sinks:
            sink({f"{kind}/{k}": v for k, v in values.items()}, step)


def _client(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise TrainingError(
            f"tracker {name} is asked for and not installed: pip install {name}"
        ) from error


def _mlflow(folder: Path, settings: dict[str, Any]) -> Sink:
    client = _client("mlflow")
    client.set_experiment("acula")
    client.start_run(run_name=folder.name)
    client.log_params({k: str(v)[:500] for k, v in settings.items()})
    return lambda values, step: client.log_metrics(dict(values), step=step)


def _wandb(folder: Path, settings: dict[str, Any]) -> Sink:
    # The folder's name is the run's id: a resumed run continues its curves.
    run = _client("wandb").init(
        project="acula", name=folder.name, id=folder.name, resume="allow", config=settings,
        dir=str(folder),
    )  # fmt: skip
    return lambda values, step: run.log(dict(values), step=step)


_TRACKERS: dict[str, Callable[[Path, dict[str, Any]], Sink]] = {"mlflow": _mlflow, "wandb": _wandb}
