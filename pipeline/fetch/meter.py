"""How far a long transfer is: bytes, rate and time left, told to whoever watches."""

import threading
import time
from collections import deque
from collections.abc import Callable

from acula_model.counting import spoken


def size(count: float) -> str:
    """Bytes as people write them: ``1.98 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


class Meter:
    """Counts bytes from several threads and shows itself at most every ``interval`` seconds.

    Args:
        name: What is being moved.
        total: All bytes, or None where a server does not say.
        watch: Is called with the meter.
        interval: Seconds between two calls.
    """

    WINDOW = 30.0  # seconds over which the rate is measured

    def __init__(
        self,
        name: str,
        total: int | None,
        watch: Callable[["Meter"], None],
        interval: float = 10.0,
    ) -> None:
        self.name, self.total, self.done = name, total, 0
        self._watch, self._interval = watch, interval
        self._lock = threading.Lock()
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._shown = time.monotonic()

    def add(self, count: int) -> None:
        """Count bytes; negative when something has to be fetched again."""
        now = time.monotonic()
        with self._lock:
            self.done += count
            if now - self._marks[-1][0] > 0.5:
                self._marks.append((now, self.done))
                while now - self._marks[0][0] > self.WINDOW:
                    self._marks.popleft()
            due = now - self._shown >= self._interval
            if due:
                self._shown = now
        if due:
            self._watch(self)

    @property
    def rate(self) -> float:
        """Bytes per second lately."""
        then, count = self._marks[0]
        passed = time.monotonic() - then
        return max(0.0, (self.done - count) / passed) if passed > 0 else 0.0

    @property
    def line(self) -> str:
        """``icbhi: 512 MB of 1.98 GB (26 %), 38 MB/s, 39 s left``."""
        if not self.total:
            return f"{self.name}: {size(self.done)}, {size(self.rate)}/s"
        left = self.total - self.done
        text = f"{self.name}: {size(self.done)} of {size(self.total)} "
        text += f"({100 * self.done / self.total:.0f} %), {size(self.rate)}/s"
        return text + (f", {spoken(left / self.rate)} left" if self.rate > 0 and left > 0 else "")
