"""A look-alike of ICBHI 2017: wavs of three rates and depths with cycle files, three side files.

COPD prolongs expiration, weakens breath sounds and brings wheezes, rhonchi and coarse crackles;
healthy chests have them now and then. In 6 % of patients the sound belongs to the other group.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.samples import cohort, lung, signal
from pipeline.samples.signal import Job, Rng

RATE = 6000  # Hz at which sounds are made: a chest lets little pass above 3 kHz
LABEL_ERROR = 0.06
# Their products with the rates have small prime factors, which halves the time of the FFTs.
_SECONDS = [8.4, 9.0, 9.6, 10.0, 10.8, 11.2, 12.0]
_LOCATIONS = ["Tc", "Al", "Ar", "Pl", "Pr", "Ll", "Lr"]
_DEVICES = {
    "AKGC417L": lung.Device(response=((30, -4), (80, 0), (1000, 0), (3000, -12)), hiss=36),
    "Meditron": lung.Device(response=((30, -8), (100, 2), (500, 0), (3000, -24)), hiss=44),
    "LittC2SE": lung.Device(response=((30, -2), (90, 3), (400, 0), (3000, -22)), hiss=40),
    "Litt3200": lung.Device(response=((30, -6), (80, 0), (500, 0), (2000, -18)), hiss=42),
}
# Rates and depths of each device's files: the device does not fix them.
_FORMATS = {
    "AKGC417L": [(44_100, "PCM_24"), (44_100, "PCM_16")],
    "Meditron": [(44_100, "PCM_24"), (44_100, "PCM_16"), (44_100, "PCM_32"), (10_000, "PCM_16"),
                 (4000, "PCM_16")],
    "LittC2SE": [(44_100, "PCM_16")],
    "Litt3200": [(4000, "PCM_16")],
}  # fmt: skip
# Shares of the devices: the groups differ, but every device hears both.
_SHARES_COPD, _SHARES_ELSE = (0.5, 0.2, 0.15, 0.15), (0.35, 0.3, 0.15, 0.2)
_OTHERS = ["URTI", "Bronchiectasis", "Pneumonia", "Bronchiolitis", "LRTI", "Asthma"]
_ONLY_TRAIN = ("Pneumonia", "LRTI", "Asthma")


@dataclass(frozen=True)
class _Patient:
    number: str
    diagnosis: str
    age: float
    sex: str
    device: str
    side: str  # train | test | both
    form: int  # where in the list of formats their recordings begin


def write(root: Path, seed: int, scale: float = 1.0) -> None:
    patients = _patients(seed, cohort.size(80, scale))
    audio = root / "ICBHI_final_database"
    split: dict[str, str] = {}
    jobs: list[Job] = []
    for patient in patients:
        forms = _FORMATS[patient.device]
        for i, stem in enumerate(_stems(seed, patient)):
            split[stem] = patient.side if patient.side != "both" else ("train", "test")[i % 2]
            jobs.append(
                (_recording, audio / f"{stem}.wav",
                 {"seed": seed, "patient": patient, "form": forms[(patient.form + i) % len(forms)]})
            )  # fmt: skip
    signal.render(jobs)
    by_diagnosis = {p.diagnosis: p for p in patients}
    _unusable(audio, split, by_diagnosis[_OTHERS[0]], by_diagnosis[_OTHERS[1]])
    _lists(root, seed, patients, split)


def _patients(seed: int, count: int) -> list[_Patient]:
    numbers = cohort.spread("icbhi/", [str(n) for n in range(101, 227)], count)
    train = [i for i in range(count) if i // 5 % 2 == 0 and i % 5 != 4]
    patients: list[_Patient] = []
    for i, number in enumerate(numbers):
        r = signal.rng(seed, "icbhi", "patient", number)
        diagnosis = _OTHERS[i // 5 % 6] if i % 5 == 4 else ("COPD", "Healthy")[i % 5 % 2]
        child = diagnosis == "Bronchiolitis" or (diagnosis != "COPD" and r.random() < 0.35)
        age = round(float(r.uniform(0.25, 3)), 2) if diagnosis == "Bronchiolitis" else float(
            r.integers(4, 17) if child else r.integers(45, 90) if diagnosis == "COPD"
            else r.integers(22, 82)
        )  # fmt: skip
        shares = _SHARES_COPD if diagnosis == "COPD" else _SHARES_ELSE
        # Two patients see to it that every rate and depth occurs in a small sample too.
        device = {2: "Meditron", 5: "Litt3200"}.get(i) or str(r.choice(list(_DEVICES), p=shares))
        side = "test" if i // 5 % 2 and diagnosis not in _ONLY_TRAIN else "train"
        if i in train[-2:]:
            side = "both"
        patients.append(
            _Patient(number, diagnosis, age, "M" if r.random() < 0.62 else "F", device, side, i)
        )
    return patients


def _stems(seed: int, patient: _Patient) -> list[str]:
    """Names of a patient's recordings: several places at once, or one place after another."""
    r = signal.rng(seed, "icbhi", "stems", patient.number)
    mode = "mc" if patient.device in ("AKGC417L", "LittC2SE") else "sc"
    places = sorted(str(p) for p in r.choice(_LOCATIONS, int(r.integers(2, 5)), replace=False))
    letter = "b" if r.random() < 0.7 else "p"
    visits = [f"{1 + (i >= 2 and r.random() < 0.3)}{letter}{r.integers(1, 6)}" for i in (0, 2)]
    return [
        f"{patient.number}_{visits[i // 2 % 2]}_{place}_{mode}_{patient.device}"
        for i, place in enumerate(places)
    ]


