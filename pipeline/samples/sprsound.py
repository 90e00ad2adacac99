"""A look-alike of SPRSound: the BioCAS folders of 2022 to 2025 and the patient summaries.

Each sick child has recordings with and without adventitious sounds. In 6 % of recordings
annotation and sound contradict each other. Files of 2024 and 2025 have no record label, and
some of them no patient.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline.samples import cohort, lung, signal
from pipeline.samples.signal import Job, Rng

RATE = 8000
LABEL_ERROR = 0.06
_DEVICE = lung.Device(response=((30, -8), (100, 0), (700, 0), (1500, -8), (4000, -25)), hiss=40)
_TYPES = {
    "fine": "Fine Crackle",
    "coarse": "Coarse Crackle",
    "wheeze": "Wheeze",
    "rhonchus": "Rhonchi",
    "stridor": "Stridor",
}
_MIXES = ["fine", "fine", "coarse", "wheeze", "wheeze", "rhonchus", "fine wheeze", "fine coarse",
          "stridor"]  # fmt: skip
_DISEASES = ["Pneumonia (non-severe)", "Bronchitis", "Asthma", "Control Group",
             "Pneumonia (severe)", "Other respiratory diseases"]  # fmt: skip
# The releases do not agree on their words.
_WORDS = {
    "2023": {"Control Group": "Control group", "Other respiratory diseases": "Other respiratory"},
    "2024": {"Other respiratory diseases": "Bronchiectasia", "Asthma": "Chronic cough"},
}
# Children of the test of 2022 are new (inter) or those of train (intra); later years only test.
_ROLES = ("train", "train", "intra", "train", "intra", "inter", "test", "test")


@dataclass(frozen=True)
class _Child:
    patient: str
    age: float
    sex: int
    disease: str
    year: str
    role: str


@dataclass(frozen=True)
class _Sound:
    """What one recording is to hold; an empty mix is normal breathing."""

    mix: str
    seconds: float = 9.216
    poor: bool = False
    record: bool = True  # has a label of the whole recording
    confused: bool = False  # Wheeze+Crackle, but the record label forgets the crackles
    child: _Child = field(kw_only=True)


def write(root: Path, seed: int, scale: float = 1.0) -> None:
    children = _children(seed, cohort.size(80, scale))
    plan: dict[tuple[Path, Path], _Sound] = {}
    number = iter(range(100, 100_000))
    for child in children:
        for role, sound in _visit(seed, child):
            plan[_paths(root, child, role, next(number), sound.child.age)] = sound
    first = children[0]
    for seconds in (0.304, 8.512):
        sound = _Sound("", seconds, poor=True, child=first)
        plan[_paths(root, first, "train", next(number), first.age)] = sound
    confused = _Sound("fine wheeze", confused=True, child=first)
    plan[_paths(root, first, "train", next(number), first.age)] = confused
    # One child of 2022 is heard again in 2023, where the summary has another word.
    known = next(c for c in children if c.role == "intra")
    later = replace(known, year="2023", role="test", age=round(known.age + 0.8, 1))
    children.append(later)
    plan[_paths(root, later, "test", next(number), later.age)] = _Sound("", child=later)
    for i in range(max(4, round(12 * scale))):
        nobody = replace(children[0], patient="", year=("2024", "2025")[i % 2], age=1.5 + i / 4)
        sound = _Sound(_MIXES[i % len(_MIXES)] if i % 4 < 2 else "", record=False, child=nobody)
        plan[_paths(root, nobody, "test", next(number), nobody.age)] = sound
    jobs: list[Job] = [
        (_recording, wav, {"seed": seed, "label": label, "sound": sound})
        for (wav, label), sound in plan.items()
    ]
    signal.render(jobs)
    _copies(root, children, next(number))
    _summaries(root, children)


def _children(seed: int, count: int) -> list[_Child]:
    r = signal.rng(seed, "sprsound", "children")
    candidates = [f"{n:08d}" for n in r.choice(np.arange(13_000, 99_999), 4 * count, replace=False)]
    candidates = [c if i % 4 == 0 else f"{int(c) + 64_900_000}" for i, c in enumerate(candidates)]
    patients = cohort.spread("sprsound/", sorted(candidates), count)
    children: list[_Child] = []
    for i, patient in enumerate(patients):
        year = {6: "2023", 7: "2024", 14: "2023", 15: "2025"}.get(i % 16, "2022")
        if year == "2024":  # lengths other than eight digits occur since 2023
            patient = (patient[-6:], patient[-7:], f"{patient}3")[i // 16 % 3]
        role = _ROLES[i % 8]
        age = round(float(np.exp(r.uniform(np.log(0.4), np.log(15)))), 1)
        disease = _DISEASES[i % 7 % 6]
        children.append(_Child(patient, age, int(r.integers(0, 2)), disease, year, role))
    return children


def _visit(seed: int, child: _Child) -> Iterable[tuple[str, _Sound]]:
    """Side and content of a child's recordings: the first normal, the second not if sick."""
    r = signal.rng(seed, "sprsound", child.patient)
    usual = str(r.choice(_MIXES))
    record = child.year in ("2022", "2023")
    sick = child.disease != "Control Group"
    count = 4 if child.role == "intra" else int(r.integers(2, 4))
    for i in range(count):
        abnormal = sick and (i == 1 or (i > 1 and r.random() < 0.6))
        mix = usual if r.random() < 0.6 else str(r.choice(_MIXES))
        seconds = 15.36 if r.random() < 0.08 else 9.216
        # The age in a file name is that of the visit; the summary has one per patient.
        age = round(child.age + 0.1, 1) if i == 2 and r.random() < 0.1 else child.age
        side = ("train" if i < 2 else "test") if child.role == "intra" else child.role
        yield side, _Sound(mix if abnormal else "", seconds, record=record,
                           child=replace(child, age=age))  # fmt: skip
    if r.random() < 0.2 and record:
        side = "train" if child.role == "intra" else child.role
        yield side, _Sound("", poor=True, child=child)


