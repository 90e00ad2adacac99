"""Rows of a table in another order, piece by piece, as if it had been put in order at once."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.steps import arranged as module
from pipeline.steps.arranged import arranged


def table(count: int) -> pa.Table:
    names = [None if n % 5 == 3 else f"é{n}" * (n % 4) for n in range(count)]
    lists = [[str(k) for k in range(n % 3)] for n in range(count)]
    return pa.table({"n": range(count), "name": names, "list": lists})


@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_pieces_hold_the_rows_in_their_places(
    data: st.DataObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_AT_A_TIME", data.draw(st.integers(1, 12)))
    count = data.draw(st.integers(0, 40))
    kept = data.draw(st.permutations(range(count)))[: data.draw(st.integers(0, count))]
    sizes: list[int] = []
    while (left := len(kept) - sum(sizes)) > 0:
        sizes.append(data.draw(st.integers(1, left)))
    places = np.full(count, -1)
    places[list(kept)] = np.arange(len(kept))
    whole, cut = table(count), data.draw(st.integers(1, 9))
    batches = [whole.slice(at, cut) for at in range(0, count, cut)]

    pieces = list(arranged(batches, places, sizes, tmp_path / "a"))
    assert [len(p) for p in pieces] == sizes
    if pieces:
        assert pa.concat_tables(pieces).to_pylist() == whole.take(list(kept)).to_pylist()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rows", [3, 5])
def test_another_number_of_rows_is_an_error(tmp_path: Path, rows: int) -> None:
    with pytest.raises(ValueError, match=rf"^{rows} rows, but places for 4$"):
        list(arranged([table(rows)], np.arange(4), [4], tmp_path / "a"))
    assert not list(tmp_path.iterdir())
