"""CirCor: the reader on a sample archive, on hand-made traps and on real metadata; the reports."""

import csv
import hashlib
import os
import re
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import worlds
from worlds import SHARED, archive_of, bad_sound, digest, needs, texts, write_small

from pipeline.findings import resolve
from pipeline.manifest import FOLDER, load
from pipeline.readers import circor as reader
from pipeline.records import Value
from pipeline.samples import circor as sample

MANIFEST = load(FOLDER / "circor.yaml")
REAL = SHARED / "real" / "circor"
needs_real = needs(REAL)
ASSERTS = re.compile(r"no murmur|murmur (is|was) heard|has a murmur", re.I)
rows = partial(worlds.rows, reader.read)
archive = archive_of(sample.write)


def test_sample_archive_is_deterministic_and_holds_its_checksums(archive: Path, tmp_path: Path):
    assert digest(write_small(sample.write, tmp_path)) == digest(archive)
    base = archive / sample.FOLDER
    for line in (base / "SHA256SUMS.txt").read_text().splitlines():
        checksum, name = line.split(" ")
        assert hashlib.sha256((base / name).read_bytes()).hexdigest() == checksum


def test_every_file_and_every_listed_recording_is_accounted_for(archive: Path):
    found, refused = rows(archive)
    base = archive / sample.FOLDER
    wavs = {p.name for p in base.rglob("*.wav")}
    assert {f"{k}.wav" for k in found} | {"49001_AV.wav"} == wavs
    assert Counter(r.reason for r in refused.values()) == {"no_audio_file": 1, "no_metadata": 1}
    assert refused["49001_AV.wav"].reason == "no_metadata"
    listed = {line.split("/")[1] for line in (base / "RECORDS").read_text().split()}
    assert listed == set(found) | {
        n[:-4] for n, r in refused.items() if r.reason == "no_audio_file"
    }
    assert all((archive / r.member).is_file() and r.case_id == r.person for r in found.values())


def test_broken_sound_is_passed_on_for_quarantine(archive: Path):
    found, _ = rows(archive)
    assert sorted(bad_sound(archive, found).values()) == ["empty_file", "silent", "truncated"]


def test_repeated_sites_keep_every_take(archive: Path):
    found, _ = rows(archive)
    takes = sorted(k.partition("_")[2] for k in found if re.search(r"_\d+$", k))
    assert takes == ["AV_1", "AV_2", "Phc_1", "Phc_2"]
    assert {r.findings["site"] for k, r in found.items() if "Phc" in k} == {"Phc"}


def test_a_murmur_belongs_to_the_sites_where_it_was_heard(archive: Path):
    found, _ = rows(archive)
    seen: Counter[str] = Counter()
    for recording in found.values():
        f = recording.findings
        here = str(f["murmur_here"])
        seen[here] += 1
        if f["murmur"] == "Present":
            assert isinstance(f["murmur_sites"], tuple)
            assert here == ("heard" if f["site"] in f["murmur_sites"] else "not_heard_here")
        else:
            assert here == str(f["murmur"]).lower()
            assert "murmur_sites" not in f
    assert min(seen[k] for k in ("heard", "not_heard_here", "absent", "unknown")) >= 2


def test_visits_of_one_person_are_linked_even_to_one_outside_the_archive(archive: Path):
    found, _ = rows(archive)
    other = {r.case_id: r.linked for r in found.values() if r.linked}
    inside = {case: link[0] for case, link in other.items() if link[0] in other}
    assert len(inside) == 4
    assert all(inside[link] == case for case, link in inside.items())
    assert len(other) == 5  # the fifth visit's link leads out of the archive
    campaigns = {r.case_id: r.findings["campaign"] for r in found.values()}
    assert all(campaigns[case] != campaigns[link] for case, link in inside.items())


def test_missing_values_stay_missing(archive: Path):
    found, _ = rows(archive)
    pregnant = [r for r in found.values() if r.findings["pregnant"]]
    assert pregnant and all("age_group" not in r.findings for r in pregnant)
    ageless = [r for r in found.values() if "age_group" not in r.findings]
    assert any(r.findings["sex"] == "Male" for r in ageless)
    assert any("height" not in r.findings for r in found.values())
    assert all(v != "nan" for r in found.values() for v in r.findings.values())
    murmurs = [r for r in found.values() if r.findings["murmur"] == "Present"]
    assert any("systolic_timing" not in r.findings for r in murmurs)  # a diastolic one only
    assert any("systolic_grade" in r.findings and "diastolic_grade" in r.findings for r in murmurs)


