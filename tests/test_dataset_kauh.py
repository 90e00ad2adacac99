"""KAUH: the reader on a sample archive, on hand-made traps and on real recordings."""

import csv
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import worlds
from worlds import SHARED, archive_of, digest, needs, write_small

from pipeline.findings import UnknownCode, resolve
from pipeline.manifest import FOLDER, load
from pipeline.readers import kauh as reader
from pipeline.records import Recording
from pipeline.samples import kauh as sample
from pipeline.samples.spreadsheet import xlsx
from pipeline.settings import Settings
from pipeline.steps import archive as archives
from pipeline.steps import layout, recordings

MANIFEST = load(FOLDER / "kauh.yaml")
TASK = MANIFEST.tasks["obstructive"]
REAL = SHARED / "real" / "kauh"
NAMES = SHARED / "reference" / "acula_release" / "datasets" / "KAUH" / "metadata_kaudh.csv"
SPLITS = SHARED / "reference" / "opera_splits" / "feature" / "kauh_eval"
SHEET = "Data annotation.xlsx"
HEADER = ["Age", "Gender", "Location", "Sound type", "Diagnosis"]
rows = partial(worlds.rows, reader.read)
archive = archive_of(sample.write)


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def only(root: Path, name: str) -> Recording:
    found, refused = rows(make(root, name))
    assert not refused
    return next(iter(found.values()))


def quarantined(settings: Settings) -> dict[str, list[str]]:
    """Reason -> what a run over the audio refuses, by native id."""
    archives.obtain(MANIFEST, settings)
    recordings.prepare(MANIFEST, settings, lambda _: None)
    refused: dict[str, list[str]] = defaultdict(list)
    for row in pq.read_table(layout.Dataset(settings.data_root, "kauh").quarantine).to_pylist():
        refused[row["reason"]].append(Path(row["name"]).name.split("_")[0])
    return {reason: sorted(names) for reason, names in refused.items()}


def label(recording: Recording) -> bool | None:
    """The task's class: published as healthy 0, asthma and COPD 1, the rest left out."""
    diagnosis = recording.findings["diagnosis"]
    return True if diagnosis in TASK.positive else False if diagnosis in TASK.negative else None


def test_sample_archive_is_deterministic(archive: Path, tmp_path: Path):
    assert digest(write_small(sample.write, tmp_path)) == digest(archive)


def test_three_files_of_a_patient_are_one_case_and_say_the_same(archive: Path):
    found, refused = rows(archive)
    assert not refused and len(found) == 75
    cases: dict[str, list[Recording]] = defaultdict(list)
    for native_id, recording in found.items():
        assert recording.person == recording.case_id == native_id[2:] and "/" not in native_id
        resolve(MANIFEST, recording.findings)
        cases[recording.case_id].append(recording)
    for views in cases.values():
        assert [v.findings.pop("filter") for v in views] == ["B", "D", "E"]
        assert views[0].findings == views[1].findings == views[2].findings
    spelled = {r.row["diagnosis"] for r in found.values()}
    assert spelled >= {"Asthma", "asthma", "COPD", "copd", "Heart Failure + Lung Fibrosis "}
    assert Counter(map(label, found.values())) == {None: 15, True: 30, False: 30}


