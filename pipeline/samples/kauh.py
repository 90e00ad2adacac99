"""A look-alike of KAUH: one auscultation per patient through three filters, facts in the names.

Asthma and COPD prolong expiration and wheeze, heart failure and fibrosis crackle. In 6 % of the
patients the sound belongs to another group. Patients are numbered from 1 without gaps, because
the rows of the annotation sheet are counted.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.samples import cohort, lung, signal
from pipeline.samples.signal import Job, Rng, Signal
from pipeline.samples.spreadsheet import Cell, xlsx

RATE = 4000  # Hz
LABEL_ERROR = 0.06
FOLDER = "Audio Files"
_FEWEST, _MOST = 25, 112
_STETHOSCOPE = lung.Device(response=((20, -3), (80, 0), (500, 0), (2000, -9)), hiss=40)
# (lowest, highest, stressed from, stressed to) in Hz, from the description of the dataset.
_FILTERS = {"B": (20, 1000, 20, 200), "D": (20, 2000, 100, 500), "E": (20, 1000, 50, 500)}
_Group = list[tuple[str, str]]  # diagnoses as they are spelled, with a sound type
_OBSTRUCTIVE: _Group = [
    ("Asthma", "E W"), ("asthma", "E W"), ("COPD", "E W"), ("copd", "E W"), ("Asthma", "I E W"),
    ("Heart Failure + COPD", "I C E W"), ("Asthma and lung fibrosis", "C"), ("asthma", "E W"),
]  # fmt: skip
_OTHERS: _Group = [
    ("BRON", "Crep"), ("BRON", "Crep"), ("Plueral Effusion", "I C B"), ("Heart Failure", "C"),
    ("Heart Failure + Lung Fibrosis ", "I C"), ("heart failure", "Crep"),
    ("pneumonia", "Bronchial"), ("Lung Fibrosis", "Crep"),
]  # fmt: skip
_PLACES = ["P L L", "P R L ", "P L M", "P R M", "P L U", "P R U", "A R U", "A L U", "A R M"]
# Places as two of the names spell them -> as the annotation sheet has them.
_ODD_PLACES = {2: ("P L L R", "P L L "), 4: ("P L R", "P R L "), 7: ("P", "P L L"),
               8: ("A U R", "A R U")}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Patient:
    number: int
    diagnosis: str
    sound_type: str
    place: str
    place_in_sheet: str
    age: int
    sex: str

    def name(self, stethoscope_filter: str) -> str:
        fields = (self.diagnosis, self.sound_type, self.place, str(self.age), self.sex)
        return f"{stethoscope_filter}P{self.number}_{','.join(fields)}.wav"

    def row(self) -> list[Cell]:
        return [self.age, self.sex, self.place_in_sheet, self.sound_type, self.diagnosis]


def write(root: Path, seed: int, scale: float = 1.0) -> None:
    patients = _patients(seed, min(max(_FEWEST, round(40 * scale)), _MOST))
    first, silent = [p for p in patients if p.diagnosis == "BRON"][:2]
    jobs: list[Job] = []
    for patient in patients:
        # Three patients' files have another rate; one of them holds nothing but zeros.
        rate = 44_100 if patient in (first, silent) else RATE
        arguments = {"seed": seed, "patient": patient, "rate": rate, "silent": patient is silent}
        jobs.append((_recordings, root / FOLDER / patient.name("B"), arguments))
    signal.render(jobs)
    _copies(root / FOLDER, patients)
    rows: list[list[Cell]] = [["Age", "Gender", "Location", "Sound type", "Diagnosis"]]
    rows += [p.row() for p in patients]
    rows += [[None] * 5, [None] * 5 + [0, 0]]  # the original ends in rows without people
    xlsx(root / "Data annotation.xlsx", {"Sheet1": rows})


def _patients(seed: int, count: int) -> list[_Patient]:
    numbers = cohort.spread("kauh/", [str(n) for n in range(1, count + 1)], count)
    patients: list[_Patient] = []
    for i, number in enumerate(numbers):
        r = signal.rng(seed, "kauh", "patient", number)
        of_five, turn = i % 5, i // 5
        group = _OTHERS if of_five == 4 else _OBSTRUCTIVE if of_five % 2 else [("N", "N")]
        # Each fifth patient takes two steps in the list of obstructive diagnoses.
        step = turn if group is _OTHERS else 2 * turn + of_five // 2
        diagnosis, sound_type = group[step % len(group)]
        old = diagnosis not in ("N", "Asthma", "asthma", "BRON")
        place = str(r.choice(_PLACES))
        named, in_sheet = _ODD_PLACES.get(i, (place, place))
        patients.append(
            _Patient(
                number=int(number), diagnosis=diagnosis, sound_type=sound_type, place=named,
                place_in_sheet=in_sheet, age=int(r.integers(45, 90) if old else r.integers(12, 75)),
                sex="M" if r.random() < 0.6 else "F",
            )
        )  # fmt: skip
    return sorted(patients, key=lambda p: p.number)


def _recordings(path: Path, *, seed: int, patient: _Patient, rate: int, silent: bool) -> None:
    person = signal.rng(seed, "kauh", "chest", patient.number)
    kinds = _heard(person, patient.sound_type)
    if person.random() < LABEL_ERROR:
        kinds = [] if kinds else ["wheeze"]
    chest = lung.chest(person, patient.age, obstructive="wheeze" in kinds)
    r = signal.rng(seed, "kauh", patient.number)
    seconds = float(r.choice([6.0, 7.2, 8.0, 9.0]))
    breathing = lung.breaths(r, chest, seconds)
    events = lung.episodes(r, kinds, breathing, RATE, seconds)
    heard = lung.auscultation(r, RATE, seconds, chest, breathing, events, _STETHOSCOPE)
    for letter in _FILTERS:
        sound = np.zeros_like(heard) if silent else _filtered(heard, letter)
        lung.write_wav(path.with_name(patient.name(letter)), sound, RATE, rate, "PCM_16")


def _heard(r: Rng, sound_type: str) -> list[str]:
    words = sound_type.split()
    crackles = "fine" if r.random() < 0.5 else "coarse"
    return [*(["wheeze"] if "W" in words else []),
            *([crackles] if {"C", "Crep"} & set(words) else [])]  # fmt: skip


def _filtered(sound: Signal, letter: str) -> Signal:
    low, high, stressed, until = _FILTERS[letter]
    f = np.fft.rfftfreq(len(sound), 1 / RATE)
    gain = np.where((f >= low) & (f <= high), 0.4, 0.0) + 0.6 * ((f >= stressed) & (f <= until))
    return np.fft.irfft(np.fft.rfft(sound) * gain, len(sound)).astype(np.float32)


def _copies(folder: Path, patients: list[_Patient]) -> None:
    """Two files of a healthy patient hold another's asthma; one patient's B is also their D."""
    ill = next(p for p in patients if p.diagnosis == "Asthma")
    healthy = [p for p in patients if p.diagnosis == "N"]
    for letter in "BD":
        sound = (folder / ill.name(letter)).read_bytes()
        (folder / healthy[0].name(letter)).write_bytes(sound)
    (folder / healthy[1].name("D")).write_bytes((folder / healthy[1].name("B")).read_bytes())
