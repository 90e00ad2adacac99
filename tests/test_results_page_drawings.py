"""Small drawings of the results page: curves of a score, maps of embeddings."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.steps import (
    page_curves,
    page_map,
)


def test_details_are_drawn_where_they_belong() -> None:
    after = {
        "roc": [[0.0, 0.0], [0.0, 0.5], [0.0, 0.75], [1.0, 1.0]],
        "reliability": [{"confidence": 0.2, "share": 0.0, "units": 5}],
    }
    panel = page_curves.roc({}, after)
    assert panel and panel.after == "M0 100 0 25 100 0" and panel.before == ""
    assert page_curves.roc({}, {}) is None and page_curves.reliability({}, {}) is None
    dots = page_curves.reliability({}, after)
    assert dots and dots.after == "M13.5 93.5h13v13h-13z"
    limits = {"bland_altman": {"bias": 0.0, "low": -1.0, "high": 1.0}}
    drawn = page_curves.agreement(limits, [(n % 7, n % 7 + 0.1) for n in range(1000)])
    assert drawn and drawn.zero == drawn.bias and drawn.high < drawn.bias < drawn.low
    assert drawn.shown == 250 and drawn.points.count("M") == 250


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(1, 5), st.booleans(), st.integers(1, 12))
def test_any_embeddings_make_a_map_or_none(
    count: int, width: int, constant: bool, values: int
) -> None:
    rng = np.random.default_rng(count)
    vectors = {
        f"d/{n}": np.ones(width) if constant else rng.normal(size=width) for n in range(count)
    }
    named = {i: f"v{n % values}" for n, i in enumerate(vectors)}
    drawn = page_map.draw({"before": vectors, "after": vectors}, {"device": named})
    if count < 3:
        assert drawn is None
        return
    assert drawn and drawn.points == count == drawn.of
    assert all(0 <= s <= 1 and s == s for p in drawn.planes for s in p.shares)
    for colouring in drawn.colourings:
        assert sum(g.count for g in colouring.groups) == count
        assert len(colouring.groups) <= page_map.MOST_GROUPS + 1
    places = [int(p) for p in re.findall(r"\d+", drawn.planes[0].background)]
    assert len(places) == 2 * count and all(0 <= p <= page_map.SIDE for p in places)


def test_a_map_shows_the_directions_of_largest_variance() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(500, 6)) * [0.1, 5, 0.1, 2, 0.1, 0.1]
    flat, (first, second) = page_map.principal(table)
    assert abs(np.corrcoef(flat[:, 0], table[:, 1])[0, 1]) > 0.999
    assert abs(np.corrcoef(flat[:, 1], table[:, 3])[0, 1]) > 0.99
    assert first == pytest.approx(25 / 29.04, abs=0.03) and second == pytest.approx(
        4 / 29.04, abs=0.03
    )
    many = {f"d/{n}": row for n, row in enumerate(rng.normal(size=(2500, 3)))}
    drawn = page_map.draw({"before": many, "after": many}, {})
    assert drawn and (drawn.points, drawn.of) == (2000, 2500)
