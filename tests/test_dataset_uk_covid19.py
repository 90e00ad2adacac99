"""UK COVID-19: reader on the sample archive, on hand-made traps, on real file names; reports."""

import csv
from collections import Counter, defaultdict
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from worlds import SHARED, archive_of, needs

from pipeline import manifest
from pipeline.readers import uk_covid19 as reader
from pipeline.records import Recording, Rejected
from pipeline.samples import uk_covid19 as sample
from pipeline.steps.reports import render

REAL = SHARED / "real" / "uk_covid19"
LISTS = SHARED / "reference" / "opera_splits" / "datasets" / "covidUK"
needs_real = needs(REAL)
SPEC = manifest.load(manifest.FOLDER / "uk_covid19.yaml")
FILE = "47184_tLMeaLSsKRRJudkQ.wav"
archive = archive_of(sample.write, seed=3)


@pytest.fixture(scope="module")
def entries(archive) -> list[Recording | Rejected]:
    return list(reader.read(archive))


@pytest.fixture(scope="module")
def special(archive) -> dict[str, dict[str, str]]:
    """What is wrong with a participant of the sample -> that participant's row of audio."""
    rows = table(archive / "audio_metadata.csv")
    return dict(zip(sample._SPECIAL, rows[-len(sample._SPECIAL) :], strict=True))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def recordings(entries) -> dict[str, Recording]:
    return {f"{e.native_id}.wav": e for e in entries if isinstance(e, Recording)}


def refused(entries) -> dict[str, str]:
    return {e.name: e.reason for e in entries if isinstance(e, Rejected)}


def small(root: Path, audio=(), who=(), split=()) -> list[Recording | Rejected]:
    """Read an archive of participant P0000001 with a cough, changed by these columns."""
    (root / "audio").mkdir()
    (root / "audio" / FILE).touch()
    person = {"participant_identifier": "P0000001"}
    sounds = {f"{s}_{m}": "" for s in ("exhalation", "cough", "three_cough")
              for m in ("file_name", "size")}  # fmt: skip
    sounds |= {"cough_file_name": FILE, "cough_size": "344108.0"} | dict(audio)
    answers = dict.fromkeys(sample._COLUMNS, "") | {"recruitment_source": "Test and Trace"}
    rows = {
        "audio_metadata.csv": person | sounds,
        "participant_metadata.csv": answers | person | dict(who),
        "train_test_splits.csv": person | {"splits": "train"} | dict(split),
    }
    for name, row in rows.items():
        (root / name).write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    return [e for e in reader.read(root) if not (isinstance(e, Rejected) and " " in e.name)]


def test_every_row_and_every_file_of_the_sample_is_accounted_for_once(archive, entries):
    named = [row[f"{s}_file_name"] or f"{row['participant_identifier']} {s}"
             for row in table(archive / "audio_metadata.csv")
             for s in ("exhalation", "cough", "three_cough")]  # fmt: skip
    files = {p.name for p in (archive / "audio").iterdir()}
    (stray,) = files - set(named)
    names = [f"{e.native_id}.wav" if isinstance(e, Recording) else e.name for e in entries]
    assert Counter(names) == Counter([*named, stray])
    found, reasons = recordings(entries), refused(entries)
    assert reasons[stray] == "no_metadata"
    assert all(f"audio/{name}" == r.member for name, r in found.items())
    assert all(reason == "no_audio_file" for name, reason in reasons.items() if " " in name)
    people = {r.person for r in found.values()}
    assert len(people) == len(table(archive / "participant_metadata.csv"))
    assert {r.modality for r in found.values() if r.findings["sound"] == "exhalation"} == {"breath"}
    assert {r.modality for r in found.values() if r.findings["sound"] != "exhalation"} == {"cough"}
    assert {n[2] == "-" for n in found} == {True, False}, "both grammars of names"


def test_each_trap_of_the_sample_ends_where_it_should(archive, entries, special):
    found, reasons = recordings(entries), refused(entries)
    bare = archive / "audio" / special["header only"]["cough_file_name"]
    assert bare.stat().st_size == 44 and special["header only"]["cough_size"] == "44.0"
    assert reasons[bare.name] == "header_only"
    assert special["size missing"]["exhalation_size"] == ""
    assert reasons[special["size missing"]["exhalation_file_name"]] == "no_audio_file"
    assert reasons[special["lost"]["exhalation_file_name"]] == "no_audio_file"
    nameless = special["no name"]["participant_identifier"]
    assert reasons[f"{nameless} exhalation"] == "no_audio_file"
    assert reasons[special["not a participant"]["cough_file_name"]] == "no_metadata"
    assert found[special["no split"]["cough_file_name"]].official_split is None
    said = {what: found[row["cough_file_name"]].findings for what, row in special.items()
            if row["cough_file_name"] in found}  # fmt: skip
    assert "symptoms" not in said["contradiction"]
    assert said["reticent"]["symptoms"] == ("prefer_not_to_say",)
    assert "other_respiratory_condition" not in said["reticent"]
    assert said["unknown"]["covid_test_result"] == "Unknown/Void"
    assert not {"covid_test_result", "covid_test_method", "age"} & said["untested"].keys()


