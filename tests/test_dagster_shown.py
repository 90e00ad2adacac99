"""What Dagster shows of a dataset: true counts, small pictures, and words that stay words."""

import re
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import dagster as dg
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import definitions
from pipeline.defs import corpus_checks, outcome, recording_checks
from pipeline.explorer.query import Query
from pipeline.settings import Settings
from pipeline.steps import layout, overview, store, thumbnails

LARGEST = 60_000  # bytes of one materialisation in the event log


def materialised(
    settings: Settings, selection: Any
) -> tuple[dg.ExecuteInProcessResult, dict[str, dict[str, Any]]]:
    """What a run did, and the metadata that it left of each asset."""
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize(
            [*(definitions.build(settings).assets or [])],  # pyright: ignore[reportArgumentType]
            selection=selection,
            resources={"pipes_subprocess_client": dg.PipesSubprocessClient()},
            instance=instance,
        )
    return done, {
        e.asset_key.to_user_string(): dict(e.step_materialization_data.materialization.metadata)
        for e in done.get_asset_materialization_events()
        if e.asset_key
    }


def test_the_shown_counts_are_those_of_the_tables(tiny_settings, tiny_archive, monkeypatch):
    tiny_archive.wav("101_1b1_Tc_sc_Meditron").write_bytes(b"")
    done, shown = materialised(tiny_settings, "*pairs")
    for name, metadata in shown.items():
        size = len(dg.serialize_value(metadata))
        assert size < LARGEST, (name, size)
    evaluated = done.get_asset_check_evaluations()
    assert len({e.asset_key for e in evaluated}) == 3  # recordings, reports, pairs
    for check in evaluated:
        assert check.passed and any(_number(v) for v in check.metadata.values()), check.check_name
    corpus = layout.Corpus(tiny_settings.data_root)
    heard = store.read_table(corpus.dataset("icbhi").recordings).to_pylist()
    recordings, pairs = shown["icbhi/recordings"], shown["pairs"]
    assert _rows(recordings["durations"]) == [
        {"seconds": "1 to 2", "recordings": len(heard), "share": "100.0 %"}
    ]
    assert _rows(recordings["native_rates"])[0]["hertz"] == "4,000"
    (refused,) = _rows(recordings["quarantine_by_reason"])
    assert (refused["reason"], refused["count"]) == ("empty_file", 1)
    assert "data:image/png;base64," in recordings["histograms"].value

    for metadata in (recordings, pairs):  # an address that the explorer understands
        told = metadata["explore"].value
        assert "`acula explore`" in told
        query = urlsplit(told[told.index("<") + 1 : -1]).query
        assert Query.parse(dict(parse_qsl(query))).address() == query

    table = store.read_table(corpus.table("pairs")).to_pylist()
    by_split = Counter(r["split"] for r in table)
    (sides,) = _rows(pairs["by_dataset"])
    assert [sides[s] for s in overview.SPLITS] == [by_split[s] for s in overview.SPLITS]
    assert sides["aligned"] == sum(r["align"] for r in table)
    tasks = store.read_table(corpus.table("task_rows")).to_pylist()
    clean = Counter(r["task"] for r in tasks if r["variant"] == "subject_clean")
    counted = Counter()
    for row in _rows(pairs["classes_by_split"]):
        counted[row["task"]] += sum(row[f] for f in overview.SPLITS)
    assert counted == clean

    tested = {r["person_id"] for r in tasks if r["fold"] == "test"}
    text = pairs["example_pairs"].value
    named = [r for r in table if r["pair_id"] in text]
    assert named and not tested & {r["person_id"] for r in named}
    assert text.count("data:image/png;base64,") == len(named)

    # A run with nothing new shows the same and draws nothing; a table made anew is drawn anew.
    monkeypatch.setattr(thumbnails, "image", lambda *_: "drawn now")
    keys = [dg.AssetKey(["icbhi", "recordings"]), dg.AssetKey("pairs")]
    _, again = materialised(tiny_settings, keys)
    for metadata in (recordings, pairs):
        metadata["skipped"] = dg.MetadataValue.bool(True)
    assert again == {"icbhi/recordings": recordings, "pairs": pairs}
    stamp = corpus.stamp("pairs")
    store.write_json(stamp, store.stamped(stamp) | {"version": "another"})
    _, anew = materialised(tiny_settings, keys[1:])
    assert "drawn now" in anew["pairs"]["example_pairs"].value


def _number(value):
    return isinstance(value, dg.IntMetadataValue | dg.FloatMetadataValue)


def test_scores_that_leak_and_scores_that_say_nothing_are_counted():
    leaking = {"icbhi/copd": {"persons": 2}}
    facts = {"rows": 9, "leakage_on_clean_splits": leaking, "bad_on_clean_splits": {}}
    leak, bad = corpus_checks.compared(facts)
    assert not leak.passed and leak.metadata["found"].value == 1 and leak.metadata["scores"].value
    assert bad.passed and bad.metadata["found"].value == 0
    assert {leak.severity, bad.severity} == {dg.AssetCheckSeverity.WARN}


@pytest.mark.parametrize(
    ("usable", "reasons", "passes"),
    [(80, {"silent": 20}, True), (79, {"silent": 21}, False), (9, {"excluded": 99}, True),
     (0, {"no_audio_file": 5}, False)],
)  # fmt: skip
def test_an_archive_of_which_little_is_usable_gives_a_warning(usable, reasons, passes):
    refused = {"quarantined": sum(reasons.values()), "quarantine_by_reason": reasons}
    (found,) = recording_checks.results({"recordings": usable} | refused)
    assert found.passed == passes and found.severity == dg.AssetCheckSeverity.WARN
    shown: list[Any] = [found.metadata[k].value for k in ("usable", "refused", "left_out_by_rule")]
    assert sum(shown) == usable + sum(reasons.values())


def _rows(value):
    return [dict(r.data) for r in value.records]


@given(st.text() | st.text("<>&[]()!`*_#|~\\:/.@wh\n"))
def test_hostile_words_stay_words(text):
    shown = thumbnails.plain(text)
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", shown)  # what is left is not escaped
    assert "\n" not in shown and not set(bare) & set("<>&[]()!`*_#|~\\@")
    assert "://" not in shown and len(shown) <= 2 * (thumbnails.LETTERS + 4)


def test_a_cell_of_ten_megabytes_is_cut():
    value = outcome.table([{"name": "<script>" + "x" * 10_000_000}])
    (row,) = value.records
    assert len(str(row.data["name"])) < 600


def test_rare_rates_are_one_row_and_nothing_is_lost():
    rates = overview.rates(pa.chunked_array([[8000] * 50 + list(range(1, 31))]))
    assert len(rates) == overview.RATES and rates[-1]["hertz"] == "20 others"
    assert sum(r["recordings"] for r in rates) == 80
    lengths = overview.durations(pa.chunked_array([[0.5, 0.99, 1.0, 500.0]]))
    filled = {r["seconds"]: r["recordings"] for r in lengths if r["recordings"]}
    assert filled == {"0.5 to 1": 2, "1 to 2": 1, ">= 120": 1}
    assert overview.durations(pa.chunked_array([pa.array([], pa.float64())])) == []
    assert overview.rates(pa.chunked_array([pa.array([], pa.int64())])) == []
