"""Progress: few lines, true counts, a time left that comes true at a steady rate."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acula_model.counting import Counted, spoken


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.floats(0.01, 30))
@example([31, 7, 9, 42, 29, 34, 36, 47, 38, 45], 0.9)
def test_lines_are_few_and_true(pieces: list[int], seconds: float) -> None:
    now = [0.0]
    lines: list[tuple[float, str]] = []
    counted = Counted(
        lambda line: lines.append((now[0], line)),
        "sounds: {} read",
        sum(pieces),
        10,
        lambda: now[0],
    )
    for piece in pieces:
        now[0] += seconds * piece  # a steady rate
        counted.add(piece)
    assert lines[-1][1] == f"sounds: {sum(pieces)} of {sum(pieces)} read in {spoken(now[0])}"
    assert len(lines) <= now[0] / 10 + 1
    for at, line in lines[:-1]:
        found = re.fullmatch(r"sounds: (\d+) of \d+ read, ([\d.e+-]+) a second, (.+) left", line)
        assert found
        assert int(found[1]) * seconds == pytest.approx(at)
        assert float(found[2]) == pytest.approx(1 / seconds, rel=0.01)
        left = now[0] - at  # in the middle between two seconds the last bit decides
        assert found[3] in (spoken(left - 1e-6), spoken(left + 1e-6))


def test_times_are_said_as_people_say_them() -> None:
    said = {0.4: "0 s", 59: "59 s", 61: "1 min", 3599: "59 min", 12_000: "3 h 20 min"}
    assert {s: spoken(s) for s in said} == said
