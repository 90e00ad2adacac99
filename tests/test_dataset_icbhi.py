"""ICBHI: the reader on a sample archive, on hand-made traps and on real metadata; the reports."""

import tarfile
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import soundfile
import worlds
from conftest import TinyIcbhi, tone
from worlds import SHARED, archive_of, bad_sound, digest, needs, write_small

from pipeline.findings import UnknownCode, resolve
from pipeline.manifest import FOLDER, load
from pipeline.readers import icbhi as reader
from pipeline.records import Value
from pipeline.samples import icbhi as sample
from pipeline.steps import audio
from pipeline.steps.reports import render

MANIFEST = load(FOLDER / "icbhi.yaml")
REAL = SHARED / "real" / "icbhi"
needs_real = needs(REAL)
AUDIO = "ICBHI_final_database"
PEOPLE = "ICBHI_Challenge_demographic_information.txt"
SPLIT = "ICBHI_challenge_train_test.txt"
rows = partial(worlds.rows, reader.read)
archive = archive_of(sample.write)


def test_sample_archive_is_deterministic(archive: Path, tmp_path: Path):
    assert digest(write_small(sample.write, tmp_path)) == digest(archive)


def test_every_wav_and_every_listed_name_is_accounted_for(archive: Path):
    found, refused = rows(archive)
    wavs = {p.name for p in (archive / AUDIO).glob("*.wav")}
    assert {f"{k}.wav" for k in found} | {"227_9b1_Tc_mc_AKGC417L.wav"} == wavs
    assert Counter(r.reason for r in refused.values()) == {"no_audio_file": 1, "no_metadata": 1}
    assert refused["227_9b1_Tc_mc_AKGC417L.wav"].detail == (
        "not in the demographic information nor in the diagnoses nor in the train/test list"
    )
    assert len({r.person for r in found.values()}) == 12
    listed = (archive / SPLIT).read_bytes().decode().split("\r\n")
    assert len(listed) - 1 == len(found) + 1  # one row without a file
    assert {r.findings["diagnosis"] for r in found.values()} >= {"COPD", "Healthy"}


def test_rates_and_depths_are_mixed_and_broken_sound_is_passed_on(archive: Path):
    found, _ = rows(archive)
    infos = [soundfile.info(archive / r.member) for r in found.values()]
    kinds = {(i.samplerate, i.subtype) for i in infos}
    assert kinds == {(44_100, f"PCM_{bits}") for bits in (16, 24, 32)} | {
        (4000, "PCM_16"), (10_000, "PCM_16"),
    }  # fmt: skip
    assert sorted(bad_sound(archive, found).values()) == ["silent", "truncated"]


def test_two_persons_are_on_both_sides(archive: Path):
    found, _ = rows(archive)
    sides: dict[str | None, set[str | None]] = {}
    for recording in found.values():
        sides.setdefault(recording.person, set()).add(recording.official_split)
    assert Counter(len(s) for s in sides.values()) == {1: 10, 2: 2}


def test_missing_measures_stay_missing(archive: Path):
    found, _ = rows(archive)
    recorded: dict[str | None, frozenset[str]] = {}
    for recording in found.values():
        measures = {"age", "sex", "bmi", "weight", "height"} & recording.findings.keys()
        recorded[recording.person] = frozenset(measures)
    kinds = Counter(recorded.values())
    assert kinds[frozenset()] == 1  # the patient of whom nothing is known
    assert kinds[frozenset({"age", "sex"})] == 1  # the adult without body mass index
    assert kinds[frozenset({"age", "sex", "weight"})] == 1  # the child without height
    for recording in found.values():
        f = recording.findings
        if "bmi" in f:
            assert isinstance(f["age"], float) and f["age"] >= 18 and "weight" not in f


def test_cycles_count_crackles_and_wheezes(tiny_archive: TinyIcbhi):
    stem = "101_1b1_Tc_sc_Meditron"
    tiny_archive.wav(stem).with_suffix(".txt").write_text(
        "0.036\t0.579\t0\t0\n8.2502\t12.6181\t1\t1\n12.6181\t13.25\t0\t1\n"
    )
    prose = tiny_archive.wav("filename_format").with_suffix(".txt")
    prose.write_text("Elements contained in the filenames:\n")
    found, refused = rows(tiny_archive.root)
    f = found[stem].findings
    assert (f["cycles"], f["crackle_cycles"], f["wheeze_cycles"]) == (3, 1, 2)
    assert not refused


