"""ZCHSound: the reader on a sample archive, on hand-made traps and on real rows; the reports."""

import re
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import pytest
import worlds
from worlds import SHARED, archive_of, needs, texts

from pipeline.findings import resolve
from pipeline.manifest import FOLDER, load
from pipeline.readers import zchsound as reader
from pipeline.records import Value
from pipeline.samples import zchsound as sample
from pipeline.steps import audio
from pipeline.steps.reports import render

MANIFEST = load(FOLDER / "zchsound.yaml")
REAL = SHARED / "real" / "zchsound"
needs_real = needs(REAL)
HEADER = "fileName;gender;age(days);diagnosis"
CLEAN = "Clean Heartsound Data Details.csv"
rows = partial(worlds.rows, reader.read)
archive = archive_of(sample.write)


def test_sample_archive_is_deterministic(archive: Path, tmp_path: Path):
    sample.write(tmp_path, seed=1, scale=0.1)
    names = {p.relative_to(archive) for p in archive.rglob("*") if p.is_file()}
    assert names == {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    assert all((archive / n).read_bytes() == (tmp_path / n).read_bytes() for n in names)


def test_sample_counts_and_what_does_not_match(archive: Path):
    found, refused = rows(archive)
    assert len(found) == 38
    assert Counter(r.reason for r in refused.values()) == {"no_audio_file": 1, "no_metadata": 1}
    # The noise table begins with a byte order mark and has CRLF.
    assert Counter(r.findings["recording_set"] for r in found.values()) == {"clean": 29, "noise": 9}
    for recording in found.values():
        folder = {"clean": "clean Heartsound Data", "noise": "Noise Heartsound Data Details"}
        assert folder[str(recording.findings["recording_set"])] in recording.member
        assert (archive / recording.member).is_file()
        assert recording.person == recording.case_id == recording.native_id


def test_ids_follow_the_classes_and_no_report_shows_them(archive: Path):
    found, _ = rows(archive)
    clean = [r for _, r in sorted(found.items()) if r.findings["recording_set"] == "clean"]
    order = list(dict.fromkeys(r.findings["diagnosis"] for r in clean))
    assert order == ["NORMAL", "ASD", "PDA", "PFO", "VSD"]
    for key, recording in found.items():
        text = render(MANIFEST, f"zchsound/{key}", recording.findings).text
        assert "ZCH" not in text and key[3:] not in text


def test_noisy_recordings_are_of_newborns(archive: Path):
    found, _ = rows(archive)
    noisy = [r for r in found.values() if r.findings["recording_set"] == "noise"]
    assert all(int(str(r.findings["age_days"])) <= 5 for r in noisy)
    assert sum("age_days" not in r.findings for r in found.values()) == 1


def test_equal_and_broken_sound_is_passed_on(archive: Path):
    found, _ = rows(archive)
    equal: dict[str, list[Value]] = defaultdict(list)
    reasons: list[str] = []
    rates: set[int] = set()
    for recording in found.values():
        try:
            heard = audio.normalise(archive / recording.member)
        except audio.BadAudio as error:
            reasons.append(error.reason)
        else:
            rates.add(heard.native_rate)
            equal[heard.raw_sha256].append(recording.findings["diagnosis"])
    assert sorted(reasons) == ["header_only", "too_short"]
    assert rates == {8000}
    pairs = sorted(tuple(v) for v in equal.values() if len(v) > 1)
    assert pairs == [("ASD", "VSD"), ("NORMAL", "NORMAL"), ("NORMAL", "NORMAL")]


def test_a_chunk_before_the_samples_is_no_sound(archive: Path):
    tagged = [p for p in sorted(archive.rglob("*.wav")) if p.read_bytes()[36:40] == b"note"]
    assert len(tagged) == 2
    assert all(8 <= audio.normalise(p).duration_s <= 10 for p in tagged)


def make(root: Path, lines: list[str], wavs: list[str], encoding: str = "utf-8") -> Path:
    (root / "ZCHSound").mkdir(parents=True)
    (root / "ZCHSound" / CLEAN).write_bytes("\r\n".join([HEADER, *lines, ""]).encode(encoding))
    for wav in wavs:
        (root / "ZCHSound" / wav).parent.mkdir(parents=True, exist_ok=True)
        (root / "ZCHSound" / wav).touch()
    return root


def test_sound_is_found_in_class_folders_too(tmp_path: Path):
    folder = "clean Heartsound Data/"
    names = ["ASD/ZCH0534.wav", "ZCH0001.wav", "VSD/ZCH0534.wav", "ZCH1 (1).wav", "ZCH0007.wav"]
    lines = ["ZCH0534.wav;M;850;ASD", "ZCH0001.wav;F;;NORMAL", "ZCH0002.wav;F;9;NORMAL"]
    found, refused = rows(make(tmp_path, lines, [folder + n for n in names]))
    assert found["ZCH0534"].member == "ZCHSound/clean Heartsound Data/ASD/ZCH0534.wav"
    assert found["ZCH0001"].findings == {
        "recording_set": "clean", "sex": "F", "diagnosis": "NORMAL",
    }  # fmt: skip
    assert {name.rpartition("/")[2]: r.reason for name, r in refused.items()} == {
        "ZCH0534.wav": "bad_metadata", "ZCH1 (1).wav": "bad_name", "ZCH0007.wav": "no_metadata",
        "ZCH0002.wav": "no_audio_file",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ZCH0001.wav;M;850", "bad_metadata"),
        ("ZCH0001.wav;M;two;ASD", "bad_metadata"),
        ("ZCH0001;M;850;ASD", "bad_name"),
    ],
)
def test_unreadable_rows_are_refused(tmp_path: Path, line: str, reason: str):
    found, refused = rows(make(tmp_path, [line], ["ZCH0001.wav"]))
    assert not found
    assert refused[line.split(";")[0]].reason == reason