def test_no_report_says_more_than_the_metadata(archive: Path):
    found, _ = rows(archive)
    for recording in found.values():
        f = recording.findings
        key = f"circor/{recording.native_id}"
        full, strict = texts(MANIFEST, key, f)
        assert not re.search(r"murmur|outcome|normal", strict, re.I), strict
        assert bool(f["pregnant"]) == ("pregnant" in full)
        assert not (f["pregnant"] and "child" in full)
        if f["murmur"] == "Unknown":
            assert not ASSERTS.search(full), full
        if f["murmur_here"] == "not_heard_here":
            assert re.search(r"no murmur was heard at this site|not at this site", full, re.I), full
            assert "grade" not in full


def one_visit(root: Path, tsv: str = "", **cells: str) -> Path:
    """An archive of one visit with one recording."""
    row = dict.fromkeys(sample.COLUMNS, "nan") | {
        "Patient ID": "12345", "Recording locations:": "AV", "Sex": "Male", "Murmur": "Absent",
        "Pregnancy status": "False", "Outcome": "Normal", "Campaign": "CC2014", **cells,
    }  # fmt: skip
    data = root / "training_data"
    data.mkdir(parents=True)
    with (root / "training_data.csv").open("w", newline="") as lines:
        table = csv.writer(lines, lineterminator="\n")
        table.writerow(row)
        table.writerow(row.values())
    (data / "12345_AV.wav").touch()
    if tsv:
        (data / "12345_AV.tsv").write_text(tsv)
    return root


def test_heart_rate_from_segments_that_overlap_part_and_break_off(tmp_path: Path):
    # Cycles of 0.5, 0.6 and 0.6 s; a hole breaks the last one, and no row closes the list.
    tsv = (
        "0\t1\t0\n1\t1.1\t1\n1.0997\t1.25\t2\n1.2512\t1.3\t3\n1.3\t1.5\t4\n"
        "1.5\t1.6\t1\n1.6\t1.8\t2\n1.8\t1.9\t3\n1.9\t2.1\t4\n"
        "2.1\t2.2\t1\n2.2\t2.4\t2\n2.4\t2.5\t3\n2.5\t2.7\t4\n2.7\t2.8\t1\n"
        "4\t4.1\t2\n4.1\t4.2\t3\n4.2\t4.4\t4\n4.4\t4.5\t1\n"
    )
    found, _ = rows(one_visit(tmp_path / "a", tsv))
    assert found["12345_AV"].findings["heart_rate"] == 100.0
    found, _ = rows(one_visit(tmp_path / "b", "0\t9\t0\n"))
    assert "heart_rate" not in found["12345_AV"].findings


@pytest.mark.parametrize(
    ("tsv", "cells"),
    [
        ("0\t1\t7\n", {}),
        ("2\t1\t1\n", {}),
        ("0\t1\n", {}),
        ("", {"Height": "tall"}),
        ("", {"Pregnancy status": "maybe"}),
    ],
)
def test_unreadable_metadata_are_refused(tmp_path: Path, tsv: str, cells: dict[str, str]):
    found, refused = rows(one_visit(tmp_path, tsv, **cells))
    assert not found
    assert refused["12345_AV.wav"].reason == "bad_metadata"


def test_rows_and_files_that_do_not_fit(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"training_data\.csv"):
        list(reader.read(tmp_path))
    one_visit(tmp_path, Murmur="Perhaps")
    with (tmp_path / "training_data.csv").open("a") as lines:
        lines.write("777,AV,Child\n")
    (tmp_path / "training_data" / "12345_XX.wav").touch()
    (tmp_path / "training_data" / "12345_MV.wav").touch()
    found, refused = rows(tmp_path)
    assert found["12345_AV"].findings["murmur"] == "Perhaps"  # refused where words are looked up
    assert "murmur_here" not in found["12345_AV"].findings
    assert {name: r.reason for name, r in refused.items()} == {
        "777": "bad_metadata", "12345_XX.wav": "bad_name", "12345_MV.wav": "no_metadata",
    }  # fmt: skip


@needs_real
def test_real_recordings():
    found, refused = rows(REAL)
    assert len(found) == 10
    assert Counter(r.reason for r in refused.values()) == {"no_audio_file": 3153}
    here = {k: (r.findings["murmur_here"], r.findings["outcome"]) for k, r in found.items()}
    assert here["85343_TV"] == ("heard", "Abnormal")
    assert here["85343_PV"] == ("not_heard_here", "Abnormal")
    assert here["85345_AV"] == ("absent", "Normal")
    assert here["9983_MV"] == ("unknown", "Abnormal")
    assert found["9983_AV"].findings["heart_rate"] == pytest.approx(116, abs=3)
    for recording in found.values():
        assert 60 < float(str(recording.findings["heart_rate"])) < 140


