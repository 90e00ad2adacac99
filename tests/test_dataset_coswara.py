"""Coswara: the reader on a sample archive, on hand-made traps and on real rows and recordings."""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import worlds
from plain_persons import tasks_of
from worlds import SHARED, archive_of, bad_sound, digest, needs, recordings_table, write_small

from pipeline.findings import resolve
from pipeline.manifest import FOLDER, load
from pipeline.readers import coswara as reader
from pipeline.records import Recording
from pipeline.samples import coswara as sample

MANIFEST = load(FOLDER / "coswara.yaml")
REAL = SHARED / "real" / "coswara"
LISTS = SHARED / "reference" / "opera_splits" / "feature" / "coswara_eval"
ID, OTHER = "iV3Db6t1T8b7c5HQY2TwxIhjbzD3", "AxuYWBN0jFVLINCBqIW5aZmGCdu1"
rows = partial(worlds.rows, reader.read)
archive = archive_of(sample.write)


def who(what: str) -> str:
    return sample.special_id(1, what)


def of(entries: Mapping[str, object], what: str) -> set[str]:
    """The names among these that belong to the participant with whom this goes wrong."""
    return {n.rpartition("_")[2] for n in entries if n.startswith(f"{who(what)}_")}


def test_sample_archive_is_deterministic(archive: Path, tmp_path: Path):
    assert digest(archive) == digest(write_small(sample.write, tmp_path))


def test_each_trap_of_the_sample_ends_where_it_should(archive: Path):
    found, refused = rows(archive)
    reasons = {name.removeprefix("Extracted_data/"): r.reason for name, r in refused.items()}
    assert reasons.pop("202004015") == "bad_name"
    assert reasons.pop(who("no sound")) == "no_audio_file"
    assert of(found, "no shallow cough") == set(sample.TYPES[:3])
    assert reasons[f"{who('no shallow cough')}_cough-shallow"] == "no_audio_file"
    other = Counter(r for n, r in reasons.items() if n.rpartition("_")[2] not in sample.TYPES)
    assert other == {"no_metadata": 4, "bad_name": 2}
    (loud,) = (n for n in reasons if n.endswith("cough-loud.wav"))
    assert who("unknown sound") in loud
    assert {n.split("/")[1] for n, r in reasons.items() if r == "no_metadata"} == {
        who("undescribed")
    }
    assert of(found, "only a sidecar") == set(sample.TYPES[:4])
    assert len(of(found, "header only")) == 9, "audio is judged later"
    for native_id, recording in found.items():
        assert (archive / recording.member).is_file()
        assert recording.person == recording.case_id == native_id.partition("_")[0]
        resolve(MANIFEST, recording.findings)


def test_what_the_sample_says(archive: Path):
    found, _ = rows(archive)
    said = {what: found[f"{who(what)}_cough-heavy"].findings for what in sample.SPECIAL
            if f"{who(what)}_cough-heavy" in found}  # fmt: skip
    assert (said["under validation"]["test_status"], said["other"]["sex"]) == ("ut", "other")
    assert said["under validation"]["test_type"] == "False"
    # Empty is no answer, neither for a symptom nor for smoking.
    assert not {"symptoms", "conditions", "smoker"} & said["nothing ticked"].keys()
    # From the sidecar: true is True; a day and a grade it does not have.
    assert said["only a sidecar"]["smoker"] == "True"
    assert "st" in str(said["only a sidecar"]["symptoms"])
    assert not {"day", "quality"} & said["only a sidecar"].keys()
    assert (said["zeros"]["quality"], said["returning"]["returning_user"]) == ("0", "n")
    assert found[f"{who('returned')}_cough-heavy"].findings["returning_user"] == "y"
    spelt = {r.findings["smoker"] for r in found.values() if "smoker" in r.findings}
    assert (
        spelt
        == {"y", "n", "True", "TRUE", "False", "FALSE"}
        == {*MANIFEST.findings["smoker"].words}
    )
    dated = [r.row for r in found.values() if "record_date" in r.row]
    assert all(row["batch"] > row["record_date"].replace("-", "") for row in dated)
    header = (archive / "annotations" / "cough-heavy_labels.csv").read_bytes().splitlines()[0]
    assert header == b"FILENAME, QUALITY"
    assert {r.findings.get("quality") for r in found.values()} == {"0", "1", "2", None}