def _paths(root: Path, child: _Child, side: str, number: int, age: float) -> tuple[Path, Path]:
    """Wav and json; of the test of 2022 only the json folder tells inter from intra."""
    location = f"p{1 + number % 4}" if child.year < "2024" else f"p{1 + number % 8}"
    stem = f"{child.patient}_{age}_{child.sex}_{location}_{number}"
    folder = root / f"BioCAS{child.year}"
    side = "train" if side == "train" else "test"
    labels = folder / f"{side}{child.year}_json"
    if child.year == "2022" and side == "test":
        labels = labels / f"{child.role}_test_json"
    return folder / f"{side}{child.year}_wav" / f"{stem}.wav", labels / f"{stem}.json"


def _recording(path: Path, *, seed: int, label: Path, sound: _Sound) -> None:
    child = sound.child
    whose = child.patient or path.stem
    person = lung.chest(signal.rng(seed, "sprsound", "chest", whose), child.age)
    r = signal.rng(seed, "sprsound", path.stem)
    wrong = not sound.confused and not sound.poor and r.random() < LABEL_ERROR
    kinds = (sound.mix or (str(r.choice(_MIXES)) if wrong else "")).split()
    breathing = lung.breaths(r, person, sound.seconds)
    events = lung.episodes(r, kinds, breathing, RATE, sound.seconds)
    audible = bool(sound.mix) != wrong
    heard = lung.auscultation(
        r, RATE, sound.seconds, person, breathing, events if audible else [], _DEVICE,
        handling=40 if sound.poor else 1.2,
    )  # fmt: skip
    lung.write_wav(path, heard, RATE, RATE, "PCM_16")
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text(_annotation(r, sound, breathing, events if sound.mix else []))


