"""A look-alike of Coswara after its own unpacking script: batches of people, a table, grades.

Most people have the four sounds that are evaluated, every tenth has all nine. Smokers cough longer,
hoarser and wetter; sex moves pitch and vocal tract. In 6 % of the people the sound contradicts the
smoking. As in the release, smoking was a box to tick until June 2021 and a question afterwards.
"""

import csv
import json
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import soundfile
import soxr

from pipeline.samples import cohort, cough, signal
from pipeline.samples.cough import Airway
from pipeline.samples.signal import Job, Rng, Signal

LABEL_ERROR = 0.06
TYPES = ("breathing-deep", "breathing-shallow", "cough-heavy", "cough-shallow", "counting-fast",
         "counting-normal", "vowel-a", "vowel-e", "vowel-o")  # fmt: skip
COLUMNS = ["id", "a", "covid_status", "record_date", "ep", "g", "l_c", "l_l", "l_s", "rU", "smoker",
           "cold", "ht", "diabetes", "cough", "ctDate", "ctScan", "ctScore", "diarrhoea", "fever",
           "loss_of_smell", "mp", "testType", "test_date", "test_status", "um", "vacc", "bd",
           "others_resp", "ftg", "st", "ihd", "asthma", "others_preexist", "cld",
           "pneumonia"]  # fmt: skip
_EVALUATED = TYPES[:4]
# Days on which sound was uploaded: a recording waits for the next one.
_BATCHES = (date(2020, 4, 24), date(2020, 8, 20), date(2021, 6, 18), date(2021, 9, 30),
            date(2022, 2, 24))  # fmt: skip
_SEXES = ("male", "female", "male")
# Dealt in turn, so that every stretch of the order has smokers and non-smokers of both sexes.
_SMOKING = ("n", "y", "", "n", "True", "n", "False", "y", "", "TRUE", "n", "FALSE", "True")
_SMOKES = ("y", "True", "TRUE")
_BOX = ("", "True", "TRUE")  # what the first form leaves behind
_STATUS = ("healthy", "healthy", "healthy", "positive_mild", "no_resp_illness_exposed",
           "recovered_full", "positive_moderate", "resp_illness_not_identified",
           "positive_asymp")  # fmt: skip
_BOXES = ("cold", "cough", "fever", "ftg", "mp", "st", "bd", "diarrhoea", "loss_of_smell", "ht",
          "diabetes", "ihd", "asthma", "cld", "pneumonia")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Clip:
    kind: str
    key: str  # the sound depends on the seed and this
    seconds: float
    rate: int
    gain: float = 1.0


@dataclass
class _Person:
    name: str
    row: dict[str, str]
    airway: Airway
    batch: str
    clips: dict[str, _Clip] = field(default_factory=dict[str, _Clip])
    grades: dict[str, str] = field(default_factory=dict[str, str])
    listed: bool = True  # in combined_data.csv
    sidecar: bool = True  # has a metadata.json


def write(root: Path, seed: int, scale: float = 1.0) -> None:
    people = [*_ordinary(seed, max(20, cohort.size(60, scale))), *_special(seed)]
    jobs: list[Job] = []
    for person in people:
        folder = root / "Extracted_data" / person.batch / person.name
        for kind, clip in person.clips.items():
            arguments = {"seed": seed, "clip": clip, "airway": person.airway}
            jobs.append((_audio, folder / f"{kind}.wav", arguments))
        if person.sidecar and person.clips:
            folder.mkdir(parents=True)
            text = json.dumps(_sidecar(person))
            (folder / "metadata.json").write_text(text, encoding="utf-8")
    signal.render(jobs)
    _stray(root / "Extracted_data")
    _table(root / "combined_data.csv", COLUMNS, [p.row for p in people if p.listed])
    (root / "csv_labels_legend.json").write_text(json.dumps({"id": "User ID", "a": "Age (number)"}))
    for kind in TYPES:
        grades = [
            {"FILENAME": f"{p.name}_{kind}", " QUALITY": p.grades[kind]}
            for p in people
            if kind in p.grades
        ]
        # Some of the nine were saved by another programme.
        end = "\r\n" if kind in ("cough-heavy", "counting-fast", "vowel-e", "vowel-o") else "\n"
        table = root / "annotations" / f"{kind}_labels.csv"
        _table(table, ["FILENAME", " QUALITY"], grades, end)


