"""Lines of the one table that `python -m benchmarks` makes: what was timed, beside what, the ratio.

A benchmark prints its line and, when it runs as a part of the whole, leaves it for the table.
"""

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "BENCHMARK_ROWS"  # variable with the file that takes the lines


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line; ``beside`` is what the ratio is of."""

    stage: str
    rate: str
    beside: str
    ratio: str
    goal: str = ""


def add(stage: str, rate: str, beside: str = "", ratio: str = "", goal: str = "") -> None:
    """Print a line and keep it for the table."""
    row = Row(stage=stage, rate=rate, beside=beside, ratio=ratio, goal=goal)
    print(" | ".join(v for v in asdict(row).values() if v), flush=True)  # noqa: T201
    if place := os.environ.get(FILE):
        with Path(place).open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def span(ratios: Sequence[float]) -> str:
    """Median and range of paired rounds."""
    return f"x{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