@needs_real
def test_real_metadata_of_all_recordings(tmp_path: Path):
    data = tmp_path / "training_data"
    data.mkdir()
    (tmp_path / "training_data.csv").symlink_to(REAL / "training_data.csv")
    names = [n.split("/")[1] for n in (REAL / "RECORDS").read_text().split()]
    for name in names:
        os.close(os.open(data / f"{name}.wav", os.O_CREAT))
    found, refused = rows(tmp_path)
    assert set(found) == set(names) and not refused
    for recording in found.values():
        resolve(MANIFEST, recording.findings)
    f = [r.findings for r in found.values()]
    assert Counter(x["murmur"] for x in f) == {"Absent": 2391, "Present": 616, "Unknown": 156}
    assert Counter(x["murmur_here"] for x in f)["not_heard_here"] == 117
    assert Counter(x["outcome"] for x in f) == {"Normal": 1632, "Abnormal": 1531}
    people = {frozenset({str(r.person), *r.linked}) for r in found.values()}
    assert len(people) == 872
    assert len({r.case_id for r in found.values() if r.findings["pregnant"]}) == 70
    systolic = [n for n in MANIFEST.findings if n.startswith("systolic")]
    for case in {
        r.case_id: r for r in found.values() if r.findings["murmur"] == "Present"
    }.values():
        told = [n in case.findings for n in systolic]
        assert all(told) or (not any(told) and case.case_id == "85119")


HEARD: dict[str, Value] = {
    "age_group": "Child", "sex": "Female", "height": 98.0, "weight": 15.9, "pregnant": False,
    "campaign": "CC2015", "site": "TV", "heart_rate": 112.4, "murmur": "Present",
    "murmur_here": "heard", "murmur_sites": ("MV", "TV"), "most_audible": "TV",
    "systolic_timing": "Holosystolic", "systolic_shape": "Plateau", "systolic_grade": "III/VI",
    "systolic_pitch": "High", "systolic_quality": "Harsh", "outcome": "Abnormal",
}  # fmt: skip
DIASTOLIC: dict[str, Value] = {
    "sex": "Male", "pregnant": False, "site": "Phc", "murmur": "Present", "murmur_here": "heard",
    "murmur_sites": ("AV", "Phc", "PV"), "most_audible": "Phc",
    "diastolic_timing": "Early-diastolic", "diastolic_shape": "Decrescendo",
    "diastolic_grade": "I/IV", "diastolic_pitch": "Low", "diastolic_quality": "Blowing",
}  # fmt: skip
PREGNANT: dict[str, Value] = {
    "sex": "Female", "pregnant": True, "site": "AV", "murmur": "Unknown", "murmur_here": "unknown",
    "outcome": "Normal",
}  # fmt: skip
ELSEWHERE = HEARD | {"site": "PV", "murmur_here": "not_heard_here", "heart_rate": 99.6}
GIRL = "This is a phonocardiogram of a female child."
BUILD = "The patient is 98 cm tall and weighs 15.9 kg."
RATE = "The annotated cycles give a heart rate of about {} per minute."
TEXTS = [
    (
        HEARD,
        f"{GIRL} The stethoscope was placed over the tricuspid area. A murmur was heard at this "
        "site; the "
        "patient's "
        "murmur is harsh, high-pitched and holosystolic, grade III/VI, with a plateau shape. Sites "
        "with the murmur: the mitral and tricuspid areas; it was loudest at this site. "
        f"{RATE.format(112)} {BUILD} Clinical outcome, as judged by a medical expert: abnormal.",
        f"{GIRL} The stethoscope was placed over the tricuspid area. {RATE.format(112)} {BUILD}",
    ),
    (
        ELSEWHERE,
        f"{GIRL} The stethoscope was placed over the pulmonary area. A murmur was heard at other "
        f"sites only, over the mitral and tricuspid areas, not at this site. {RATE.format(100)} "
        f"{BUILD} "
        "Clinical outcome, "
        "as judged by a medical expert: abnormal.",
        f"{GIRL} The stethoscope was placed over the pulmonary area. {RATE.format(100)} {BUILD}",
    ),
    (
        DIASTOLIC,
        "This is a phonocardiogram of a male patient. The stethoscope was placed over another "
        "auscultation site. At this site there is a blowing, low-pitched early diastolic murmur of "
        "grade I/IV with a decrescendo shape. Sites with the murmur: the aortic and pulmonary "
        "areas and another auscultation site; it was loudest at this site.",
        "This is a phonocardiogram of a male patient. The stethoscope was placed over another "
        "auscultation site.",
    ),
    (
        PREGNANT,
        "This is a phonocardiogram of a pregnant female patient. The stethoscope was placed over "
        "the aortic area. The presence of a murmur is indeterminate. Clinical outcome, as judged "
        "by a medical expert: normal.",
        "This is a phonocardiogram of a pregnant female patient. The stethoscope was placed over "
        "the aortic area.",
    ),
]


@pytest.mark.parametrize(("findings", "full", "strict"), TEXTS)
def test_report_texts(findings: dict[str, Value], full: str, strict: str):
    assert texts(MANIFEST, "circor/1_TV", findings) == (full, strict)