def test_the_filters_hear_one_auscultation_in_different_bands(archive: Path):
    found, _ = rows(archive)
    patient = next(r.case_id for r in found.values() if r.findings["diagnosis"] == "copd")
    heard = [soundfile.read(archive / found[f"{f}P{patient}"].member)[0] for f in "BDE"]
    assert np.corrcoef(heard)[np.triu_indices(3, 1)].min() > 0.5
    low = [np.mean(np.abs(np.fft.rfft(h))[: len(h) // 20] ** 2) / np.mean(h**2) for h in heard]
    assert low[0] == max(low)


def test_equal_and_silent_sound_goes_to_quarantine(
    archive: Path, tmp_path: Path, settings: Callable[..., Settings]
):
    found, _ = rows(archive)
    rates = Counter(soundfile.info(archive / r.member).samplerate for r in found.values())
    assert rates == {4000: 69, 44_100: 6}
    (tmp_path / "kauh").symlink_to(archive)
    refused = quarantined(settings(archives=str(tmp_path)))
    silent = {r.case_id for r in found.values() if r.native_id in refused["silent"]}
    assert len(refused["silent"]) == 3 and len(silent) == 1
    conflicts = refused["conflicting_duplicate"]
    assert sorted(i[0] for i in conflicts) == ["B", "B", "D", "D"]
    assert {found[i].findings["diagnosis"] for i in conflicts} == {"n", "asthma"}
    # One patient's B is also their D: no contradiction, both stay.
    assert refused.keys() == {"silent", "conflicting_duplicate"}


@pytest.mark.parametrize(
    ("name", "location", "diagnosis"),
    [
        ("BP33_Asthma,E W,P R M,43,F.wav", "P R M", "asthma"),
        ("DP63_COPD,E W,P R L ,58,F.wav", "P R L", "copd"),
        ("EP25_copd,E W,P L L,76,M.wav", "P L L", "copd"),
        ("EP4_Heart Failure + Lung Fibrosis ,I C,P L R,72,F.wav", "P",
         "heart failure + lung fibrosis"),
        ("BP2_Asthma,E W,P L L R,52,F.wav", "P", "asthma"),
        ("BP26_N,N,P,53,M.wav", "P", "n"),
        ("BP105_Lung Fibrosis,Crep,A U R,44,M.wav", "A", "lung fibrosis"),
        ("BP9_N,N,L R U,44,M.wav", None, "n"),
    ],
)  # fmt: skip
def test_names_alone(tmp_path: Path, name: str, location: str | None, diagnosis: str):
    f = only(tmp_path, name).findings
    assert (f.get("location"), f["diagnosis"]) == (location, diagnosis)
    resolve(MANIFEST, f)


def test_left_is_not_lower_and_bronchial_is_not_both():
    words = MANIFEST.findings["location"].words
    assert words["P L M"] == "left middle posterior chest"
    assert words["P R L"] == "right lower posterior chest"
    assert len(words) == 2 + 2 * 2 * 3
    assert "both" not in str(MANIFEST.findings["sound_type"].words)
    bron = MANIFEST.findings["diagnosis"].words["bron"]
    assert "bronchitis" not in bron and "bronchiectasis" not in bron
    assert MANIFEST.findings["diagnosis"].words["plueral effusion"] == "pleural effusion"


def test_the_annotation_sheet_corrects_only_what_cannot_be_read(tmp_path: Path):
    """Rows are counted, so a row is believed only if age and sex are those of the name."""
    names = ["BP1_N,N,A R U,70,M.wav", "BP2_N,N,P L R,52,F.wav", "BP3_N,N,P L R,50,F.wav"]
    sheet = [HEADER, [70, "M", "P L L"], [52.0, "F", "P R L "], [51, "F", "P R L "]]
    zeros = [[None] * 5, [0] * 5]
    xlsx(make(tmp_path, *(f"audio/{n}" for n in names)) / SHEET, {"Sheet1": sheet + zeros})
    found, _ = rows(tmp_path)
    assert [found[f"BP{n}"].findings["location"] for n in (1, 2, 3)] == ["A R U", "P R L", "P"]
    assert found["BP2"].row["location in the annotation sheet"] == "P R L"
    xlsx(tmp_path / SHEET, {"Sheet1": [HEADER[::-1]]})
    with pytest.raises(ValueError, match=rf"{SHEET} begins with"):
        rows(tmp_path)


def test_what_does_not_follow_the_grammar_is_refused(tmp_path: Path):
    good = "BP33_Asthma,E W,P R M,43,F.wav"
    bad = ["BP33 (1).wav", "CP1_N,N,P R M,43,F.wav", "BP1_N,N,P R M,F.wav",
           "BP1_N,N,P R M,43,F,x.wav", "._BP33_Asthma,E W,P R M,43,F.wav"]  # fmt: skip
    again = "copy/BP33_N,N,P R M,43,F.wav"
    found, refused = rows(make(tmp_path, f"AudioFiles/{good}", again, *bad, "BP8_Gout,N,P,9,F.wav"))
    assert found["BP33"].member == f"AudioFiles/{good}"
    assert {n: r.reason for n, r in refused.items()} == {
        **dict.fromkeys(bad, "bad_name"), again: "bad_metadata",
    }  # fmt: skip
    with pytest.raises(UnknownCode, match="gout"):
        resolve(MANIFEST, found["BP8"].findings)


@needs(NAMES)
def test_all_336_official_names(tmp_path: Path):
    """The wavs are empty files: a reader looks at names only."""
    with NAMES.open(newline="", encoding="utf-8-sig") as lines:
        names = [row["File_Name"] for row in csv.DictReader(lines)]
    found, refused = rows(make(tmp_path, *names))
    assert len(found) == 336 and not refused
    for recording in found.values():
        resolve(MANIFEST, recording.findings)
    patients = [r for r in found.values() if r.native_id[0] == "B"]
    assert {int(r.case_id) for r in patients} == set(range(1, 113))
    assert Counter(r.findings["diagnosis"] for r in patients) == {
        "n": 35, "asthma": 32, "heart failure": 18, "copd": 9, "pneumonia": 5, "lung fibrosis": 4,
        "bron": 3, "heart failure + copd": 2, "plueral effusion": 2, "asthma and lung fibrosis": 1,
        "heart failure + lung fibrosis": 1,
    }  # fmt: skip
    assert Counter(str(r.findings["location"]) in "AP" for r in patients) == {False: 104, True: 8}
    (tmp_path / SHEET).symlink_to(REAL / SHEET)
    corrected, _ = rows(tmp_path)
    places = {i: corrected[f"EP{i}"].findings["location"] for i in (2, 3, 4, 5, 6, 7, 26, 105)}
    assert places == {
        2: "P L L", 3: "P L L", 4: "P R L", 5: "P R L", 6: "P R L", 7: "P R L", 26: "P L L",
        105: "A R U",
    }  # fmt: skip
    same = {k: v.findings for k, v in corrected.items() if int(v.case_id) not in places}
    assert same == {k: found[k].findings for k in same}


@needs(SPLITS)
def test_labels_are_the_published_ones_and_the_capitals_do_not_count(tmp_path: Path):
    labels = np.load(SPLITS / "labels_both.npy").tolist()
    files = [Path(p).name for p in np.load(SPLITS / "sound_dir_loc_subset.npy").tolist()]
    found, _ = rows(make(tmp_path, *files))
    ids = [name.split("_")[0] for name in files]
    published = {i: text != "healthy" for i, text in zip(ids, labels, strict=True)}
    assert {k: label(r) for k, r in found.items()} == published
    assert Counter(published.values()) == {True: 129, False: 105}
    # The published code drops `copd` in small letters; here it is COPD.
    assert "BP25" not in published
    assert label(only(tmp_path / "copd", "BP25_copd,E W,P L L,76,M.wav")) is True


@needs(REAL)
def test_real_recordings(settings: Callable[..., Settings]):
    found, refused = rows(REAL)
    assert len(found) == 236 and not refused
    assert quarantined(settings(archives=str(REAL.parent))) == {
        "conflicting_duplicate": ["BP100", "BP101", "DP100", "DP101", "EP76", "EP77"],
        "silent": ["BP22", "DP22", "EP22"],
    }
    f = found["DP20"].findings
    assert (f["diagnosis"], f["age"], f["sex"]) == ("asthma and lung fibrosis", 90, "M")
