"""Pairs: whom alignment may hear, who is held out, and that a changed recording is followed."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from conftest import TinyIcbhi, tone

from pipeline.records import pair_id
from pipeline.settings import Settings
from pipeline.steps import embeddings, layout, pairs, parts, store

Materialise = Callable[..., dict[str, store.Outcome]]
Row = dict[str, Any]


def table(settings: Settings, name: str) -> list[Row]:
    return store.read_table(layout.Corpus(settings.data_root).table(name)).to_pylist()


def task_row(person: str, fold: str, variant: str = "subject_clean") -> Row:
    return {"task": "icbhi/copd", "variant": variant, "person_id": person, "fold": fold}


def pair(person: str, split: str = "train", align: bool = True) -> Row:
    return {"pair_id": f"pair of {person}", "person_id": person, "split": split, "align": align}


def test_alignment_hears_train_persons_that_no_task_holds_out(
    tiny_archive: TinyIcbhi, materialise: Materialise, tiny_settings: Settings
) -> None:
    """108 is in train by rule, yet the published test list has one of its recordings."""
    for number in range(301, 331):
        tiny_archive.add(f"{number}_1b1_Tc_sc_Meditron", tone(2 * number), "train", "Asthma")
    tiny_archive.save()
    materialise("pairs")
    rows, tasks = table(tiny_settings, "pairs"), table(tiny_settings, "task_rows")
    held = {t["person_id"] for t in tasks if t["fold"] != "train"}
    assert all(r["align"] == (r["split"] == "train" and r["person_id"] not in held) for r in rows)
    of = {r["person_id"].removeprefix("icbhi/"): r for r in rows}
    assert of["108"]["split"] == "train" and not of["108"]["align"]
    assert {of[p]["split"] for p in ("105", "106", "107")} == {"test"}
    assert {r["align"] for r in rows} == {True, False}
    pairs.assert_no_leakage(rows, tasks)

    gauge = embeddings.gauge_pairs(rows, tasks)
    assert gauge and set(gauge) <= {r["pair_id"] for r in rows if r["split"] == "val"}
    tested = {t["person_id"] for t in tasks if t["fold"] == "test"}
    assert not {r["person_id"] for r in rows if r["pair_id"] in gauge} & tested


def test_a_validation_person_that_any_variant_tests_is_no_gauge() -> None:
    rows = [pair("a", "val", align=False), pair("b", "val", align=False), pair("c")]
    tasks = [task_row("a", "val"), task_row("b", "val"), task_row("b", "test", "as_published")]
    assert embeddings.gauge_pairs(rows, tasks) == ["pair of a"]


@pytest.mark.parametrize("variant", ["subject_clean", "as_published"])
@pytest.mark.parametrize("fold", ["val", "test"])
def test_a_leak_is_named(fold: str, variant: str) -> None:
    rows = [pair("ann"), pair("bob"), pair("eve", align=False)]
    tasks = [
        task_row("ann", "train"),
        task_row("bob", "train"),
        task_row("bob", fold, variant),
        task_row("eve", fold, variant),
    ]
    where = f"icbhi/copd {variant} {fold}"
    assert pairs.leaks(rows, tasks) == {"bob": {where}}
    with pytest.raises(pairs.LeakageError, match=rf"^1 persons .*bob in {where}\."):
        pairs.assert_no_leakage(rows, tasks)
    pairs.assert_no_leakage(rows[::2], tasks)


def test_pair_ids_are_fixed_plain_and_unique(
    materialise: Materialise, tiny_settings: Settings
) -> None:
    materialise("pairs")
    rows = table(tiny_settings, "pairs")
    ids = [r["pair_id"] for r in rows]
    assert ids == sorted(set(ids)) and len(ids) == 16
    assert all(re.fullmatch("[0-9a-f]{16}", i) for i in ids)
    assert all(r["pair_id"] == pair_id(r["recording_id"]) for r in rows)
    assert pair_id("icbhi/101_1b1_Al_sc_Meditron") == "bbc54e5bef796a79"  # never to change


def test_a_changed_recording_reaches_its_pair(
    tiny_archive: TinyIcbhi, materialise: Materialise, tiny_settings: Settings
) -> None:
    """Neither persons nor reports change with the sound alone; the pair must all the same."""
    materialise("shards")
    before = {r["recording_id"]: r for r in table(tiny_settings, "pairs")}
    tiny_archive.add("103_1b1_Tc_sc_Meditron", tone(777), "train")
    outcomes = materialise("shards")
    assert outcomes["subjects"].version and not outcomes["pairs"].skipped
    after = {r["recording_id"]: r for r in table(tiny_settings, "pairs")}
    changed = {k for k in after if after[k]["audio_sha256"] != before[k]["audio_sha256"]}
    assert changed == {"icbhi/103_1b1_Tc_sc_Meditron"}
    assert {k: r["pair_id"] for k, r in after.items()} == {
        k: r["pair_id"] for k, r in before.items()
    }
    folder = layout.Dataset(tiny_settings.data_root, "icbhi").parts
    for row in after.values():
        assert parts.read_flac(folder, row["part"], row["offset"], row["size"])[:4] == b"fLaC"


def test_reports_and_recordings_that_do_not_match_are_refused(
    materialise: Materialise, tiny_settings: Settings
) -> None:
    """Somebody has put an older table in its place: a pair without a report is not written."""
    materialise("pairs")
    here = layout.Dataset(tiny_settings.data_root, "icbhi")
    rows = store.read_table(here.reports)
    store.write_table(here.reports, rows.slice(1), rows.schema)
    corpus = layout.Corpus(tiny_settings.data_root)
    corpus.stamp("pairs").unlink()
    with pytest.raises(ValueError, match="1 recordings of icbhi are missing in `icbhi/reports`"):
        pairs.join(tiny_settings)