def test_the_order_is_body_mass_index_weight_height(tiny_archive: TinyIcbhi):
    tiny_archive.people["101"] = ("3", "F", "NA", "19", "99")
    tiny_archive.people["102"] = ("70", "F", "28.47", "NA", "NA")
    tiny_archive.save()
    found, _ = rows(tiny_archive.root)
    child, adult = (found[f"{n}_1b1_Tc_sc_Meditron"].findings for n in ("101", "102"))
    assert (child["weight"], child["height"]) == (19, 99) and "bmi" not in child
    assert adult["bmi"] == 28.47 and not {"weight", "height"} & adult.keys()


@pytest.mark.parametrize(
    ("cycles", "detail"),
    [
        ("0.5\t0.1\t0\t0\n", "reversed"),
        ("0.1\t0.5\t0\t2\n", "neither 0 nor 1"),
        ("0.1 0.5 0 0\n", "not enough values"),
        ("", "lists no cycle"),
        (None, "there is no"),
    ],
)
def test_an_unreadable_cycle_file_refuses_its_recording_only(
    tiny_archive: TinyIcbhi, cycles: str | None, detail: str
):
    stem = "101_1b1_Tc_sc_Meditron"
    path = tiny_archive.wav(stem).with_suffix(".txt")
    path.unlink() if cycles is None else path.write_text(cycles)
    found, refused = rows(tiny_archive.root)
    assert len(found) == 15
    assert refused[f"{stem}.wav"].reason == "bad_metadata"
    assert detail in refused[f"{stem}.wav"].detail


def test_bad_rows_and_names_are_refused_and_unknown_words_passed_on(tiny_archive: TinyIcbhi):
    tiny_archive.people["101"] = ("61", "F", "24.5")
    tiny_archive.sides["102_1b1_Tc_sc_Meditron"] = "validation"
    tiny_archive.diagnoses["103"] = "Gout"
    tiny_archive.sides["226_1b1_Pl_sc_Meditron"] = "train"
    tiny_archive.save()
    tiny_archive.wav("104_1b1_Zz_sc_Meditron").write_bytes(b"")
    soundfile.write(tiny_archive.wav("._105_1b1_Tc_sc_Meditron"), tone(100), 4000)
    found, refused = rows(tiny_archive.root)
    assert {name: r.reason for name, r in refused.items()} == {
        "101_1b1_Tc_sc_Meditron.wav": "bad_metadata",
        "101_1b2_Tc_sc_Meditron.wav": "bad_metadata",
        "102_1b1_Tc_sc_Meditron.wav": "bad_metadata",
        "104_1b1_Zz_sc_Meditron.wav": "bad_name",
        "._105_1b1_Tc_sc_Meditron.wav": "bad_name",
        "226_1b1_Pl_sc_Meditron.wav": "no_audio_file",
    }
    with pytest.raises(UnknownCode, match="Gout"):
        resolve(MANIFEST, found["103_1b1_Tc_sc_Meditron"].findings)


def test_a_missing_side_file_says_what_to_do(tiny_archive: TinyIcbhi):
    (tiny_archive.root / PEOPLE).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{PEOPLE}: download it and put it beside"):
        list(reader.read(tiny_archive.root))


@needs_real
def test_real_recordings():
    found, refused = rows(REAL)
    assert len(found) == 6
    assert Counter(r.reason for r in refused.values()) == {"no_audio_file": 915}
    heard = {audio.normalise(REAL / r.member).native_format for r in found.values()}
    assert heard == {"WAV/PCM_16", "WAV/PCM_24", "WAV/PCM_32"}
    f = found["104_1b1_Al_sc_Litt3200"].findings
    assert (f["age"], f["sex"], f["bmi"], f["diagnosis"]) == (70.0, "F", 28.47, "COPD")