def test_sound_of_the_sample(archive: Path):
    found, _ = rows(archive)
    reasons = bad_sound(archive, found)
    by_reason: dict[str, set[str]] = defaultdict(set)
    for native_id, reason in reasons.items():
        by_reason[reason].add(native_id)
    empty = {f"{who('header only')}_{kind}" for kind in sample.TYPES}
    assert by_reason == {
        "header_only": empty | {f"{who('one header')}_counting-fast"},
        "silent": {
            f"{who('zeros')}_{k}" for k in ("breathing-deep", "cough-heavy", "cough-shallow")
        },
        "too_short": {f"{who('blip')}_breathing-deep"},
    }  # fmt: skip
    assert {(archive / found[name].member).stat().st_size for name in empty} == {44}
    infos = [soundfile.info(archive / found[n].member) for n in found.keys() - reasons.keys()]
    assert {(i.samplerate, i.subtype, i.channels) for i in infos} == {
        (48000, "PCM_16", 1), (44100, "PCM_16", 1),
    }  # fmt: skip


def test_both_classes_are_on_every_side(archive: Path):
    table = recordings_table("coswara", rows(archive)[0])
    tasks = tasks_of(table, {"coswara": MANIFEST}).rows
    seen = {(r["task"], r["fold"], r["label"]) for r in tasks}
    # Of the smokers few were asked; a tenth of the sample need not have one on every side.
    assert len({s for s in seen if s[0] != "coswara/smoker_asked"}) == 2 * 3 * 2
    assert {s[2] for s in seen if s[0] == "coswara/smoker_asked"} == {0, 1}
    assert all(r["recording_id"].endswith("cough-shallow") for r in tasks)


def make(
    root: Path, people: Mapping[str, Mapping[str, str]], files: list[str],
    grades: Mapping[str, str] | None = None,
) -> Path:  # fmt: skip
    """An archive with these rows of the table, these empty files and these grades."""
    root.mkdir(exist_ok=True)
    with (root / "combined_data.csv").open("w", newline="") as lines:
        table = csv.DictWriter(lines, sample.COLUMNS, restval="")
        table.writeheader()
        table.writerows({"id": person, **cells} for person, cells in people.items())
    (root / "annotations").mkdir()
    for name, grade in (grades or {"nobody_cough-heavy": "2"}).items():
        path = root / "annotations" / f"{name.partition('_')[2]}_labels.csv"
        path.write_text(f"FILENAME, QUALITY\r\n{name},{grade}\r\n", newline="")
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_participant_in_the_raw_layout(tmp_path: Path):
    cells = {"a": "28", "covid_status": "under_validation", "record_date": "2020-04-23",
             "g": "female", "l_c": "India", "l_l": " Kurnool ", "rU": "y", "smoker": "FALSE",
             "cold": "True", "cough": "True", "asthma": "True", "testType": "rtpcr",
             "test_status": "ut", "um": "n", "vacc": "p"}  # fmt: skip
    files = [f"20200424/{ID}/{kind}.wav" for kind in sample.TYPES]
    name = f"{ID}_vowel-a"
    found, refused = rows(make(tmp_path, {ID: cells}, files, {name: "1"}))
    assert not refused
    common = {
        "sex": "female", "age": 28, "day": 10, "covid_status": "under_validation",
        "smoker": "FALSE", "test_status": "ut", "test_type": "rtpcr", "vaccination": "p",
        "mask": "n", "returning_user": "y", "symptoms": ("cold", "cough"),
        "conditions": ("asthma",),
    }  # fmt: skip
    assert found[name] == Recording(
        native_id=name, member=f"20200424/{ID}/vowel-a.wav", modality="voice", case_id=ID,
        person=ID, findings={"recording_type": "vowel-a", "quality": "1", **common},
        row={"id": ID, **cells, "batch": "20200424", "QUALITY": "1"},
    )  # fmt: skip
    # Without a row in the annotations the grade is not recorded.
    assert found[f"{ID}_cough-heavy"].findings == {"recording_type": "cough-heavy", **common}
    assert Counter(r.modality for r in found.values()) == {"breath": 2, "cough": 2, "voice": 5}
    said = resolve(MANIFEST, found[name].findings)
    assert (said["smoker"].word, said["smoker"].status) == ("non-smoker", "absent")
    assert said["test_status"].status == said["covid_status"].status == "unknown"


