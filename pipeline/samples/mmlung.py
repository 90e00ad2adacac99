"""A look-alike of MMLung: three of the phone's tasks and a spirometry sheet for each subject.

Subjects with a low FEV1/FVC breathe and cough as the ill do in the other samples, and their long
vowel is weaker and rougher.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from pipeline.samples import cough, signal
from pipeline.samples.signal import Job, Rng, Signal
from pipeline.samples.spreadsheet import xls

PHONE, SHEETS = "Trimmed Data from phone", "spirometry_ground_truth"
_TASKS = {"9_3_deepbreath": "deepbreaths", "5_2_O_single": "vowelo", "1_1_cough": "cough"}
_FEWEST = 12
_SECONDS = 2.4
_ROWS = ("FVC", "FEV1", "FEV1/FVC")  # of which the values stand in B23, B24 and B25


@dataclass(frozen=True, kw_only=True)
class _Subject:
    number: int
    sex: str
    age: int
    fvc: float  # L
    ratio: float  # FEV1/FVC

    @property
    def ill(self) -> float:
        return float(np.clip((0.85 - self.ratio) / 0.35, 0, 1))


def write(root: Path, seed: int, scale: float = 1.0) -> None:
    subjects = [_subject(seed, n + 1) for n in range(max(_FEWEST, round(20 * scale)))]
    jobs: list[Job] = []
    for subject in subjects:
        for folder, task in _TASKS.items():
            # One phone records at another rate.
            rate = 44_100 if subject.number == 1 else cough.RATE
            path = root / PHONE / folder / f"{subject.number}_{task}.wav"
            jobs.append((_recording, path, {"seed": seed, "subject": subject, "rate": rate}))
    signal.render(jobs)
    sheets = root / SHEETS
    sheets.mkdir(parents=True)
    without, comma, lost = (s.number for s in subjects[-3:])
    for subject in subjects:
        # The last but two has no sheet, the last but one one with decimal commas.
        if subject.number != without:
            _sheet(sheets, subject, point="," if subject.number == comma else ".")
    (root / PHONE / "1_1_cough" / f"{lost}_cough.wav").unlink()


def _subject(seed: int, number: int) -> _Subject:
    r = signal.rng(seed, "mmlung", "subject", number)
    sex = ("female", "male")[r.integers(2)]
    fvc = (3.6 if sex == "female" else 4.9) * float(np.exp(r.normal(0, 0.15)))
    ratio = float(r.uniform(0.5, 0.7) if number % 2 else r.uniform(0.75, 0.88))
    return _Subject(number=number, sex=sex, age=int(r.integers(20, 75)), fvc=fvc, ratio=ratio)


def _sheet(folder: Path, subject: _Subject, point: str) -> None:
    """Text with an asterisk in some cells, numbers in others; some names are the bare number."""
    values = (subject.fvc, subject.fvc * subject.ratio, subject.ratio)
    cells: dict[tuple[int, int], str | float] = {(0, 0): "Spirometry"}
    for row, (name, value) in enumerate(zip(_ROWS, values, strict=True), start=22):
        mark = "*" if subject.number % 3 == 0 else ""
        cells[row, 0] = name
        text = f"{value:.2f}{mark}".replace(".", point)
        cells[row, 1] = text if mark or point == "," else round(value, 2)
    stem = str(subject.number) if subject.number % 5 == 0 else f"{subject.number}_spirometry"
    xls(folder / f"{stem}.xls", cells)


def _recording(path: Path, *, seed: int, subject: _Subject, rate: int) -> None:
    person = signal.rng(seed, "mmlung", "airway", subject.number)
    airway = cough.airway(person, subject.sex, subject.age, subject.ill, wet=False)
    r = signal.rng(seed, "mmlung", path.stem)
    if path.stem.endswith("cough"):
        clean = cough.coughs(r, _SECONDS, airway, 2)
    elif path.stem.endswith("deepbreaths"):
        clean = cough.exhalation(r, _SECONDS, airway)
    else:
        clean = _vowel(r, airway)
    # The phone has two microphones; one hears less.
    sound = cough.recorded(r, clean)[:, None] * np.array([1.0, r.uniform(0.3, 0.9)], np.float32)
    if rate != cough.RATE:
        sound = np.clip(soxr.resample(sound, cough.RATE, rate), -1, 1)
    soundfile.write(path, sound, rate, subtype="PCM_16", format="WAV")


def _vowel(r: Rng, airway: cough.Airway) -> Signal:
    """A sustained O: harmonics below two low formants, breath noise with hoarseness."""
    n = int(_SECONDS * cough.RATE)
    t = np.arange(n, dtype=np.float32) / cough.RATE
    # Nobody's vibrato starts as somebody else's: two of one beat would be one sound.
    rate, start = r.uniform(4, 7), r.uniform(0, 2 * np.pi)
    phase = 2 * np.pi * airway.pitch * (t + 0.002 * np.sin(2 * np.pi * rate * t + start))
    k = np.arange(1, int(3000 / airway.pitch) + 1)
    formants = np.array([430.0, 800.0]) * airway.tract
    peaks = 1 / (1 + ((k[:, None] * airway.pitch - formants) / 120) ** 2)
    tone = (0.05 + peaks.sum(axis=1)) @ np.sin(k[:, None] * phase)
    tone /= np.sqrt(np.mean(tone**2))
    noise = signal.band(r, n, cough.RATE, 300, 4000, -3)
    fade = np.interp(t, [0, 0.2, _SECONDS - 0.2, _SECONDS], [0, 1, 1 - 0.5 * airway.hoarse, 0])
    return (fade * (tone + 0.6 * airway.hoarse * noise)).astype(np.float32)