def test_other_encodings_spellings_and_files(tmp_path: Path):
    archive = make(tmp_path / "a", ["ZCH0001.wav;男;850;Asd"], ["ZCH0001.wav"], encoding="gbk")
    found, _ = rows(archive)
    # Passed on as they stand; refused where words are looked up.
    assert found["ZCH0001"].findings["diagnosis"] == "Asd"
    assert found["ZCH0001"].findings["sex"] == "男"
    pointer = tmp_path / "b"
    pointer.mkdir()
    (pointer / "ZCHSound.zip").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(FileNotFoundError, match="pointer"):
        list(reader.read(pointer))
    table = archive / "ZCHSound" / CLEAN
    table.write_text("fileName,gender,age(days),diagnosis\n")
    with pytest.raises(ValueError, match="begins with"):
        list(reader.read(archive))


@needs_real
def test_real_rows(tmp_path: Path):
    found, refused = rows(REAL)
    assert not found
    assert Counter(r.reason for r in refused.values()) == {"no_audio_file": 67}
    table = next(REAL.glob("Clean Heartsound Data Details*.csv")).read_text().splitlines()
    names = [line.split(";")[0] for line in table[1:]]
    found, refused = rows(make(tmp_path, table[1:], names))
    assert len(found) == 67 and not refused
    for recording in found.values():
        resolve(MANIFEST, recording.findings)
    assert found["ZCH0574"].findings["age_days"] == 5045
    assert found["ZCH0699"].findings["age_days"] == 2
    assert found["ZCH0545"].findings["diagnosis"] == "ASD"
    assert found["ZCH0802"].findings["diagnosis"] == "VSD"


WHERE = (
    "Auscultation with a ChildCare G-100 stethoscope at the left sternal border, at the second to "
    "third rib."
)


@pytest.mark.parametrize(
    ("days", "age"),
    [
        (0, "newborn, recorded on the day of birth"),
        (1, "newborn, one day old"),
        (27, "newborn, 27 days old"),
        (28, "infant, aged about one month"),
        (276, "infant, aged about nine months"),
        (365, "child, aged about one year"),
        (2310, "child, aged about six years"),
        (5045, "adolescent, aged about 14 years"),
    ],
)
def test_ages_are_no_more_exact_than_they_were_noted(days: int, age: str):
    text = render(MANIFEST, "zchsound/ZCH0001", {"sex": "M", "age_days": days}).text
    assert text == f"{WHERE} The patient is a male {age}."
    alone = render(MANIFEST, "zchsound/ZCH0001", {"age_days": days}).text
    assert alone == f"{WHERE} The patient is {'an' if age[0] in 'ai' else 'a'} {age}."


TEXTS: list[tuple[dict[str, Value], str, str]] = [
    (
        {"sex": "F", "age_days": 3, "recording_set": "noise", "diagnosis": "PFO"},
        f"{WHERE} Quality class: noisy. The patient is a female newborn, three days old. "
        "Echocardiography: a patent foramen ovale.",
        f"{WHERE} Quality class: noisy. The patient is a female newborn, three days old.",
    ),
    (
        {"sex": "M", "age_days": 186, "recording_set": "clean", "diagnosis": "NORMAL"},
        f"{WHERE} Quality class: clean. The patient is a male infant, aged about six months. "
        "Echocardiography: no structural heart defect.",
        f"{WHERE} Quality class: clean. The patient is a male infant, aged about six months.",
    ),
    (
        {"recording_set": "clean", "diagnosis": "ASD"},
        f"{WHERE} Quality class: clean. Echocardiography: an atrial septal defect.",
        f"{WHERE} Quality class: clean.",
    ),
]


@pytest.mark.parametrize(("findings", "full", "strict"), TEXTS)
def test_report_texts(findings: dict[str, Value], full: str, strict: str):
    assert texts(MANIFEST, "zchsound/ZCH0001", findings) == (full, strict)
    assert not re.search(r"defect|septal|foramen|ductus|echo", strict, re.I)