def test_audio_of_the_sample(archive, special, entries):
    def seconds(what: str) -> float:
        with av.open(str(archive / "audio" / special[what]["cough_file_name"])) as file:
            return sum(f.samples / f.sample_rate for f in file.decode(audio=0))

    assert seconds("blip") == pytest.approx(0.3, abs=0.01)
    assert seconds("truncated") == pytest.approx(
        float(special["truncated"]["cough_length"]) / 2, abs=0.05
    )
    sound, _ = soundfile.read(archive / "audio" / special["silent"]["exhalation_file_name"])
    assert not np.any(sound)
    rates = set()
    for row in table(archive / "audio_metadata.csv"):
        if row["participant_identifier"] != special["truncated"]["participant_identifier"]:
            path = archive / "audio" / row["cough_file_name"]
            info = soundfile.info(path)
            rates.add(info.samplerate)
            assert (info.samplerate, info.channels, path.stat().st_size) == (
                float(row["cough_sample_rate"]), float(row["cough_channels"]),
                float(row["cough_size"]),
            )  # fmt: skip
    assert rates == {48000, 44100, 16000}
    assert float(special["stereo"]["cough_channels"]) == 2


def test_each_side_of_the_sample_has_both_results(entries):
    sides: dict[tuple[str, str], set[str]] = defaultdict(set)
    positive: list[bool] = []
    for r in recordings(entries).values():
        result = r.findings.get("covid_test_result")
        sides[str(r.official_split), str(r.findings["sound"])].add(str(result))
        if result in ("Positive", "Negative"):
            positive.append(result == "Positive")
    for side in ("train", "val", "test", "None"):
        for sound in ("exhalation", "cough"):
            assert sides[side, sound] >= {"Positive", "Negative"}
    assert 0.35 < np.mean(positive) < 0.5


def test_a_participant(tmp_path):
    who = {
        "age": "18-44", "gender": "Female", "covid_test_result": "Positive",
        "covid_test_method": "Dual PCR", "covid_ct_mean": "21.5", "symptom_fatigue": "1.0",
        "symptom_none": "0", "symptom_onset": "3.0", "respiratory_condition_asthma": "0.0",
        "respiratory_condition_other": "NaN", "recruitment_source": "REACT1 Round 14",
    }  # fmt: skip
    (entry,) = small(tmp_path, who=who.items(), split={"splits": "val"}.items())
    assert isinstance(entry, Recording)
    assert entry.findings == {
        "sound": "cough", "age": "18-44", "sex": "Female", "covid_test_result": "Positive",
        "covid_test_method": "PCR", "covid_ct_mean": 21.5, "symptoms": ("fatigue",),
        "asthma": False, "recruitment_source": "REACT",
    }  # fmt: skip
    assert (entry.person, entry.case_id, entry.official_split) == ("P0000001", "P0000001", "val")


@pytest.mark.parametrize(
    ("ticked", "symptoms"),
    [
        ({"none": "1"}, ("none",)),
        ({"none": "1", "headache": "1"}, None),
        ({"prefer_not_to_say": "1", "headache": "1"}, None),
        ({"none": "0", "headache": "0"}, None),
        ({"cough_any": "1", "new_continuous_cough": "1"}, ("cough_any", "new_continuous_cough")),
    ],
)
def test_contradictory_symptoms_are_not_recorded(tmp_path, ticked, symptoms):
    (entry,) = small(tmp_path, who={f"symptom_{k}": v for k, v in ticked.items()}.items())
    assert isinstance(entry, Recording)
    assert entry.findings.get("symptoms") == symptoms


@pytest.mark.parametrize(
    ("changed", "name", "reason"),
    [
        ({"audio": {"cough_size": "44.0"}}, FILE, "header_only"),
        ({"audio": {"cough_size": "NaN"}}, FILE, "header_only"),
        ({"audio": {"cough_size": "big"}}, FILE, "bad_metadata"),
        ({"audio": {"exhalation_file_name": "../x.wav"}}, "../x.wav", "bad_name"),
        ({"audio": {"three_cough_file_name": FILE}}, FILE, "bad_metadata"),  # named twice
        ({"split": {"splits": "dev"}}, FILE, "bad_metadata"),
        ({"who": {"symptom_fever_high_temperature": "2"}}, FILE, "bad_metadata"),
        ({"who": {"participant_identifier": "P0000002"}}, "P0000002", "no_audio_file"),
    ],
)  # fmt: skip
def test_what_cannot_be_used(tmp_path, changed, name, reason):
    found = small(tmp_path, **{table: columns.items() for table, columns in changed.items()})
    assert refused(found)[name] == reason


