"""Processor time in a unit that says the same of a slow, a fast and a busy computer."""

import subprocess
import sys
import time
from collections.abc import Callable

SQUARES = "sum(n * n for n in range(1_000_000))"  # the unit, in plain Python; 0.04 s in 2026
CHILD = f"""
import sys
from time import thread_time as now
begun = now()
{{}}
took, begun = now() - begun, now()
{SQUARES}
print(took / (now() - begun), *sys.modules)
"""


def cost(work: Callable[[], object], times: int = 3) -> float:
    """Of a piece of work, in units; the least of several times."""

    def seconds(work: Callable[[], object]) -> float:
        begun = time.thread_time()
        work()
        return time.thread_time() - begun

    return min(seconds(work) / seconds(lambda: eval(SQUARES)) for _ in range(times))


def imported(statement: str) -> tuple[float, set[str]]:
    """What importing costs in an interpreter of its own, in units; and all modules it has then."""
    command = [sys.executable, "-c", CHILD.format(statement)]
    found = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(3)
    ]
    return min(float(took) for took, *_ in found), set(found[0][1:])
