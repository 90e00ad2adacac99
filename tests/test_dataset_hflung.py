"""HF_Lung_V1: the reader on a sample archive, on hand-made traps and on real names; the reports."""

import csv
import re
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import soundfile
import worlds
from plain_persons import tasks_of
from worlds import SHARED, archive_of, bad_sound, digest, needs, recordings_table, write_small

from pipeline.findings import UnknownCode, resolve
from pipeline.manifest import FOLDER, load
from pipeline.readers import hflung as reader
from pipeline.records import Recording, Value
from pipeline.samples import hflung as sample
from pipeline.steps.reports import render

MANIFEST = load(FOLDER / "hflung.yaml")
REAL = SHARED / "real" / "hflung"
NAMES = SHARED / "reference" / "opera_splits" / "datasets" / "hf_lung" / "metadata.csv"
rows = partial(worlds.rows, reader.read)
archive = archive_of(sample.write)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Both folders, each with one recording, of one date."""
    for side, stem in (
        ("train", "steth_20190507_09_37_11"),
        ("test", "trunc_2019-05-07-13-57-26-L1_0"),
    ):
        label(tmp_path, f"{side}/{stem}", "I 00:00:01.500 00:00:02.457\n")
    return tmp_path


def label(root: Path, name: str, text: str) -> Path:
    """An empty wav (readers don't listen) and its label file."""
    path = root / f"{name}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    path.with_name(f"{path.stem}_label.txt").write_text(text)
    return path


def test_sample_archive_is_deterministic(archive: Path, tmp_path: Path):
    assert digest(write_small(sample.write, tmp_path)) == digest(archive)


def test_every_file_is_accounted_for(archive: Path):
    found, refused = rows(archive)
    wavs = {p.stem for p in archive.rglob("*.wav")}
    labels = {p.stem.removesuffix("_label") for p in archive.rglob("*_label.txt")}
    assert {
        r.reason: n.removeprefix("train/").removesuffix(".wav") for n, r in refused.items()
    } == {
        "no_metadata": (wavs - labels).pop(),
        "no_audio_file": (labels - wavs).pop(),
    }
    assert set(found) == wavs & labels
    prefixes = Counter(r.findings["device"] for r in found.values())
    assert prefixes["steth"] > prefixes["trunc"] > 0
    for stem, recording in found.items():
        assert ("location" in recording.findings) == stem.startswith("trunc_")


def test_sound_is_15_s_at_4_khz_or_passed_on_for_quarantine(archive: Path):
    found, _ = rows(archive)
    reasons = bad_sound(archive, found)
    for native_id in found.keys() - reasons.keys():
        info = soundfile.info(archive / found[native_id].member)
        assert (info.frames, info.samplerate, info.subtype) == (60_000, 4000, "PCM_16")
    assert sorted(reasons.values()) == ["empty_file", "header_only"]
    assert 44 in {p.stat().st_size for p in archive.rglob("*.wav")}


def test_a_date_is_one_proxy_whatever_the_prefix_and_on_one_side(archive: Path):
    found, _ = rows(archive)
    sides: dict[str | None, set[str | None]] = {}
    prefixes: dict[str | None, set[Value]] = {}
    for recording in found.values():
        assert recording.person is None
        sides.setdefault(recording.proxy, set()).add(recording.official_split)
        prefixes.setdefault(recording.proxy, set()).add(recording.findings["device"])
    assert len(sides) == 12
    assert all(len(s) == 1 for s in sides.values())
    assert [p for p in prefixes.values() if "trunc" in p] == [{"steth", "trunc"}] * 3


def test_both_classes_are_on_every_side(archive: Path):
    found, _ = rows(archive)
    table = recordings_table("hflung", found)
    tasks = tasks_of(table, {"hflung": MANIFEST}).rows
    seen = {(r["fold"], r["label"]) for r in tasks if r["variant"] == "subject_clean"}
    assert seen == {(fold, label) for fold in ("train", "val", "test") for label in (0, 1)}


def test_channels_and_pieces_of_a_session_are_one_case(tiny: Path):
    session = "train/trunc_2019-05-07-13-57-26"
    for name in (f"{session}-L1_0", f"{session}-L8_17", "train/trunc_2019-05-07-13-57-27-L1_0"):
        label(tiny, name, "")
    label(tiny, "train/steth_20190507_09_37_33", "")
    cases = Counter(r.case_id for r in reader.read(tiny) if isinstance(r, Recording))
    assert cases == {
        "trunc_2019-05-07-13-57-26": 3,
        "trunc_2019-05-07-13-57-27": 1,
        "steth_20190507_09_37_11": 1,
        "steth_20190507_09_37_33": 1,
    }
    assert {r.proxy for r in reader.read(tiny) if isinstance(r, Recording)} == {"20190507"}


def test_intervals_are_counted_in_any_order_and_may_overlap(tiny: Path):
    label(
        tiny, "train/steth_20190507_10_00_00",
        "Wheeze 00:00:09.000 00:00:10.500\nI 00:00:02.848 00:00:03.601\n"
        "D 00:00:02.848 00:00:03.601\nE 00:00:03.595 00:00:04.148\nD 00:00:14.200 00:00:15.310\n",
    )  # fmt: skip
    f = rows(tiny)[0]["steth_20190507_10_00_00"].findings
    assert (f["inhalations"], f["exhalations"]) == (1, 1)
    assert (f["crackles"], f["wheezes"], f["rhonchi"], f["stridors"]) == (2, 1, 0, 0)
    assert f["adventitious"] is True


@pytest.mark.parametrize("token", ["D", "Wheeze", "Rhonchi", "Stridor"])
def test_each_adventitious_token_decides_the_label(tiny: Path, token: str):
    label(tiny, "train/steth_20190507_10_00_00", f"{token} 00:00:01.000 00:00:02.000\n")
    found, _ = rows(tiny)
    assert found["steth_20190507_10_00_00"].findings["adventitious"] is True
    assert found["steth_20190507_09_37_11"].findings["adventitious"] is False


def test_an_empty_label_file_says_that_nothing_was_annotated(tiny: Path):
    label(tiny, "test/steth_20190508_10_00_00", "")
    f = rows(tiny)[0]["steth_20190508_10_00_00"].findings
    assert f["adventitious"] is False and f["inhalations"] == f["crackles"] == 0
    text = render(MANIFEST, "hflung/steth_20190508_10_00_00", f).text
    assert "Neither inhalations nor exhalations were annotated in 15 seconds." in text
    assert "no crackles, wheezes, rhonchi or stridor." in text
    assert "normal" not in text


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("I 00:00:02.000 00:00:01.000", "is no interval"),
        ("I 00:00:15.100 00:00:15.900", "is no interval"),
        ("I 0:01 0:02", "is not a time"),
        ("I\t00:00:01.000", "not enough values"),
    ],
)
def test_an_unreadable_label_file_refuses_its_recording_only(tiny: Path, line: str, detail: str):
    label(tiny, "train/steth_20190507_10_00_00", f"{line}\n")
    found, refused = rows(tiny)
    assert len(found) == 2
    rejected = refused["train/steth_20190507_10_00_00.wav"]
    assert rejected.reason == "bad_metadata" and detail in rejected.detail