def test_one_root_is_read_and_what_else_lies_there_is_refused(tmp_path: Path):
    here = f"Extracted_data/20200424/{ID}"
    found, refused = rows(make(tmp_path, {ID: {}, OTHER: {}}, [
        f"{here}/cough-heavy.wav", f"20200424/{ID}/cough-heavy.wav", "20200424/20200424.csv",
        f"Extracted_data/20200515/{ID}/cough-heavy.wav", "Extracted_data/20200424/loose.wav",
        f"{here}/cough-heavy (1).wav", f"{here}/notes.txt", "Extracted_data/202004015/split_9",
        f"Extracted_data/20200424/{ID[:-1]}-/cough-heavy.wav", "Extracted_data/new/vowel-a.wav",
        "Extracted_data/scripts/plot.py",
    ]))  # fmt: skip
    assert [r.member for r in found.values()] == [f"{here}/cough-heavy.wav"]
    reasons = {n: r.reason for n, r in refused.items() if not n.startswith(f"{ID}_")}
    assert reasons == {
        ".": "bad_metadata",
        f"Extracted_data/20200515/{ID}": "bad_metadata",
        "Extracted_data/20200424/loose.wav": "bad_name",
        f"{here}/cough-heavy (1).wav": "bad_name",
        "Extracted_data/202004015": "bad_name",
        f"Extracted_data/20200424/{ID[:-1]}-": "bad_name",
        "Extracted_data/new": "bad_name",
        OTHER: "no_audio_file",
    }
    assert Counter(r.reason for r in refused.values())["no_audio_file"] == 8 + 1


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"a": "twenty"}, "bad_metadata"),
        ({"record_date": "23/04/2020"}, "bad_metadata"),
        ({"fever": "yes"}, "bad_metadata"),
        ({"fever": "False", "a": "28"}, None),
    ],
)
def test_unreadable_cells_are_refused(tmp_path: Path, cells: dict[str, str], reason: str | None):
    file = f"20200424/{ID}/cough-heavy.wav"
    found, refused = rows(make(tmp_path, {ID: cells}, [file]))
    assert (refused[file].reason if file in refused else None) == reason
    assert all("symptoms" not in r.findings for r in found.values())


@pytest.mark.parametrize(
    ("sidecar", "reason"),
    [
        (None, "no_metadata"),
        ("{", "bad_metadata"),
        ("[]", "bad_metadata"),
        (json.dumps({"a": 30, "g": "male", "smoker": True, "ht": True, "st": False}), None),
    ],
)  # fmt: skip
def test_people_whom_the_table_leaves_out(tmp_path: Path, sidecar: str | None, reason: str | None):
    file = f"20200424/{ID}/cough-heavy.wav"
    make(tmp_path, {}, [file])
    if sidecar is not None:
        (tmp_path / file).with_name("metadata.json").write_text(sidecar)
    found, refused = rows(tmp_path)
    assert (refused[file].reason if file in refused else None) == reason
    for recording in found.values():
        assert recording.findings == {
            "recording_type": "cough-heavy", "age": 30, "sex": "male", "smoker": "True",
            "conditions": ("ht",),
        }  # fmt: skip
        assert recording.row == {"metadata.json": sidecar, "batch": "20200424"}


def test_a_second_row_and_missing_tables(tmp_path: Path):
    make(tmp_path, {ID: {"a": "28"}}, [f"20200424/{ID}/cough-heavy.wav"])
    table = tmp_path / "combined_data.csv"
    table.write_text(table.read_text() + f"{ID},82\n")
    found, refused = rows(tmp_path)
    assert refused[ID].reason == "bad_metadata"
    assert found[f"{ID}_cough-heavy"].findings["age"] == 28
    (tmp_path / "annotations" / "cough-heavy_labels.csv").unlink()
    with pytest.raises(FileNotFoundError, match="annotations/"):
        list(reader.read(tmp_path))
    table.unlink()
    with pytest.raises(FileNotFoundError, match=r"needs combined_data\.csv"):
        list(reader.read(tmp_path))