@needs_real
def test_real_metadata_of_all_920_recordings(tmp_path: Path):
    """The wavs are empty files: a reader looks at names and metadata only."""
    for path in REAL.glob("ICBHI_*.txt"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    folder = tmp_path / AUDIO
    folder.mkdir()
    with tarfile.open(REAL / "cycle_txt_all_920.tar.gz") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content:
                path = folder / Path(member.name).name
                path.write_bytes(content.read())
                path.with_suffix(".wav").touch()
    found, refused = rows(tmp_path)
    assert list(refused) == ["226_1b1_Pl_sc_Meditron.wav"]
    assert Counter(r.official_split for r in found.values()) == {"train": 539, "test": 381}
    both = {
        r.person for r in found.values() if r.official_split == "test"
    } & {r.person for r in found.values() if r.official_split == "train"}  # fmt: skip
    assert both == {"156", "218"}
    total: Counter[str] = Counter()
    for recording in found.values():
        resolve(MANIFEST, recording.findings)
        total.update({
            k: int(v)
            for k, v in recording.findings.items()
            if k.endswith("cycles") and isinstance(v, int)
        })  # fmt: skip
    assert total == {
        "cycles": 6898, "crackle_cycles": 1864 + 506, "wheeze_cycles": 886 + 506,
    }  # fmt: skip
    diagnoses = Counter(r.findings["diagnosis"] for r in found.values())
    assert (diagnoses["COPD"], diagnoses["Healthy"]) == (793, 35)
    nothing = [r for r in found.values() if r.person == "223"]
    assert nothing and all("age" not in r.findings and "sex" not in r.findings for r in nothing)


FULL: dict[str, Value] = {
    "age": 70.0, "sex": "F", "bmi": 28.47, "location": "Al", "mode": "sc", "device": "Litt3200",
    "cycles": 14, "crackle_cycles": 3, "wheeze_cycles": 10, "diagnosis": "COPD",
}  # fmt: skip


FULL_TEXT = (
    "The lung sounds are those of a 70-year-old female patient. The sound was recorded over the "
    "left anterior chest with a 3M Littmann 3200 electronic stethoscope, in sequential "
    "single-channel acquisition. Crackles were annotated in 3 and wheezes in 10 of 14 breathing "
    "cycles. Body mass index: 28.5 kg/m2. The recorded diagnosis is chronic obstructive pulmonary "
    "disease."
)


def test_report_of_a_patient():
    assert render(MANIFEST, "icbhi/104_1b1_Al_sc_Litt3200", FULL).text == FULL_TEXT
    strict = render(MANIFEST, "icbhi/104_1b1_Al_sc_Litt3200", FULL, MANIFEST.strict_masks).text
    assert strict == FULL_TEXT.removesuffix(
        " The recorded diagnosis is chronic obstructive pulmonary disease."
    )


def test_report_of_a_patient_of_whom_nothing_is_known():
    known = {k: v for k, v in FULL.items() if k not in ("age", "sex", "bmi")}
    known |= {"crackle_cycles": 0, "wheeze_cycles": 0, "diagnosis": "Healthy"}
    assert render(MANIFEST, "icbhi/223_1b1_Al_sc_Litt3200", known).text == (
        "The patient is recorded as healthy. Recorded over the left anterior chest with a 3M "
        "Littmann 3200 electronic stethoscope in sequential single-channel acquisition. No "
        "crackles or wheezes were annotated in 14 breathing cycles."
    )


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ((1, 1, 1), "There are crackles and wheezes in the only annotated breathing cycle."),
        ((2, 2, 0), "Crackles were annotated in both breathing cycles, but no wheezes."),
        ((5, 5, 2), "Crackles were annotated in all five breathing cycles and wheezes in two."),
        ((5, 1, 5), "Wheezes were annotated in all five breathing cycles and crackles in one."),
        ((12, 1, 3), "Crackles were annotated in 1 and wheezes in 3 of 12 breathing cycles."),
        ((1, 0, 0), "The only breathing cycle was annotated without crackles or wheezes."),
        ((4, 0, 2), "Wheezes were annotated in two of four breathing cycles, but no crackles."),
        ((12, 0, 0), "No crackles or wheezes were annotated in 12 breathing cycles."),
    ],
)
def test_cycles_in_words(counts: tuple[int, int, int], text: str):
    names = ("cycles", "crackle_cycles", "wheeze_cycles")
    assert render(MANIFEST, "icbhi/x", dict(zip(names, counts, strict=True))).text == text


def test_report_of_an_infant():
    infant: dict[str, Value] = {"age": 0.75, "sex": "F", "weight": 9.8, "height": 73.0}
    assert render(MANIFEST, "icbhi/102_1b1_Ar_sc_Meditron", infant).text == (
        "The lung sounds are those of a 9-month-old female patient. The patient weighs 9.8 kg and "
        "is 73 cm tall."
    )
    del infant["height"]
    assert render(MANIFEST, "icbhi/102_1b1_Ar_sc_Meditron", infant).text.endswith(" Weight 9.8 kg.")