@pytest.mark.parametrize(("split", "side"), [("long", None), ("Not used", None), ("test", "test")])
def test_sides(tmp_path, split, side):
    (entry,) = small(tmp_path, split={"splits": split}.items())
    assert isinstance(entry, Recording) and entry.official_split == side


@pytest.mark.parametrize("name", ["audio", "participant_metadata.csv", "train_test_splits.csv",
                                  "audio_metadata.csv"])  # fmt: skip
def test_a_missing_part_of_the_archive_is_named(tmp_path, name):
    small(tmp_path)
    (tmp_path / name).rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match=name):
        list(reader.read(tmp_path))


@needs_real
def test_real_file_names_follow_the_grammar():
    lists = sorted(LISTS.glob("*.npy"))
    names = [str(n) for path in lists for n in np.load(path)]
    assert len(names) == 5000
    for path in sorted(REAL.glob("*.csv")):
        names += [row[k] for row in table(path) for k in row if k.endswith("file_name") and row[k]]
    assert len(names) > 5100
    assert [n for n in names if not reader._NAME.fullmatch(n)] == []
    assert {row["splits"] for row in table(REAL / "ukcovid_audio_cohort_excerpt.csv")} <= set(
        reader._SIDES
    )


def report(omit=(), **findings) -> str:
    return render(SPEC, "uk_covid19/x", findings, omit).text


def test_a_full_and_a_strict_report():
    told = {
        "sound": "exhalation", "age": "18-44", "sex": "Female", "smoker_status": "Ex-smoker",
        "asthma": True, "other_respiratory_condition": False,
        "symptoms": ("cough_any", "new_continuous_cough", "fever_high_temperature"),
        "covid_test_result": "Positive", "covid_test_method": "PCR", "covid_ct_mean": 21.54,
        "influenza_a_test_result": "Negative", "influenza_b_test_result": "Negative",
        "recruitment_source": "REACT",
    }  # fmt: skip
    strict = (
        "The participant reported a new continuous cough and fever. The participant reported "
        "asthma but no other respiratory condition. The recording holds an exhalation of a female "
        "participant aged 18 to 44 in an online survey. By self-report, the participant is an "
        "ex-smoker."
    )
    assert report(SPEC.strict_masks, **told) == strict
    assert report(**told) == strict + (
        " The linked SARS-CoV-2 PCR test was positive. Its mean cycle threshold (Ct) was 21.5. "
        "Tests for influenza A and B were both negative."
    )
    every = set(SPEC.findings["symptoms"].words) - {"none", "prefer_not_to_say"}
    long = report(**told | {"symptoms": tuple(sorted(every))})
    assert "influenza" not in long and "(Ct) was 21.5" in long  # room for the symptoms


def test_reports_of_unknown_and_missing_values():
    assert report(sound="three_cough") == (
        "The recording holds three volitional coughs of a participant in an online survey, through "
        "the web browser of their own device."
    )
    unknown = {
        "sound": "cough", "sex": "Unknown", "age": "65+", "smoker_status": "Prefer not to say",
        "symptoms": ("prefer_not_to_say",), "covid_test_result": "Unknown/Void",
        "covid_test_method": "LAMP",
    }  # fmt: skip
    assert report(**unknown) == (
        "The participant preferred not to say whether they had symptoms. The recording holds a "
        "volitional cough of a participant of unknown sex aged 65 or over in an online survey, "
        "through the web browser of their own device. Asked about smoking, the participant "
        "preferred not to say. The result of the linked SARS-CoV-2 LAMP test is unknown or void."
    )
    partial = {
        "sound": "cough", "sex": "Male", "other_respiratory_condition": True,
        "symptoms": ("none",), "covid_test_result": "Negative", "covid_test_method": "Unknown",
        "influenza_a_test_result": "Positive", "influenza_b_test_result": "Negative",
    }  # fmt: skip
    assert report(**partial) == (
        "The participant reported no symptoms. By self-report, the participant has a respiratory "
        "condition other than asthma. The recording holds a volitional cough of a male participant "
        "in an online survey. The linked SARS-CoV-2 test was negative. The influenza A test was "
        "positive, the influenza B test negative."
    )
