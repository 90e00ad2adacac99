"""How far long work is: a line now and then, with rate and time left, and one at the end."""

import time
from collections.abc import Callable

INTERVAL = 10.0  # s between two lines


class Counted:
    """Counts what is done of a known number of things.

    Args:
        say: Gets the lines.
        what: Is counted, with who counts it: ``icbhi: {} recordings normalised``; the braces are
            filled with ``512 of 920``.
        total: How many there are.
        interval: Seconds between two lines.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        what: str,
        total: int,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._say, self._what, self._total, self._interval = say, what, total, interval
        self._clock, self.done = clock, 0
        self._begun = self._said = clock()

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count
        now = self._clock()
        if self.done < self._total and now - self._said < self._interval:
            return
        self._said = now
        line = self._what.format(f"{self.done} of {self._total}")
        took = now - self._begun
        if self.done >= self._total:
            self._say(f"{line} in {spoken(took)}")
        else:
            left = took / self.done * (self._total - self.done)
            self._say(f"{line}, {self.done / took:.3g} a second, {spoken(left)} left")


def spoken(seconds: float) -> str:
    """As people say it: ``40 s``, ``12 min``, ``3 h 20 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{rest} s"