def _table(path: Path, columns: list[str], rows: list[dict[str, str]], end: str = "\n") -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as lines:
        table = csv.DictWriter(lines, columns, restval="", lineterminator=end)
        table.writeheader()
        table.writerows(rows)


def _stray(folder: Path) -> None:
    """A folder whose name has a digit too many, with a part of an archive in it."""
    (folder / "202004015").mkdir(parents=True)
    (folder / "202004015" / "20200415_split_9").write_bytes(bytes(64))


def _sidecar(person: _Person) -> dict[str, object]:
    """Numbers and boxes are not text here, and what was not ticked is not there."""
    said: dict[str, object] = {k: v for k, v in person.row.items() if v and k != "record_date"}
    said |= {k: True for k, v in said.items() if v == "True"}
    return said | {"a": int(person.row["a"]), "iF": True, "dT": "web"}


def _ordinary(seed: int, count: int) -> Iterator[_Person]:
    candidates = [_id(signal.rng(seed, "id", i)) for i in range(12 * count)]
    for i, name in enumerate(cohort.spread("coswara/", candidates, count)):
        sex, smoking = _SEXES[i % len(_SEXES)], _SMOKING[i % len(_SMOKING)]
        yield _person(seed, name, sex, smoking, TYPES if i % 10 == 5 else _EVALUATED)


def _id(r: Rng) -> str:
    return "".join(r.choice(list(string.ascii_letters + string.digits), 28))


def _person(seed: int, name: str, sex: str, smoking: str, kinds: tuple[str, ...]) -> _Person:
    r = signal.rng(seed, name)
    age = int(r.choice((r.integers(18, 35), r.integers(30, 75))))
    box = smoking in _BOX
    first, last = (date(2020, 4, 13), _BATCHES[2]) if box else (_BATCHES[2], _BATCHES[-1])
    recorded = first + timedelta(days=int(r.integers(0, (last - first).days)))
    batch = next(b for b in _BATCHES if b > recorded)
    status = str(r.choice(_STATUS))
    row = {
        "id": name, "a": str(age), "covid_status": status, "record_date": recorded.isoformat(),
        "ep": "y", "g": sex, "l_c": "India", "l_l": "", "l_s": "Karnataka", "smoker": smoking,
        **{b: "True" for b in _BOXES if r.random() < (0.06 if status == "healthy" else 0.15)},
        **({} if box else _asked(r, status)),
    }  # fmt: skip
    smokes = (smoking in _SMOKES) != (r.random() < LABEL_ERROR)
    ill = float(r.beta(*((5, 2) if smokes else (1, 8))))
    wet = bool(r.random() < (0.6 if smokes else 0.15))
    airway = cough.airway(r, sex, age, ill, wet)
    person = _Person(name, row, airway, batch.strftime("%Y%m%d"))
    rate = int(r.choice((48000, 44100), p=(0.8, 0.2)))
    for kind in kinds:
        low, high = (1.0, 1.4) if kind in _EVALUATED else (0.6, 0.8)
        seconds = round(float(r.uniform(low, high)), 1)
        person.clips[kind] = _Clip(kind=kind, key=f"{name} {kind}", seconds=seconds, rate=rate)
        person.grades[kind] = str(r.choice(("2", "1", "0"), p=(0.78, 0.14, 0.08)))
    return person


def _asked(r: Rng, status: str) -> dict[str, str]:
    """What the second form asks besides."""
    positive = status.startswith("positive")
    tested = positive or r.random() < 0.4
    row = {
        "rU": "y" if r.random() < 0.04 else "n", "um": str(r.choice(("y", "n"))),
        "vacc": str(r.choice(("y", "p", "n"))), "ctScan": "n",
        "test_status": "p" if positive else "n" if tested else "na",
    }  # fmt: skip
    if tested:
        row |= {
            "testType": str(r.choice(("rtpcr", "rat"), p=(0.9, 0.1))),
            "test_date": "2021-09-01",
        }
    return row


def _special(seed: int) -> Iterator[_Person]:
    """One participant for each thing that goes wrong in the release, at any scale."""
    for what, change in SPECIAL.items():
        kinds = TYPES if what in ("header only", "one header") else _EVALUATED
        smoking = "n" if what in ("under validation", "returning") else ""
        person = _person(seed, special_id(seed, what), "female", smoking, kinds)
        person.grades |= dict.fromkeys(kinds, "2")
        change(person)
        yield person
    # The same person with a second id, which nothing but the sound tells.
    first = _person(seed, special_id(seed, "returning"), "female", "n", _EVALUATED)
    again = _person(seed, special_id(seed, "returned"), "female", "n", _EVALUATED[2:])
    again.row["rU"], again.airway = "y", first.airway
    yield again


