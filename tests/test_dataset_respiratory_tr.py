"""RespiratoryDatabase@TR: the reader on a sample archive, hand-made traps and the real labels."""

from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import worlds
from worlds import SHARED, archive_of, bad_sound, digest, needs, write_small

from pipeline.findings import UnknownCode, resolve
from pipeline.manifest import FOLDER, load
from pipeline.readers import respiratory_tr as reader
from pipeline.samples import respiratory_tr as sample
from pipeline.samples.spreadsheet import xlsx

MANIFEST = load(FOLDER / "respiratory_tr.yaml")
REAL = SHARED / "real" / "respiratory_tr"
SPLITS = SHARED / "reference" / "opera_splits" / "feature" / "copd_eval"
AUDIO = "RespiratoryDatabase@TR"
HEADER = ["Patient ID", "Diagnosis"]
rows = partial(worlds.rows, reader.read)
archive = archive_of(sample.write)


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def channels(patient: str) -> list[str]:
    return [f"{AUDIO}/{patient}_{side}{n}.wav" for side in "LR" for n in range(1, 7)]


def conversion(root: Path, *lines: str) -> None:
    """Labels.csv as the benchmark ships it: byte order mark, CRLF, a comma too many."""
    text = "".join(f"{line},\r\n" for line in ("Patient ID,Diagnosis", *lines))
    (root / "Labels.csv").write_bytes(text.encode("utf-8-sig"))


def test_sample_archive_is_deterministic(archive: Path, tmp_path: Path):
    assert digest(write_small(sample.write, tmp_path)) == digest(archive)


def test_twelve_channels_of_each_patient_have_one_label(archive: Path):
    found, refused = rows(archive)
    assert Counter(r.reason for r in refused.values()) == {
        "bad_name": 1, "no_metadata": 1, "no_audio_file": 1,
    }  # fmt: skip
    labels: dict[str, set[object]] = defaultdict(set)
    for native_id, recording in found.items():
        assert recording.person == recording.case_id == native_id[:4]
        assert recording.modality == "lung" and recording.official_split is None
        assert recording.row["table"] == "Labels.xlsx"
        resolve(MANIFEST, recording.findings)
        labels[recording.case_id].add(recording.findings["copd_severity"])
    assert Counter(len(v) for v in labels.values()) == {1: 10}
    assert set.union(*labels.values()) == {f"COPD{n}" for n in range(5)}
    assert Counter(r.case_id for r in found.values()).most_common()[-1][1] == 11
    assert {soundfile.info(archive / r.member).samplerate for r in found.values()} == {4000}
    assert not bad_sound(archive, dict(list(found.items())[::12]))


def test_a_channel_is_no_place_and_the_group_at_risk_is_not_healthy():
    known = resolve(MANIFEST, {"channel": "L3", "copd_severity": "COPD0"})
    assert known["channel"].word == "left channel 3"
    assert known["copd_severity"].status == "stated"
    assert "at risk" in known["copd_severity"].word
    assert "healthy" not in str(MANIFEST.findings["copd_severity"].words)


def test_the_conversion_is_read_where_the_publishers_table_is_absent(tmp_path: Path):
    conversion(make(tmp_path, *channels("H002"), *channels("H003")), "H002,COPD4", "H003,COPD0")
    found, refused = rows(tmp_path)
    assert len(found) == 24 and not refused
    assert found["H002_R6"].member == f"{AUDIO}/H002_R6.wav"
    assert found["H003_L1"].findings == {"copd_severity": "COPD0", "channel": "L1"}
    assert found["H003_L1"].row == {
        "Patient ID": "H003", "Diagnosis": "COPD0", "table": "Labels.csv",
    }  # fmt: skip