def test_unknown_tokens_and_positions_are_passed_on(tiny: Path):
    squawk = label(tiny, "train/steth_20190507_10_00_00", "Squawk 00:00:01.000 00:00:02.000\n")
    place = label(tiny, "train/trunc_2019-05-07-13-57-26-L3_0", "")
    found, _ = rows(tiny)
    with pytest.raises(UnknownCode, match="Squawk"):
        resolve(MANIFEST, found[squawk.stem].findings)
    with pytest.raises(UnknownCode, match="L3"):
        resolve(MANIFEST, found[place.stem].findings)


def test_names_outside_the_grammar_are_refused(tiny: Path):
    for name in ("steth_2019-05-07_09_37_11", "trunc_20190507-13-57-26-L1_0", "._steth"):
        label(tiny, f"train/{name}", "")
    found, refused = rows(tiny)
    assert len(found) == 2
    assert [r.reason for r in refused.values()] == ["bad_name"] * 3


def test_the_folder_that_wraps_a_repository_archive_is_found(tmp_path: Path):
    wrapped = tmp_path / "HF_Lung_V1-2a77d37"
    label(wrapped, "train/steth_20190507_09_37_11", "")
    with pytest.raises(FileNotFoundError, match=r"extract train\.7z\.001 and test\.7z\.001"):
        list(reader.read(tmp_path))
    (wrapped / "test").mkdir()
    found, _ = rows(tmp_path)
    assert found["steth_20190507_09_37_11"].member == (
        "HF_Lung_V1-2a77d37/train/steth_20190507_09_37_11.wav"
    )


