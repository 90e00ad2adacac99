"""MMLung: the reader on a sample archive and on hand-made traps; no real recording is public."""

from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import soundfile
import worlds
from worlds import archive_of, bad_sound, digest, write_small

from pipeline.findings import resolve
from pipeline.manifest import FOLDER, load
from pipeline.readers import mmlung as reader
from pipeline.samples import mmlung as sample
from pipeline.samples.spreadsheet import xls, xlsx

MANIFEST = load(FOLDER / "mmlung.yaml")
PHONE, SHEETS = "Trimmed_Data_from_phone", "spirometry_ground_truth"
DEEP = f"{PHONE}/9_3_deepbreath"
TASKS = {
    "1_1_cough": "cough", "2_2_A_single": "vowela", "3_2_E_single": "vowele",
    "4_2_I_single": "voweli", "5_2_O_single": "vowelo", "6_2_Ophonation_single": "vowelophonation",
    "7_2_U_Single": "vowelu", "8_2_Uphonation_single": "voweluphonation",
    "9_3_deepbreath": "deepbreaths", "10_3_shallowclean": "shallowbreath",
    "11_4_rainbow": "rainbow", "12_5_describe_sth": "describesth", "13_6_long": "long",
    "14_6_short1": "short1", "15_6_short2": "short2", "16_7_describe_pic": "describepic",
    "17_8_action": "action", "18_8_nonaction": "nonaction",
}  # fmt: skip
rows = partial(worlds.rows, reader.read)
archive = archive_of(sample.write)


def make(root: Path, *names: str) -> Path:
    (root / PHONE).mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def sheet(root: Path, name: str, *values: str | float) -> Path:
    """A spirometry sheet with the values in B23, B24, B25."""
    path = root / SHEETS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    xls(path, {(22 + i, 1): value for i, value in enumerate(values)} | {(0, 0): "Spirometry"})
    return path


def test_sample_archive_is_deterministic(archive: Path, tmp_path: Path):
    assert digest(write_small(sample.write, tmp_path)) == digest(archive)


def test_sample_subjects_have_three_tasks_and_their_own_sheet(archive: Path):
    found, refused = rows(archive)
    assert Counter(r.reason for r in refused.values()) == {
        "no_metadata": 3, "bad_metadata": 3, "no_audio_file": 1,
    }  # fmt: skip
    assert len(found) == 36 - 7
    assert Counter(r.modality for r in found.values()) == {"breath": 10, "voice": 10, "cough": 9}
    measured: dict[str, set[object]] = {}
    for recording in found.values():
        f = recording.findings
        measured.setdefault(recording.case_id, set()).add((f["fvc"], f["fev1"], f["fev1_fvc"]))
        assert isinstance(f["fvc"], float) and isinstance(f["fev1"], float) and f["fvc"] > f["fev1"]
        assert recording.person == recording.case_id
        resolve(MANIFEST, f)
    assert all(len(v) == 1 for v in measured.values())
    assert len(set.union(*measured.values())) == len(measured)  # nobody has another's sheet
    assert not bad_sound(archive, found)
    info = [soundfile.info(archive / r.member) for r in found.values()]
    assert {(i.samplerate, i.channels) for i in info} == {(44_100, 2), (16_000, 2)}


@pytest.mark.parametrize("phone", ["Trimmed Data from phone", "Trimmed_Data_from_phone"])
def test_all_eighteen_tasks_in_either_spelling_of_the_folder(tmp_path: Path, phone: str):
    for folder, task in TASKS.items():
        path = tmp_path / "mmlung data" / phone / folder / f"7_{task}.wav"
        path.parent.mkdir(parents=True)
        path.touch()
    sheet(tmp_path / "mmlung data", "7_x.xls", 4.1, 3.2, 78.0)
    found, refused = rows(tmp_path)
    assert not refused and len(found) == 18
    assert {r.findings["sound"] for r in found.values()} == set(MANIFEST.findings["sound"].words)
    modalities = {k.removeprefix("7_"): r.modality for k, r in found.items()}
    assert {k for k, m in modalities.items() if m == "breath"} == {"deepbreaths", "shallowbreath"}
    assert {k for k, m in modalities.items() if m == "cough"} == {"cough"}
    assert Counter(modalities.values())["voice"] == 15


def test_sheets_are_joined_by_number_not_by_the_order_of_their_names(tmp_path: Path):
    make(tmp_path, *(f"{DEEP}/{n}_deepbreaths.wav" for n in (1, 2, 10, 11)))
    for n in (10, 2, 11, 1):
        sheet(tmp_path, f"{n}.xls" if n == 11 else f"{n}_spirometry_of.xls", n + 0.5, 1.0, 0.5)
    found, refused = rows(tmp_path)
    assert not refused
    assert {k: r.findings["fvc"] for k, r in found.items()} == {
        f"{n}_deepbreaths": n + 0.5 for n in (1, 2, 10, 11)
    }