@needs(REAL)
def test_real_recordings():
    found, refused = rows(REAL)
    assert len(found) == 79
    # 2,729 of 2,746 people have no sound here; the others lack 74 of their 153 recordings.
    assert Counter(r.reason for r in refused.values()) == {"no_audio_file": 2729 + 74}
    for recording in found.values():
        resolve(MANIFEST, recording.findings)
        assert recording.row["batch"] >= recording.row["record_date"].replace("-", "")
    assert bad_sound(REAL, found) == {
        **{f"TRK6gUseEUS7dbF0soG80W1uLm53_{kind}": "header_only" for kind in sample.TYPES},
        "VcmjCfW6ddgE9lFhDXTO6hDlb452_counting-fast": "header_only",
        "KGWBaTNrJmUgzGZw5Xh2ICSHVu92_breathing-deep": "silent",
        "U98J2q0NnycYzzUS2BYZpUa55X83_breathing-deep": "silent",
        "U98J2q0NnycYzzUS2BYZpUa55X83_cough-heavy": "silent",
        "U98J2q0NnycYzzUS2BYZpUa55X83_cough-shallow": "silent",
        "O4BFgxvAgwbwRGZMkMBJRFnGBbd2_vowel-e": "too_short",
    }
    assert found["U7UmNZmqS6OWTiDkM7IfqkDRrae2_cough-heavy"].findings == {
        "recording_type": "cough-heavy", "quality": "2", "sex": "male", "age": 26, "day": 0,
        "covid_status": "resp_illness_not_identified", "symptoms": ("fever",),
        "conditions": ("ht",),
    }  # fmt: skip


@needs(REAL)
def test_real_sidecars_say_what_the_table_says():
    """So that a person whom the table leaves out is described alike."""
    table = {r.person: r.findings for r in rows(REAL)[0].values()}
    for path in sorted(REAL.rglob("metadata.json")):
        cells, _ = reader._metadata(path.parent, None)
        said = {k: v for k, v in table[path.parent.name].items()
                if k not in ("recording_type", "quality", "day")}  # fmt: skip
        assert reader._findings(cells) == said


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    """The shallow cough of everybody in the real table but the one who has none."""
    root = tmp_path_factory.mktemp("whole")
    for name in ("combined_data.csv", "annotations"):
        (root / name).symlink_to(REAL / name)
    with (REAL / "combined_data.csv").open(newline="") as lines:
        people = {row["id"] for row in csv.DictReader(lines)}
    for person in people - {"9hftEYixyhP1Neeq3fB7ZwITQC53"}:
        (root / "20220224" / person).mkdir(parents=True)
        (root / "20220224" / person / "cough-shallow.wav").touch()
    return rows(root)[0]


@needs(REAL)
def test_every_code_of_the_real_table_has_a_word(whole: dict[str, Recording]):
    assert len(whole) == 2745
    for recording in whole.values():
        resolve(MANIFEST, recording.findings)
    count = {
        name: Counter(r.findings.get(name) for r in whole.values())
        for name in ("quality", "returning_user", "smoker", "test_type")
    }
    assert count["quality"] == {"2": 2239, "1": 325, "0": 181}
    assert count["returning_user"]["y"] == 63 and count["test_type"]["False"] == 13
    both = Counter(
        (r.findings["covid_status"], r.findings.get("test_status")) for r in whole.values()
    )
    assert [k for k in both if "ut" in k] == [("under_validation", "ut")]
    # Non-smokers are known from the second form alone.
    day = {c: {int(str(r.findings["day"])) for r in whole.values() if r.findings.get("smoker") == c}
           for c in ("n", "False", "y", "True")}  # fmt: skip
    assert min(day["n"] | day["False"] | day["y"]) > 365 and max(day["True"]) < 450


@needs(LISTS)
@needs(REAL)
@pytest.mark.parametrize(("task", "unreadable"), [("sex", 1), ("smoker", 0)])
def test_tasks_select_what_was_published(whole: dict[str, Recording], task: str, unreadable: int):
    table = recordings_table("coswara", whole)
    tasks = tasks_of(table, {"coswara": MANIFEST}).rows
    ours = {r["case_id"].partition("/")[2]: r["label"] for r in tasks
            if (r["task"], r["variant"]) == (f"coswara/{task}", "subject_clean")}  # fmt: skip

    def published(files: str, labels: str) -> dict[str, int]:
        names = [str(n).split("/")[-2] for n in np.load(LISTS / files)]
        return dict(zip(names, np.load(LISTS / labels).tolist(), strict=True))

    all_good = published(
        f"entireaudio_filenames_cough-shallow_w_{task}.npy", f"{task}_label_cough-shallow.npy"
    )
    assert all_good.items() <= ours.items()
    assert len(ours) == len(all_good) + unreadable
    # Scored there are those whose heavy cough is good too.
    scored = published(
        f"cough_aligned_filenames_{task}_w_cough-shallow.npy",
        f"cough_aligned_{task}_label_cough-shallow.npy",
    )
    assert scored.items() <= ours.items()
    assert (len(ours), len(scored)) == {"sex": (2564, 2496), "smoker": (992, 948)}[task]