@needs(REAL)
def test_real_label_files(tmp_path: Path):
    found, refused = rows(REAL)
    assert not found and [r.reason for r in refused.values()] == ["no_audio_file"] * 3
    for path in REAL.rglob("*_label.txt"):
        name = f"{path.parent.name}/{path.stem.removesuffix('_label')}"
        label(tmp_path, name, path.read_text())
    found, _ = rows(tmp_path)
    counts = {
        stem: tuple(r.findings[n] for n in ("inhalations", "exhalations", "crackles", "rhonchi"))
        for stem, r in found.items()
    }
    assert counts == {
        "steth_20180814_09_37_11": (4, 3, 5, 1),
        "steth_20190801_09_46_05": (6, 0, 6, 0),
        "trunc_2019-05-07-13-57-26-L1_0": (2, 2, 0, 0),
    }


@needs(NAMES)
def test_real_names_of_every_date_and_position(tmp_path: Path):
    with NAMES.open(newline="") as lines:
        # One of each side, prefix, date and position: the same grammar, in a tenth of the time.
        kinds = {(r["split"], re.sub(r"_\d\d_.*|-\d\d-\d\d-\d\d-(?=L)|_\d+$", "", r["filename"])): r
                 for r in csv.DictReader(lines)}  # fmt: skip
    for row in kinds.values():
        label(tmp_path, f"{row['split']}/{row['filename']}", "")
    found, refused = rows(tmp_path)
    assert len(found) == len(kinds) and not refused
    dates = {
        s: {r.proxy for r in found.values() if r.official_split == s} for s in ("train", "test")
    }
    assert (len(dates["train"]), len(dates["test"])) == (118, 39)
    assert not dates["train"] & dates["test"]
    by_prefix = {
        d: {r.proxy for r in found.values() if r.findings["device"] == d}
        for d in ("steth", "trunc")
    }
    assert len(by_prefix["trunc"]) == 14 and by_prefix["trunc"] <= by_prefix["steth"]
    places = {r.findings.get("location") for r in found.values()}
    assert places == {None, "L1", "L2", "L4", "L5", "L6", "L8"}


NONE: dict[str, Value] = {
    "device": "trunc", "location": "L5", "inhalations": 6, "exhalations": 1,
    "crackles": 0, "wheezes": 0, "rhonchi": 0, "stridors": 0, "adventitious": False,
}  # fmt: skip


WHERE = (
    " The device that recorded the lung sounds at position L5 was a multichannel HF-Type-1 "
    "recorder."
)
PHASES = "Six inhalations and one exhalation were marked in the 15 seconds of sound."
NOTHING = "No adventitious lung sounds were annotated: no crackles, wheezes, rhonchi or stridor."


@pytest.mark.parametrize(
    ("changes", "phases", "heard"),
    [
        ({}, PHASES, NOTHING),
        (
            {"crackles": 4, "rhonchi": 1, "stridors": 1, "adventitious": True},
            PHASES,
            "The annotator marked adventitious lung sounds: four intervals with crackles, one "
            "rhonchus and one interval with stridor, but no wheezes.",
        ),
        (
            {"inhalations": 1, "exhalations": 0, "wheezes": 2, "adventitious": True},
            "One inhalation was annotated in 15 seconds, but no exhalations.",
            "The annotator marked adventitious lung sounds: two wheezes, but no crackles, rhonchi "
            "or stridor.",
        ),
        (
            {"inhalations": 0, "exhalations": 0},
            "No inhalations or exhalations were annotated in 15 seconds.",
            NOTHING,
        ),
    ],
)
def test_reports(changes: dict[str, Value], phases: str, heard: str):
    text = render(MANIFEST, "hflung/x", NONE | changes).text
    assert text == f"{phases}{WHERE} {heard}"


def test_a_strict_report_does_not_tell_the_label():
    present: dict[str, Value] = NONE | {"crackles": 3, "wheezes": 1, "adventitious": True}
    texts = {render(MANIFEST, "hflung/x", v, MANIFEST.strict_masks).text for v in (NONE, present)}
    assert texts == {PHASES + WHERE}
