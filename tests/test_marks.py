"""Marks: nothing of two writers is lost, a torn line costs itself alone, `pairs` obeys."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.records import pair_id
from pipeline.settings import Settings
from pipeline.steps import layout, marks, store


def mark(recording: str, doubtful: bool = True, note: str = "") -> marks.Mark:
    key = pair_id(recording)
    return marks.Mark(pair_id=key, recording_id=recording, doubtful=doubtful, note=note)


def test_writers_at_once_lose_nothing_and_the_last_word_holds(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "marks.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: marks.add(path, mark(f"icbhi/{n}", note="é\n" * n)), range(60)))
    found, broken = marks.read(path)
    assert len(found) == 60 and broken == 0
    assert found[pair_id("icbhi/7")].note == "é\n" * 7
    marks.add(path, mark("icbhi/7", doubtful=False))
    assert len(marks.doubtful(marks.read(path)[0])) == 59


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "marks.jsonl"
    marks.add(path, mark("icbhi/a"))
    with path.open("ab") as file:
        file.write(b'{"pair_id": "x", "doubt')
    marks.add(path, mark("icbhi/b"))
    with path.open("ab") as file:
        file.write(b'[]\n\xff\n{"pair_id": 1, "recording_id": "r", "doubtful": "yes"}\n')
    found, broken = marks.read(path)
    assert set(found) == {pair_id("icbhi/a"), pair_id("icbhi/b")} and broken == 4


def test_pairs_leave_marked_ones_out_when_told(
    materialise: Callable[..., dict[str, store.Outcome]], tiny_settings: Settings
) -> None:
    before = materialise("pairs")["pairs"]
    victim = "icbhi/101_1b1_Tc_sc_Meditron"
    marks.add(marks.place(tiny_settings), mark(victim, note="hum"))
    assert materialise("pairs")["pairs"].skipped  # nobody asked

    told = materialise("pairs", exclude_marks=True)["pairs"]
    assert told.facts["pairs"] == before.facts["pairs"] - 1
    assert told.facts["excluded_by_marks"] == 1
    assert told.facts["excluded_recordings"] == [victim]
    path = layout.Corpus(tiny_settings.data_root).table("pairs")
    assert victim not in store.read_table(path, ["recording_id"])["recording_id"].to_pylist()
    assert materialise("pairs", exclude_marks=True)["pairs"].skipped

    marks.add(marks.place(tiny_settings), mark(victim, doubtful=False))
    again = materialise("pairs", exclude_marks=True)["pairs"]
    assert not again.skipped and again.facts["excluded_by_marks"] == 0
    assert json.dumps(again.facts)
