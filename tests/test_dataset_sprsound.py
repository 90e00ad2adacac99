"""SPRSound: the reader on a sample archive, on hand-made traps and on real files; the reports."""

import json
import tarfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import soundfile
import worlds
from plain_persons import people_of, tasks_of
from worlds import SHARED, archive_of, digest, needs, recordings_table, write_small

from pipeline.findings import UnknownCode, resolve
from pipeline.manifest import FOLDER, load
from pipeline.readers import sprsound as reader
from pipeline.records import Recording, Value
from pipeline.samples import sprsound as sample
from pipeline.steps import audio
from pipeline.steps.reports import render

MANIFEST = load(FOLDER / "sprsound.yaml")
REAL = SHARED / "real" / "sprsound"
needs_real = needs(REAL)
HEADER = "patient_num,disease,age,gender\n"
NORMAL = {"start": "100", "end": "1600", "type": "Normal"}
FINE = {"start": "1700", "end": "2900", "type": "Fine Crackle"}
BOTH = {"start": "3000", "end": "4100", "type": "Wheeze+Crackle"}
STEM = "65032402_1.5_1_p4_40"
rows = partial(worlds.rows, reader.read)
archive = archive_of(sample.write)


def add(
    root: Path, stem: str, annotation: Any, wavs: str = "BioCAS2022/train2022_wav", labels: str = ""
) -> None:
    """An empty wav (readers don't listen) and its json."""
    for folder, suffix in ((wavs, "wav"), (labels or wavs.replace("_wav", "_json"), "json")):
        path = root / folder / f"{stem}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("" if suffix == "wav" else json.dumps(annotation))


