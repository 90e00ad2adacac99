"""What a run says while it runs: lines, a JSONL file, and trackers that the user has."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from acula_model.training.trackers import Tracker, TrackerName, start

LOG = "log.jsonl"
EVERY = 15.0  # seconds between two lines about steps


class Reporter:
    """Writes to everything at once; silent on all processes but the first."""

    def __init__(
        self,
        folder: Path,
        progress: Callable[[str], None],
        trackers: Sequence[TrackerName] = (),
        settings: Mapping[str, Any] | None = None,
        silent: bool = False,
    ):
        """Open the log for appending: a resumed run goes on in the same file."""
        self._progress = (lambda _: None) if silent else progress
        self._log = None if silent else (folder / LOG).open("a", encoding="utf-8")
        self._trackers: dict[str, Tracker] = {}
        for name in () if silent else trackers:
            self._trackers[name] = start(name, folder, settings or {})
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._log is not None:
            self._log.close()
        for name, tracker in list(self._trackers.items()):
            self._tell(name, lambda: tracker.close(whole=kind is None))  # noqa: B023

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
        named = {f"{kind}/{k}": v for k, v in values.items()}
        for name, tracker in list(self._trackers.items()):
            self._tell(name, lambda: tracker.log(named, step))  # noqa: B023

    def _tell(self, name: str, what: Callable[[], None]) -> None:
        """A server that is gone must not end hours of training: it is said, and told no more."""
        try:
            what()
        except self._trackers[name].failure as error:
            del self._trackers[name]
            self._progress(
                f"tracker {name} failed and gets no more numbers; {LOG} has all: {error}"
            )
