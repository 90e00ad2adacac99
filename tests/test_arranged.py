"""Rows of a table in another order, piece by piece, as if it had been put in order at once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.steps import arranged as module
from pipeline.steps import store
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


def test_files_are_few_enough_to_be_open_at_a_time(tmp_path: Path) -> None:
    """Some systems allow a process 256; at one file per 4,096 rows a million needs as many."""
    count = module.FILES * module.ROWS_AT_A_TIME * 2
    most = 0

    def batches() -> Iterator[pa.Table]:
        nonlocal most
        for at in range(0, count, count // 4):
            yield pa.table({"n": range(at, at + count // 4)})
            most = max(most, len(list(tmp_path.glob(".*/*"))))

    size = 1_000
    sizes = [min(size, count - at) for at in range(0, count, size)]
    pieces = arranged(batches(), np.arange(count)[::-1].copy(), sizes, tmp_path / "a")
    assert next(pieces)["n"][0].as_py() == count - 1
    pieces.close()
    assert 1 < most <= module.FILES and not list(tmp_path.iterdir())


@pytest.mark.parametrize("rows", [3, 5])
def test_another_number_of_rows_is_an_error(tmp_path: Path, rows: int) -> None:
    with pytest.raises(ValueError, match=rf"^{rows} rows, but places for 4$"):
        list(arranged([table(rows)], np.arange(4), [4], tmp_path / "a"))
    assert not list(tmp_path.iterdir())


def test_rows_are_those_asked_for_wherever_they_lie(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.parquet", table(2 * store.ROWS_PER_GROUP + 9)
    store.write_table(path, whole, whole.schema)
    rows = whole.select(["n", "name"]).to_pylist()
    assert list(store.read_rows(path, ["n", "name"])) == rows
    few = store.read_rows(path, ["n", "name"], store.one_of("name", ["é1", rows[-2]["name"]]))
    assert list(few) == [rows[1], rows[-2]]
    assert list(store.read_rows(path, ["n", "name"], store.one_of("name", []))) == []