def test_tables_that_disagree_refuse_the_patient_and_only_the_first_sheet_counts(tmp_path: Path):
    people = ("H002", "H003", "H004", "H005")
    make(tmp_path, *(c for p in people for c in channels(p)))
    sheet = [HEADER, ["H002", "COPD4"], ["H003", "COPD1"], ["H004", "COPD9"], [None, None]]
    xlsx(tmp_path / "Labels.xlsx", {"Sayfa1": sheet, "Sayfa2": [HEADER, ["H005", "COPD1"]]})
    conversion(tmp_path, "H002,COPD4", "H003,COPD2")
    found, refused = rows(tmp_path)
    assert {r.case_id for r in found.values()} == {"H002", "H004"}
    assert {r.row["table"] for r in found.values()} == {"Labels.xlsx"}
    with pytest.raises(UnknownCode, match="COPD9"):
        resolve(MANIFEST, found["H004_L1"].findings)
    assert Counter(r.reason for r in refused.values()) == {"bad_metadata": 12, "no_metadata": 12}
    detail = refused[f"{AUDIO}/H003_L1.wav"].detail
    assert detail == "H003: COPD1 in Labels.xlsx, COPD2 in Labels.csv"


def test_names_are_checked_and_every_missing_channel_is_reported(tmp_path: Path):
    bad = ["H002_L7.wav", "H02_L1.wav", "H002_L1 (1).wav", "._H002_L1.wav"]
    conversion(make(tmp_path, "a/H002_L1.wav", "b/H002_L1.wav", *bad), "H002,COPD4")
    found, refused = rows(tmp_path)
    assert found["H002_L1"].member == "a/H002_L1.wav"
    reasons = {n: r.reason for n, r in refused.items()}
    assert {n: reasons.pop(n) for n in bad} == dict.fromkeys(bad, "bad_name")
    assert reasons.pop("b/H002_L1.wav") == "bad_metadata"
    assert len(reasons) == 11 and set(reasons.values()) == {"no_audio_file"}


def test_a_table_that_is_missing_or_strange_stops_the_reader(tmp_path: Path):
    make(tmp_path, *channels("H002"))
    with pytest.raises(FileNotFoundError, match=r"Labels\.xlsx .* a file of its own"):
        list(reader.read(tmp_path))
    xlsx(tmp_path / "Labels.xlsx", {"Sayfa1": [HEADER[::-1], ["COPD4", "H002"]]})
    with pytest.raises(ValueError, match=r"Labels\.xlsx begins with"):
        list(reader.read(tmp_path))
    (tmp_path / "Labels.xlsx").unlink()
    conversion(tmp_path, "H002,COPD4", "H002,COPD3")
    with pytest.raises(ValueError, match="gives H002 two labels: COPD4, COPD3"):
        list(reader.read(tmp_path))


@needs(REAL)
def test_real_labels_without_audio():
    found, refused = rows(REAL)
    assert not found and len(refused) == 504
    assert {r.reason for r in refused.values()} == {"no_audio_file"}


@needs(REAL)
@pytest.mark.parametrize(
    "tables", [("Labels.xlsx",), ("Labels.csv",), ("Labels.xlsx", "Labels.csv")]
)
def test_all_504_names_have_the_published_labels(tmp_path: Path, tables: tuple[str, ...]):
    files = [Path(p).name for p in np.load(SPLITS / "sound_dir_loc.npy").tolist()]
    make(tmp_path, *(f"{AUDIO}/{name}" for name in files))
    for name in tables:
        (tmp_path / name).symlink_to(REAL / name)
    found, refused = rows(tmp_path)
    assert len(found) == 504 and not refused
    labels = np.load(SPLITS / "labels.npy").tolist()
    assert {k: r.findings["copd_severity"] for k, r in found.items()} == {
        name.removesuffix(".wav"): f"COPD{n}" for name, n in zip(files, labels, strict=True)
    }
    severity = Counter(r.findings["copd_severity"] for r in found.values())
    assert severity == {"COPD0": 72, "COPD1": 60, "COPD2": 84, "COPD3": 84, "COPD4": 204}
    for recording in found.values():
        resolve(MANIFEST, recording.findings)