def special_id(seed: int, what: str) -> str:
    """The id of the participant with whom this goes wrong."""
    name = _id(signal.rng(seed, "special", what))
    return name[:-1] if what == "short id" else name


def _change(kinds: tuple[str, ...], **changes: float) -> Callable[[_Person], None]:
    def apply(person: _Person) -> None:
        person.clips |= {k: replace(person.clips[k], **changes) for k in kinds}
        person.grades |= dict.fromkeys(kinds, "0")

    return apply


def _answer(**cells: str) -> Callable[[_Person], None]:
    return lambda person: person.row.update(cells)


def _lose(person: _Person) -> None:
    person.clips.pop("cough-shallow")
    person.grades.pop("cough-shallow")


def _unlist(person: _Person) -> None:
    person.listed = False
    person.grades.clear()


def _only_sidecar(person: _Person) -> None:
    _unlist(person)
    person.row |= {"smoker": "True", "st": "True"}


def _undescribed(person: _Person) -> None:
    _unlist(person)
    person.sidecar = False


def _misname(person: _Person) -> None:
    person.clips["cough-loud"] = replace(person.clips["cough-heavy"], key="cough-loud")


SPECIAL: dict[str, Callable[[_Person], None]] = {
    "header only": _change(TYPES, seconds=0.0, rate=16000),
    "one header": _change(("counting-fast",), seconds=0.0, rate=16000),
    "zeros": _change(("breathing-deep", "cough-heavy", "cough-shallow"), gain=0.0),
    "blip": _change(("breathing-deep",), seconds=0.09),
    "no shallow cough": _lose,
    "only a sidecar": _only_sidecar,
    "undescribed": _undescribed,
    "no sound": lambda p: p.clips.clear(),
    "unknown sound": _misname,
    "short id": _unlist,
    "under validation": _answer(
        covid_status="under_validation", test_status="ut", testType="False"
    ),
    "other": _answer(g="other"),
    "nothing ticked": _answer(**dict.fromkeys(_BOXES, "")),
    "returning": lambda p: None,
}


def _audio(path: Path, seed: int, clip: _Clip, airway: Airway) -> None:
    r = signal.rng(seed, clip.key, "sound")
    sound = np.zeros(0, np.float32)
    if clip.seconds:
        seconds = max(clip.seconds, 1.0)
        if clip.kind.startswith("breathing"):
            clean = cough.exhalation(r, seconds, airway)
        elif clip.kind.startswith("cough"):
            clean = cough.coughs(r, seconds, airway, int(r.integers(1, 3)))
        else:
            clean = _voice(r, seconds, airway, clip.kind)
        sound = cough.recorded(r, clean) * np.float32(clip.gain)
        sound = soxr.resample(sound, cough.RATE, clip.rate, quality="LQ")
    soundfile.write(path, sound[: round(clip.seconds * clip.rate)], clip.rate, subtype="PCM_16")


def _voice(r: Rng, seconds: float, airway: Airway, kind: str) -> Signal:
    """A sustained vowel, or for counting the same with pauses between the words."""
    n = int(seconds * cough.RATE)
    t = np.arange(n, dtype=np.float32) / cough.RATE
    first, second = {"a": (730, 1090), "e": (530, 1840), "o": (570, 840)}[
        kind[-1] if kind.startswith("vowel") else "a"
    ]
    out = np.zeros(n, np.float32)
    for k in range(1, int(3500 / airway.pitch) + 1):
        f = k * airway.pitch
        peaks = (1 / (1 + ((f - c * airway.tract) / 120) ** 2) for c in (first, second))
        out += (0.05 + sum(peaks)) / k**0.5 * np.sin(2 * np.pi * f * t).astype(np.float32)
    out += airway.hoarse * r.standard_normal(n, dtype=np.float32)
    if kind.startswith("counting"):
        words = 3.5 if kind == "counting-fast" else 1.8  # per second
        out *= np.clip(1.5 * np.sin(np.pi * words * t) ** 2 - 0.2, 0, 1)
    return out