def _recording(path: Path, *, seed: int, patient: _Patient, form: tuple[int, str]) -> None:
    person = signal.rng(seed, "icbhi", "chest", patient.number)
    group = patient.diagnosis
    if person.random() < LABEL_ERROR:
        group = {"COPD": "Healthy", "Healthy": "COPD"}.get(group, group)
    chest = lung.chest(person, patient.age, obstructive=group == "COPD")
    r = signal.rng(seed, "icbhi", path.stem)
    seconds = float(r.choice(_SECONDS))
    native_rate, subtype = form
    rate = min(RATE, native_rate)
    breathing = lung.breaths(r, chest, seconds)
    events = lung.episodes(r, _sounds(r, group), breathing, rate, seconds)
    heard = lung.auscultation(r, rate, seconds, chest, breathing, events, _DEVICES[patient.device])
    lung.write_wav(path, heard, rate, native_rate, subtype)
    decimals = 4 if native_rate == 4000 else 3
    lines = [
        "\t".join([_number(b.start, decimals), _number(b.end, decimals),
                   *(str(int(f)) for f in _flags(r, b, events))])
        for b in breathing
        if b.start >= 0 and b.end <= seconds
    ]  # fmt: skip
    path.with_suffix(".txt").write_text("".join(f"{line}\n" for line in lines))


def _sounds(r: Rng, group: str) -> list[str]:
    """What is heard in one recording; COPD can be silent and a healthy chest can crackle."""
    chances = {
        "COPD": {"wheeze": 0.65, "rhonchus": 0.5, "coarse": 0.6},
        "Healthy": {"wheeze": 0.03, "rhonchus": 0.02, "fine": 0.04},
        "URTI": {"rhonchus": 0.3, "wheeze": 0.1},
        "Asthma": {"wheeze": 0.8},
        "Bronchiolitis": {"wheeze": 0.5, "fine": 0.5},
    }.get(group, {"coarse": 0.6, "fine": 0.4, "rhonchus": 0.2})
    return [kind for kind, chance in chances.items() if r.random() < chance]


def _flags(r: Rng, breath: lung.Breath, events: list[lung.Event]) -> list[bool]:
    """Crackles and wheezes in a cycle, with the annotators' errors; rhonchi count as wheezes."""
    kinds = {e.kind for e in events if breath.start <= e.start < breath.end}
    return [
        bool(kinds & signs) != (r.random() < LABEL_ERROR / 2)
        for signs in ({"fine", "coarse"}, {"wheeze", "rhonchus"})
    ]


def _number(seconds: float, decimals: int) -> str:
    return f"{round(seconds, decimals):g}"


def _unusable(audio: Path, split: dict[str, str], one: _Patient, other: _Patient) -> None:
    """A cut file, a silent one, one of nobody; and the prose that lies among the cycle files."""
    noise = signal.band(np.random.default_rng(0), 2 * RATE, RATE, 100, 1000) * 0.1
    cut, silent, nobody = (f"{n}_9b1_Tc_mc_AKGC417L" for n in (one.number, other.number, "227"))
    split |= {cut: one.side, silent: other.side}
    for stem, sound in ((cut, noise), (silent, np.zeros_like(noise)), (nobody, noise)):
        path = audio / f"{stem}.wav"
        lung.write_wav(path, sound, RATE, 44_100, "PCM_24")
        path.with_suffix(".txt").write_text("0.1\t1.9\t0\t0\n")
    path = audio / f"{cut}.wav"
    path.write_bytes(path.read_bytes()[:100_000])
    (audio / "filename_format.txt").write_text("Elements of the file names: patient, recording.\n")
    (audio / "filename_differences.txt").write_text("Some files were renamed.\n")


def _lists(root: Path, seed: int, patients: list[_Patient], split: dict[str, str]) -> None:
    """The side files, with the official line ends: LF for the diagnoses, CRLF for the others."""
    nobody = [p for p in patients if p.diagnosis in _OTHERS][-1]  # everything is missing
    bare = next(p for p in patients if p.diagnosis == "COPD")  # an adult without body mass index
    unmeasured = next(p for p in patients if p.age < 18)  # a child without height
    rows: list[str] = []
    patients = sorted(patients, key=lambda p: p.number)
    for patient in patients:
        r = signal.rng(seed, "icbhi", "size", patient.number)
        body = ["NA", "NA", "NA"]  # body mass index of adults; weight and height of children
        if patient.age >= 18 and patient is not bare:
            body[0] = f"{r.uniform(17, 38):.2f}".rstrip("0").rstrip(".")
        elif patient.age < 18:
            height = 55 + 7.5 * patient.age + r.normal(0, 4)
            tall = "NA" if patient is unmeasured else f"{height:.0f}"
            body[1:] = [f"{height**2 * r.uniform(14, 18) / 1e4:.1f}", tall]
        row = [f"{patient.age:g}", patient.sex, *body] if patient is not nobody else ["NA"] * 5
        rows.append("\t".join([patient.number, *row]))
    # One row of the official list names a device that the file does not have.
    ghost = f"{patients[0].number}_9b2_Pl_sc_Meditron\ttrain"
    sides = [ghost, *(f"{stem}\t{side}" for stem, side in sorted(split.items()))]
    for name, lines, end in (
        ("ICBHI_Challenge_demographic_information.txt", rows, "\r\n"),
        ("ICBHI_Challenge_diagnosis.txt", [f"{p.number}\t{p.diagnosis}" for p in patients], "\n"),
        ("ICBHI_challenge_train_test.txt", sides, "\r\n"),
    ):
        (root / name).write_bytes("".join(f"{line}{end}" for line in lines).encode())
