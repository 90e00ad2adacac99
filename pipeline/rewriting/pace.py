"""A limit on requests per minute that all threads of a rewriter share."""

import threading
import time
from collections.abc import Callable


class Pace:
    """Requests evenly apart, and none while a server wants to be left alone.

    Args:
        per_minute: The limit.
        clock: Seconds from any beginning.
        sleep: Waits that long, or is told to stop and raises.
    """

    def __init__(
        self,
        per_minute: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._apart, self._clock, self._sleep = 60.0 / per_minute, clock, sleep
        self._next = self._held = clock()
        self._turn = threading.Lock()

    def take(self) -> None:
        """Return when the next request may go out."""
        with self._turn:  # who waits for the lock comes after who waits for the clock
            while (left := max(self._next, self._held) - self._clock()) > 0:
                self._sleep(left)
            self._next = self._clock() + self._apart

    def hold(self, seconds: float) -> None:
        """Let no request out for that long, as a Retry-After asks."""
        self._held = max(self._held, self._clock() + seconds)
