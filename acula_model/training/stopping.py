"""A run that is told to stop ends after the step it is in, with its state on disk."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def event() -> Iterator[threading.Event]:
    """An event that SIGTERM or the first Ctrl-C sets; the run then ends after the step it is in."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, _: Any) -> None:
        stopped.set()
        signal.signal(number, before[signal.Signals(number)])  # a second one ends it at once

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