@pytest.mark.parametrize(
    ("cell", "value"),
    [("3.45*", 3.45), ("* 3.45 ", 3.45), (3.45, 3.45), (4, 4.0), ("3,45", None), ("", None),
     ("3.45 L", None), ("-", None), ("nan", None), ("-1.2", None), ("1e3", None)],
)  # fmt: skip
def test_cells_are_numbers_with_a_decimal_point_and_perhaps_an_asterisk(
    tmp_path: Path, cell: str | float, value: float | None
):
    sheet(make(tmp_path, f"{DEEP}/1_deepbreaths.wav"), "1_x.xls", cell, 3.0, 0.8)
    found, refused = rows(tmp_path)
    if value is None:
        assert refused[f"{DEEP}/1_deepbreaths.wav"].reason == "bad_metadata"
        assert f"1_x.xls: B23 is {str(cell)!r}" in refused[f"{DEEP}/1_deepbreaths.wav"].detail
    else:
        f = found["1_deepbreaths"].findings
        assert (f["fvc"], f["fev1"], f["fev1_fvc"]) == (value, 3.0, 0.8)


def test_units_that_nobody_states_are_not_made_up():
    units = {MANIFEST.findings[name].unit for name in ("fvc", "fev1", "fev1_fvc")}
    assert units == {"unit not stated"}
    assert MANIFEST.access == "request" and not MANIFEST.files
    assert "mtm1g19@soton.ac.uk" in MANIFEST.instructions
    assert MANIFEST.licence.agreement and MANIFEST.licence.commercial_use is False


def test_missing_double_and_unreadable_sheets(tmp_path: Path):
    make(tmp_path, *(f"{DEEP}/{n}_deepbreaths.wav" for n in range(1, 7)))
    sheet(tmp_path, "2_a.xls", 4.0, 3.0, 0.75)
    sheet(tmp_path, "2_b.xls", 4.0, 3.0, 0.75)
    sheet(tmp_path, "3_short.xls", 4.0, 3.0)
    xlsx(tmp_path / SHEETS / "4_new.xls", {"Sheet1": [["not", "legacy"]]})
    (tmp_path / SHEETS / "5_empty.xls").touch()
    (tmp_path / SHEETS / "6_page.xls").write_text("<html>")
    found, refused = rows(tmp_path)
    assert not found
    said = {n.rpartition("/")[2][0]: (r.reason, r.detail) for n, r in refused.items()}
    assert said["1"] == ("no_metadata", "no spirometry_ground_truth/1_*.xls")
    assert {reason for n, (reason, _) in said.items() if n != "1"} == {"bad_metadata"}
    assert "2 spirometry sheets: 2_a.xls, 2_b.xls" in said["2"][1]
    assert all(f"{n}_" in said[n][1] and "cannot be read" in said[n][1] for n in "3456")


def test_a_recording_that_is_missing_or_misplaced_is_reported(tmp_path: Path):
    bad = [
        f"{PHONE}/9_3_deepbreath/1_vowelo.wav",
        f"{PHONE}/5_2_O_single/vowelo_1.wav",
        f"{PHONE}/19_9_new/1_new.wav",
        "Trimmed Data from watch/1_1_cough/1_cough.wav",
    ]
    twice = f"Trimmed Data from phone/{Path(DEEP).name}/1_deepbreaths.wav"
    make(tmp_path, f"{DEEP}/1_deepbreaths.wav", f"{PHONE}/5_2_O_single/1_vowelo.wav", twice, *bad)
    sheet(tmp_path, "1_x.xls", 4.0, 3.0, 0.75)
    sheet(tmp_path, "2_x.xls", 4.0, 3.0, 0.75)
    found, refused = rows(tmp_path)
    assert sorted(found) == ["1_deepbreaths", "1_vowelo"]
    reasons = {n: r.reason for n, r in refused.items()}
    assert reasons == {
        **dict.fromkeys(bad, "bad_name"),
        f"{DEEP}/1_deepbreaths.wav": "bad_metadata",  # a space sorts before an underscore
        "2_deepbreaths.wav": "no_audio_file", "2_vowelo.wav": "no_audio_file",
    }  # fmt: skip


def test_a_folder_without_the_data_says_how_to_get_them(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"'Trimmed Data from phone/'.*on request only"):
        list(reader.read(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"needs spirometry_ground_truth/ in"):
        list(reader.read(make(tmp_path)))