def summary(root: Path, name: str, *lines: str) -> None:
    folder = root / "Patient Summary"
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{name}_patient_summary.csv").write_text(HEADER + "\n".join(lines))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """One recording and the summary of 2022."""
    summary(tmp_path, "SPRSound", "65032402,Pneumonia (non-severe),1.5,F")
    add(tmp_path, STEM, {"record_annotation": "DAS", "event_annotation": [FINE, NORMAL]})
    return tmp_path


def test_sample_archive_is_deterministic(archive: Path, tmp_path: Path):
    assert digest(write_small(sample.write, tmp_path)) == digest(archive)


def test_every_file_is_accounted_for_and_the_repeated_ones_are_not_counted(archive: Path):
    found, refused = rows(archive)
    assert list((archive / "Classification").rglob("*.wav"))
    wavs = {p.stem for p in archive.glob("BioCAS*/**/*.wav")}
    labels = {p.stem for p in archive.glob("BioCAS*/**/*.json")}
    assert set(found) == wavs & labels
    assert {r.reason: Path(n).stem for n, r in refused.items()} == {
        "no_metadata": (wavs - labels).pop(),
        "no_audio_file": (labels - wavs).pop(),
    }
    assert all(r.member.startswith("BioCAS20") for r in found.values())
    lengths = Counter(soundfile.info(archive / r.member).duration for r in found.values())
    assert lengths[0.304] == lengths[8.512] == 1 and lengths.most_common(1)[0][0] == 9.216
    broken = next(r for r in found.values() if soundfile.info(archive / r.member).duration < 0.5)
    with pytest.raises(audio.BadAudio, match="too short"):
        audio.normalise(archive / broken.member)


def test_one_recording_is_in_train_and_in_test(archive: Path):
    found, _ = rows(archive)
    by_sound: dict[bytes, list[Recording]] = {}
    for recording in found.values():
        by_sound.setdefault((archive / recording.member).read_bytes(), []).append(recording)
    (twins,) = [group for group in by_sound.values() if len(group) > 1]
    assert {r.official_split for r in twins} == {"train", "test"}
    assert twins[0].person == twins[1].person and twins[0].findings == twins[1].findings


def test_files_without_a_patient_belong_to_nobody_and_to_no_side(archive: Path):
    found, _ = rows(archive)
    nobody = [r for k, r in found.items() if k.startswith("_")]
    assert len(nobody) == 4
    for recording in nobody:
        assert recording.person is recording.proxy is recording.official_split is None
        assert recording.case_id == recording.native_id
        assert not {"record", "disease"} & recording.findings.keys()
    assert all(r.person and r.official_split for r in found.values() if r not in nobody)


def test_both_classes_are_on_every_side_and_intra_patients_are_in_train(archive: Path):
    found, _ = rows(archive)
    table = recordings_table("sprsound", found)
    tasks = tasks_of(table, {"sprsound": MANIFEST}).rows
    seen = {(r["fold"], r["label"]) for r in tasks if r["variant"] == "subject_clean"}
    assert seen == {(fold, label) for fold in ("train", "val", "test") for label in (0, 1)}
    split = {p["recording_id"]: p["split"] for p in people_of(table)}
    intra = {
        r.native_id for r in found.values() if "intra_test_json" in r.row["annotation_file"]
    }  # fmt: skip
    assert intra and {split[f"sprsound/{k}"] for k in intra} == {"train"}
    published = {(r["fold"], r["recording_id"]) for r in tasks if r["variant"] == "as_published"}
    assert {f for f, k in published if k.removeprefix("sprsound/") in intra} == {"test"}


def test_a_patient_is_a_string_and_the_age_is_that_of_the_recording(tiny: Path):
    summary(tiny, "SPRSound", "00014365,Control Group,4,M")
    event = {"record_annotation": "Normal", "event_annotation": [NORMAL]}
    for stem in ("00014365_4.1_0_p1_7", "00014365_4.3_0_p2_8", "00014365_4.3_0_p3_9"):
        add(tiny, stem, event)
    found, _ = rows(tiny)
    child = [r for r in found.values() if r.person == "00014365"]
    assert [(r.case_id, r.findings["age"]) for r in child] == [
        ("00014365_4.1", 4.1), ("00014365_4.3", 4.3), ("00014365_4.3", 4.3),
    ]  # fmt: skip
    assert {r.findings["disease"] for r in child} == {"Control Group"}
    assert {r.findings["sex"] for r in child} == {"0"}  # male
    assert json.loads(child[0].row["patient_summary"])["age"] == "4"


def test_each_release_has_its_own_summary_and_words(tiny: Path):
    summary(tiny, "Grand_Challenge'23", "65032402,Control group,1.5,F", "-,-,3.9,M")
    summary(tiny, "Grand_Challenge'24", "65032402,Bronchiectasia,1.5,F", "518404,-,4.0,F")
    event = {"record_annotation": "Normal", "event_annotation": [NORMAL]}
    for year, stem in (
        ("2023", "65032402_2.0_1_p1_50"), ("2024", "65032402_2.4_1_p5_60"),
        ("2024", "518404_4.0_1_p1_61"), ("2025", "65032402_3.0_1_p8_70"),
    ):  # fmt: skip
        add(tiny, stem, event, f"BioCAS{year}/test{year}_wav")
    found, _ = rows(tiny)
    assert {k: r.findings.get("disease") for k, r in found.items()} == {
        STEM: "Pneumonia (non-severe)",
        "65032402_2.0_1_p1_50": "Control group",
        "65032402_2.4_1_p5_60": "Bronchiectasia",
        "518404_4.0_1_p1_61": None,  # "-" is missing
        "65032402_3.0_1_p8_70": None,  # no summary of 2025 is known
    }
    assert {r.official_split for r in found.values() if r.native_id != STEM} == {"test"}
    for recording in found.values():
        resolve(MANIFEST, recording.findings)


@pytest.mark.parametrize("place", ["", "releases", "SPRSound-2024beef"])
def test_the_release_folders_may_lie_deeper(tmp_path: Path, place: str):
    summary(tmp_path / "SPRSound-2024beef", "SPRSound", "65032402,Asthma,1.5,F")
    add(tmp_path / place, STEM, {"record_annotation": "Normal", "event_annotation": [NORMAL]})
    found, _ = rows(tmp_path)
    assert found[STEM].findings["disease"] == "Asthma"
    assert found[STEM].official_split == "train"


def test_task_folders_are_read_only_where_no_release_folder_is(tmp_path: Path):
    summary(tmp_path, "SPRSound", "65032402,Asthma,1.5,F", "40890405,Bronchitis,3.3,M")
    event = {"record_annotation": "Normal", "event_annotation": [NORMAL]}
    add(tmp_path, STEM, event, "Classification/train_classification_wav")
    add(
        tmp_path, "40890405_3.3_0_p3_3655", event, "Classification/valid_classification_wav",
        "Classification/valid_classification_json/2022/inter_test_json",
    )  # fmt: skip
    found, refused = rows(tmp_path)
    assert {k: (r.official_split, r.findings["disease"]) for k, r in found.items()} == {
        STEM: ("train", "Asthma"),
        "40890405_3.3_0_p3_3655": ("test", "Bronchitis"),
    }
    assert not refused
    add(tmp_path, STEM, event)
    found, _ = rows(tmp_path)
    assert [r.member for r in found.values()] == [f"BioCAS2022/train2022_wav/{STEM}.wav"]


@pytest.mark.parametrize(
    ("record", "events", "adventitious", "conflict"),
    [
        ("Normal", [NORMAL, NORMAL], False, False),
        ("DAS", [FINE, NORMAL], True, False),
        ("CAS & DAS", [BOTH], True, False),
        ("CAS", [BOTH, NORMAL], True, True),  # relabelled upstream later
        ("Normal", [FINE], True, True),
        ("Poor Quality", [], None, False),
        ("Poor Quality", [FINE], None, True),
        ("Normal", [], None, True),
        (None, [NORMAL], False, None),  # since 2024
        (None, [FINE], True, None),
        (None, [], None, None),
    ],
)
def test_labels(
    tiny: Path, record: str | None, events: list[dict[str, str]],
    adventitious: bool | None, conflict: bool | None,
):  # fmt: skip
    known = {} if record is None else {"record_annotation": record}
    add(tiny, STEM, known | {"event_annotation": events})
    f = rows(tiny)[0][STEM].findings
    assert f.get("record") == record
    assert f.get("adventitious") is adventitious
    assert f.get("label_conflict") is conflict
    assert f.get("fine_crackles") == (events.count(FINE) if events else None)


@pytest.mark.parametrize(
    ("annotation", "detail"),
    [
        ({"recording_annotation": "Normal", "event_annotation": []}, "unknown keys"),
        ({"record_annotation": "Normal"}, "no event_annotation"),
        ([], "no event_annotation"),
        ({"event_annotation": [NORMAL | {"end": "50"}]}, "reversed"),
        ({"event_annotation": [{"type": "Normal"}]}, "lacks start"),
        ({"event_annotation": [NORMAL | {"start": "early"}]}, "invalid literal"),
    ],
)
def test_an_unreadable_json_refuses_its_recording_only(tiny: Path, annotation: Any, detail: str):
    add(tiny, "65032402_1.5_1_p2_38", annotation)
    found, refused = rows(tiny)
    assert set(found) == {STEM}
    (rejected,) = refused.values()
    assert rejected.reason == "bad_metadata" and detail in rejected.detail


def test_unknown_labels_are_passed_on_and_bad_names_refused(tiny: Path):
    add(tiny, "65032402_1.5_1_p2_38", {"event_annotation": [NORMAL | {"type": "Squawk"}]})
    add(tiny, "65032402_1.5_2_p2_39", {"event_annotation": [NORMAL]})
    add(tiny, "65032402_2_1_p9_41", {"event_annotation": [NORMAL]})
    found, refused = rows(tiny)
    assert [r.reason for r in refused.values()] == ["bad_name"] * 2
    with pytest.raises(UnknownCode, match="Squawk"):
        resolve(MANIFEST, found["65032402_1.5_1_p2_38"].findings)


def test_two_files_for_one_recording_are_not_guessed_between(tiny: Path):
    again = tiny / "BioCAS2022/test2022_json/inter_test_json" / f"{STEM}.json"
    again.parent.mkdir(parents=True)
    again.write_text("{}")
    found, refused = rows(tiny)
    assert not found
    assert [(r.reason, r.detail) for r in refused.values()] == [
        ("bad_metadata", f"2 files are called {STEM}.json")
    ]


def test_missing_folders_say_what_to_do(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="check the folder 'Patient Summary' out"):
        list(reader.read(tmp_path))
    summary(tmp_path, "SPRSound", "65032402,Asthma,1.5,F")
    with pytest.raises(FileNotFoundError, match="needs the folders BioCAS2022 to BioCAS2025"):
        list(reader.read(tmp_path))


@needs_real
def test_real_recordings():
    found, refused = rows(REAL)
    assert len(found) == 200 and not refused
    assert len({r.person for r in found.values()}) == 101
    assert {r.official_split for r in found.values()} == {"train"}
    assert all("disease" in resolve(MANIFEST, r.findings) for r in found.values())
    assert "adventitious" not in found["65039232_6.4_1_p1_373"].findings  # poor quality
    short = found["65039232_6.4_1_p1_373"]
    with pytest.raises(audio.BadAudio, match=r"0\.304 s"):
        audio.normalise(REAL / short.member)


@needs_real
def test_real_labels_of_all_1949_recordings(tmp_path: Path):
    """The wavs are empty files: a reader looks at names and metadata only."""
    path = REAL / "Patient Summary" / "SPRSound_patient_summary.csv"
    (tmp_path / path.name).write_bytes(path.read_bytes())
    for kind in ("wav", "json"):
        (tmp_path / f"BioCAS2022/train2022_{kind}").mkdir(parents=True)
    with tarfile.open(REAL / "all_train2022_json.tar.gz") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content:
                name = Path(member.name).name
                (tmp_path / "BioCAS2022/train2022_json" / name).write_bytes(content.read())
                (tmp_path / "BioCAS2022/train2022_wav" / name.replace(".json", ".wav")).touch()
    found, refused = rows(tmp_path)
    assert len(found) == 1949 and not refused
    assert len({r.person for r in found.values()}) == 251
    assert Counter(r.findings["record"] for r in found.values()) == {
        "Normal": 1303, "DAS": 248, "Poor Quality": 177, "CAS": 134, "CAS & DAS": 87,
    }  # fmt: skip
    events: Counter[str] = Counter()
    for recording in found.values():
        resolved = resolve(MANIFEST, recording.findings)
        assert resolved["disease"].status == "stated"
        events.update({
            k: int(v)
            for k, v in recording.findings.items()
            if isinstance(v, int) and not isinstance(v, bool)
        })  # fmt: skip
    assert events == {
        "normal_events": 5159, "fine_crackles": 912, "wheezes": 452, "coarse_crackles": 49,
        "rhonchi": 39, "wheezes_with_crackles": 30, "stridors": 15,
    }  # fmt: skip
    conflicts = {k for k, r in found.items() if r.findings["label_conflict"]}
    assert len(conflicts) == 8 and STEM in conflicts
    assert {found[k].findings["record"] for k in conflicts} == {"CAS"}
    labels = Counter(r.findings.get("adventitious") for r in found.values())
    assert labels == {False: 1303, True: 248 + 134 + 87, None: 177}


CHILD: dict[str, Value] = {
    "age": 11.4, "sex": "1", "location": "p3", "disease": "Other respiratory", "record": "DAS",
    "normal_events": 1, "rhonchi": 0, "wheezes": 0, "stridors": 0, "coarse_crackles": 0,
    "fine_crackles": 3, "wheezes_with_crackles": 0, "adventitious": True, "label_conflict": False,
}  # fmt: skip


WHO = (
    "Auscultation of the lungs of an 11-year-old female child. Diagnosis: other respiratory "
    "disease, not further specified. Recorded over the right posterior chest."
)
INFANT: dict[str, Value] = {
    "age": 0.2, "location": "p6", "disease": "Control Group", "record": "Normal",
    "normal_events": 2, "fine_crackles": 0, "adventitious": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {},
            f"{WHO} Overall label of the recording: discontinuous adventitious sounds. The "
            "annotation "
            "shows adventitious lung sounds: of four breath sounds, one was normal and three had "
            "fine crackles.",
        ),
        (
            INFANT,
            "Auscultation of the lungs of a female infant aged about 2 months. The patient belongs "
            "to the control group. Recorded at an additional position, of which the place on the "
            "chest is not stated. As a whole, the recording was judged normal. No adventitious "
            "lung sounds were annotated: both breath sounds were normal.",
        ),
        (
            {"record": "CAS", "normal_events": 0, "fine_crackles": 0, "wheezes_with_crackles": 1,
             "label_conflict": True},
            f"{WHO} Overall label of the recording: continuous adventitious sounds. The label of "
            "the "
            "whole recording contradicts those of its breath sounds. The annotation shows "
            "adventitious lung sounds: the only breath sound had wheezes with crackles.",
        ),
    ],
)  # fmt: skip
def test_reports(changes: dict[str, Value], text: str):
    assert render(MANIFEST, "sprsound/x", CHILD | changes).text == text


def test_a_poor_recording_is_said_to_be_poor_and_nothing_else():
    poor = {k: CHILD[k] for k in ("age", "sex", "location")} | {"record": "Poor Quality"}
    assert render(MANIFEST, "sprsound/x", poor).text == (
        "Auscultation of the lungs of an 11-year-old female child. Recorded over the right "
        "posterior chest. Overall label of the recording: poor quality."
    )


def test_a_strict_report_does_not_tell_the_label():
    texts = {
        render(MANIFEST, "sprsound/x", CHILD | changes, MANIFEST.strict_masks).text
        for changes in ({}, {"record": "Normal", "fine_crackles": 0, "adventitious": False})
    }
    assert texts == {WHO}