def _annotation(
    r: Rng, sound: _Sound, breathing: list[lung.Breath], events: list[lung.Event]
) -> str:
    found: list[dict[str, str]] = []
    for breath in breathing:
        kinds = {e.kind for e in events if breath.start <= e.start < breath.end}
        if not sound.poor and breath.start >= 0 and breath.expired <= sound.seconds:
            found.append(
                {"start": f"{breath.start * 1000:.0f}", "end": f"{breath.expired * 1000:.0f}",
                 "type": _type(kinds, sound.confused)}
            )  # fmt: skip
    if r.random() < 0.4:
        r.shuffle(found)  # often unsorted
    if not sound.record:
        return json.dumps({"event_annotation": found}, indent=4)
    labels = {e["type"] for e in found}
    heard = [
        name
        for name, sign in (("CAS", ("Wheeze", "Rhonchi", "Stridor")), ("DAS", ("Crackle",)))
        if any(s in label for label in labels for s in sign)
    ]
    record = "Poor Quality" if sound.poor else " & ".join(heard) or "Normal"
    if sound.confused:
        record = "CAS"
    return json.dumps({"record_annotation": record, "event_annotation": found})


def _type(kinds: set[str], both: bool) -> str:
    if both or ("wheeze" in kinds and kinds & {"fine", "coarse"}):
        return "Wheeze+Crackle"
    return next((name for kind, name in _TYPES.items() if kind in kinds), "Normal")


def _copies(root: Path, children: list[_Child], number: int) -> None:
    """One recording in train and test, a task folder that repeats a release, lonely files."""
    train, test = root / "BioCAS2022/train2022_wav", root / "BioCAS2022/test2022_wav"
    intra = next(c.patient for c in children if c.role == "intra")
    twin = sorted(train.glob(f"{intra}_*.wav"))[0]
    stem = f"{twin.stem.rsplit('_', 1)[0]}_{number}"
    shutil.copyfile(twin, test / f"{stem}.wav")
    labels = root / "BioCAS2022/test2022_json/intra_test_json"
    shutil.copyfile(train.parent / f"train2022_json/{twin.stem}.json", labels / f"{stem}.json")
    for kind in ("wav", "json"):
        again = root / f"Classification/train_classification_{kind}"
        again.mkdir(parents=True)
        for path in sorted((train.parent / f"train2022_{kind}").iterdir())[:3]:
            shutil.copyfile(path, again / path.name)
    shutil.copyfile(twin, train / f"{children[0].patient}_3.3_0_p1_{number + 1}.wav")
    lonely = train.parent / f"train2022_json/{children[0].patient}_3.3_0_p2_{number + 2}.json"
    lonely.write_text(json.dumps({"record_annotation": "Poor Quality", "event_annotation": []}))


def _summaries(root: Path, children: list[_Child]) -> None:
    """One csv per release with its own words; none is known for 2025."""
    folder = root / "Patient Summary"
    folder.mkdir()
    for year, name in (("2022", "SPRSound"), ("2023", "Grand_Challenge'23"),
                       ("2024", "Grand_Challenge'24")):  # fmt: skip
        lines: list[str] = []
        for child in children:
            if child.year == year or (year == "2024" and child.year == "2022"):
                disease = _WORDS.get(year, {}).get(child.disease, child.disease)
                # A later summary may contradict an earlier one about the same child.
                if child.year != year and child.disease == "Pneumonia (severe)":
                    disease = "Bronchitis"
                lines.append(f"{child.patient},{disease},{child.age:g},{'MF'[child.sex]}")
        header = "patient_num,disease,age,gender"
        if year == "2022":
            header, lines = f",{header}", [f"{i},{line}" for i, line in enumerate(lines)]
        if year == "2023":
            lines.append("-,-,3.9,M")
        (folder / f"{name}_patient_summary.csv").write_text("\n".join([header, *lines]))
    (root / "overlap_summary_modified.csv").write_text("file,old,new\n")
    (root / "README.md").write_text("A synthetic look-alike of the SPRSound repository.\n")
