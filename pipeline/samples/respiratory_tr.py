"""A look-alike of RespiratoryDatabase@TR: twelve channels per patient, one COPD severity each.

The severer the disease, the longer and softer expiration and the more wheezes, rhonchi and
crackles. All channels of a patient hear the same chest. In 6 % of the patients the sound is that
of the opposite end of the scale.
"""

from pathlib import Path

from pipeline.samples import cohort, lung, signal
from pipeline.samples.signal import Job, Rng
from pipeline.samples.spreadsheet import Cell, xlsx

RATE = 4000  # Hz
SECONDS = 6.0  # the originals last 17 s and more
LABEL_ERROR = 0.06
FOLDER = "RespiratoryDatabase@TR"
_STETHOSCOPE = lung.Device(response=((30, -6), (80, 0), (500, 0), (2000, -18)), hiss=42)
_CHANNELS = [f"{side}{n}" for side in "LR" for n in range(1, 7)]
_FEWEST = 10
_WORST = 4


def write(root: Path, seed: int, scale: float = 1.0) -> None:
    count = max(_FEWEST, round(20 * scale))
    # Numbers have gaps: people without COPD are not in the published part of the database.
    candidates = [f"H{n:03d}" for n in range(2, 3 * count) if n % 9]
    names = cohort.spread("respiratory_tr/", candidates, count)
    severity = {name: i % (_WORST + 1) for i, name in enumerate(names)}
    jobs: list[Job] = []
    for name in names:
        for channel in _CHANNELS:
            arguments = {"seed": seed, "patient": name, "severity": severity[name]}
            jobs.append((_recording, root / FOLDER / f"{name}_{channel}.wav", arguments))
    # One channel that nobody uploaded, one of a patient without a label, one of no known name.
    lost = jobs.pop(-1)[1]
    for name in ("H999_L1", lost.stem.replace("_R6", "_R7")):
        arguments = {"seed": seed, "patient": "H999", "severity": 0}
        jobs.append((_recording, root / FOLDER / f"{name}.wav", arguments))
    signal.render(jobs)
    labels: list[list[Cell]] = [[name, f"COPD{severity[name]}"] for name in sorted(names)]
    sheets: dict[str, list[list[Cell]]] = {"Sayfa1": [["Patient ID", "Diagnosis"], *labels]}
    xlsx(root / "Labels.xlsx", sheets | {"Sayfa2": [], "Sayfa3": []})


def _recording(path: Path, *, seed: int, patient: str, severity: int) -> None:
    person = signal.rng(seed, "respiratory_tr", "chest", patient)
    if person.random() < LABEL_ERROR:
        severity = _WORST - severity
    chest = lung.chest(person, float(person.integers(45, 80)), obstructive=severity >= 2)
    kinds = _heard(person, severity)
    r = signal.rng(seed, "respiratory_tr", path.stem)
    breathing = lung.breaths(r, chest, SECONDS)
    events = lung.episodes(r, kinds, breathing, RATE, SECONDS)
    heard = lung.auscultation(r, RATE, SECONDS, chest, breathing, events, _STETHOSCOPE)
    lung.write_wav(path, heard, RATE, RATE, "PCM_16")


def _heard(r: Rng, severity: int) -> list[str]:
    share = severity / _WORST
    chances = {"wheeze": 0.8, "rhonchus": 0.7, "coarse": 0.6}
    return [kind for kind, chance in chances.items() if r.random() < share * chance]
