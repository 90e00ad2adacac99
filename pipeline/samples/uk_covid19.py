"""A look-alike of the UK COVID-19 vocal audio release, unpacked: audio/ and three tables.

Every participant sends an exhalation and a cough, a third of them also three coughs. In 6 % of
the participants the sound contradicts the test. Sample rate, length, level and split say nothing
about it.
"""

import csv
import string
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

from pipeline.samples import cohort, cough, signal
from pipeline.samples.cough import Airway
from pipeline.samples.signal import Job, Rng

LABEL_ERROR = 0.06
_PERSON = "participant_identifier"
_CODES = {"exhalation": 12, "cough": 13, "three_cough": 14}
# The release has eight columns per sound; the name of the last is a guess.
_MEASURES = ("file_name", "size", "sample_rate", "channels", "length", "amplitude",
             "signal_mean_std_ratio", "format")  # fmt: skip
_RATES, _SHARES = (48000, 44100, 16000), (0.79, 0.19, 0.02)
_SMOKING = ("Never smoked", "Never smoked", "Never smoked", "Ex-smoker",
            "Current smoker (1 to 10 cigarettes per day)",
            "Current smoker (11 or more cigarettes per day)",
            "Current smoker (e-cigarettes or vapes only)", "Prefer not to say", "")  # fmt: skip
# How often participants with a positive and with another test tick each box.
_SYMPTOMS = {
    "cough_any": (0.6, 0.25), "new_continuous_cough": (0, 0), "runny_or_blocked_nose": (0.5, 0.25),
    "shortness_of_breath": (0.2, 0.06), "sore_throat": (0.4, 0.2), "abdominal_pain": (0.1, 0.04),
    "diarrhoea": (0.1, 0.04), "fatigue": (0.5, 0.15), "fever_high_temperature": (0.3, 0.06),
    "headache": (0.45, 0.18), "change_to_sense_of_smell_or_taste": (0.3, 0.03),
    "loss_of_taste": (0.2, 0.02), "other": (0.08, 0.06), "none": (0, 0),
    "prefer_not_to_say": (0, 0),
}  # fmt: skip
_COLUMNS = [
    _PERSON, "age", "gender", "region_name", "smoker_status", "wearing_mask", "recruitment_source",
    "survey_phase", "submission_date", "submission_delay", "covid_test_result",
    "covid_test_method", "covid_test_date", "covid_test_processed_date", "covid_viral_load",
    "covid_viral_load_category", "covid_ct_value", "covid_ct_gene", "covid_ct_mean",
    "influenza_a_test_result", "influenza_a_ct_value", "influenza_b_test_result",
    "influenza_b_ct_value", "symptom_onset", *(f"symptom_{s}" for s in _SYMPTOMS),
    "respiratory_condition_asthma", "respiratory_condition_other",
]  # fmt: skip
_SPLIT_COLUMNS = [_PERSON, "splits", "original_splits", "naive_splits", "matched_train_splits",
                  "in_matched_rebalanced_test", "in_matched_rebalanced_long_test"]  # fmt: skip
# Dealt in turn, so that each side has both results; "long" are late submissions.
_SPLITS = ("train", "test", "train", "val", "train", "long", "test", "val", "train", "Not used")
_RESULTS = ("Positive", "Negative", "Negative", "Positive", "Negative", "Positive", "Negative")


@dataclass(frozen=True, kw_only=True)
class _Clip:
    """One file, or what should have been one."""

    key: str  # the sound depends on the seed and this
    sound: str
    name: str
    airway: Airway
    seconds: float
    rate: int
    channels: int = 1
    gain: float = 1.0
    keep: float = 1.0  # fraction of the file that arrived
    stored: bool = True
    measured: bool = True

    @property
    def frames(self) -> int:
        return round(self.seconds * self.rate)

    def measures(self) -> dict[str, object]:
        size = 44 + 2 * self.frames * self.channels
        values = (float(size), float(self.rate), float(self.channels), self.seconds, 0.5, 0.0,
                  "wav")  # fmt: skip
        row = {"file_name": self.name}
        row |= dict(zip(_MEASURES[1:], values, strict=True)) if self.measured else {}
        return {f"{self.sound}_{k}": v for k, v in row.items()}


@dataclass
class _Participant:
    row: dict[str, object]
    split: dict[str, object]
    clips: dict[str, _Clip] = field(default_factory=dict[str, _Clip])


def write(root: Path, seed: int, scale: float = 1.0) -> None:
    count = max(28, cohort.size(165, scale))
    people = [_participant(seed, i) for i in range(count)]
    for i, what in enumerate(_SPECIAL, start=count):
        people.append(_participant(seed, i))
        _SPECIAL[what](people[-1])
    clips = [clip for person in people for clip in person.clips.values() if clip.stored]
    jobs: list[Job] = [(_audio, root / "audio" / c.name, {"seed": seed, "clip": c}) for c in clips]
    stray = replace(clips[0], name="99999_audioWithoutRow0.wav")  # an exact copy, too
    jobs.append((_audio, root / "audio" / stray.name, {"seed": seed, "clip": stray}))
    signal.render(jobs)
    audio_columns = [_PERSON, *(f"{s}_{m}" for s in _CODES for m in _MEASURES), "missing_audio"]
    _table(root / "audio_metadata.csv", audio_columns, [_audio_row(p) for p in people])
    _table(root / "participant_metadata.csv", _COLUMNS, [p.row for p in people])
    _table(root / "train_test_splits.csv", _SPLIT_COLUMNS, [p.split for p in people])


def _table(path: Path, columns: list[str], rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as lines:
        table = csv.DictWriter(lines, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(row for row in rows if len(row) > 1)


def _audio_row(person: _Participant) -> dict[str, object]:
    row: dict[str, object] = {_PERSON: person.clips["cough"].key.split()[0]}
    for clip in person.clips.values():
        row |= clip.measures()
    return row | {"missing_audio": len(person.clips) < len(_CODES)}


def _participant(seed: int, i: int) -> _Participant:
    name = f"P{i + 1:07d}"
    r = signal.rng(seed, name)
    result = _RESULTS[i % len(_RESULTS)]
    positive = result == "Positive"
    sex = ("Female", "Male")[r.integers(2)]
    band, years = (("18-44", 31.0), ("45-64", 54.0), ("65+", 71.0))[
        r.choice(3, p=(0.5, 0.37, 0.13))
    ]
    split = _SPLITS[i % len(_SPLITS)]
    row: dict[str, object] = {
        _PERSON: name, "age": band, "gender": sex, "region_name": "South West",
        "smoker_status": r.choice(_SMOKING), "submission_date": int(r.integers(0, 380)),
        "survey_phase": "beta" if r.random() < 0.1 else "live", "covid_test_result": result,
        "respiratory_condition_asthma": int(r.random() < 0.12),
        "respiratory_condition_other": "" if r.random() < 0.05 else f"{int(r.random() < 0.06)}.0",
        **_tests(r, positive), **_symptoms(r, positive),
    }  # fmt: skip
    splits: dict[str, object] = {
        _PERSON: name, "splits": split, "original_splits": split,
        "naive_splits": r.choice(("train", "val", "test")), "matched_train_splits": "Not used",
        "in_matched_rebalanced_test": split == "test" and bool(r.random() < 0.2),
        "in_matched_rebalanced_long_test": split == "long" and bool(r.random() < 0.2),
    }  # fmt: skip
    ill = float(r.beta(*((6, 2) if positive != (r.random() < LABEL_ERROR) else (1, 8))))
    airway = cough.airway(r, sex.lower(), years, ill, wet=bool(r.random() < 0.2 + 0.4 * ill))
    person = _Participant(row, splits)
    rate = int(r.choice(_RATES, p=_SHARES)) if i != 2 else 16000  # one at any scale
    dashed, number = r.random() < 0.33, 20 + 37 * i + r.integers(37)
    for sound, code in _CODES.items():
        if sound != "three_cough" or r.random() < 0.35:
            file = _dashed(r, code) if dashed else f"{number}_{_token(r)}"
            person.clips[sound] = _Clip(
                key=f"{name} {sound}", sound=sound, name=f"{file}.wav", airway=airway,
                seconds=round(float(r.uniform(3, 4)), 1), rate=rate,
            )  # fmt: skip
    return person


def _tests(r: Rng, positive: bool) -> dict[str, object]:
    react = r.random() < (0.15 if positive else 0.55)
    method = str(
        r.choice(("PCR", "Dual PCR", "LAMP", "LFT", "Unknown"), p=(0.8, 0.1, 0.04, 0.04, 0.02))
    )
    row: dict[str, object] = {
        "recruitment_source": f"REACT1 Round {r.integers(13, 19)}" if react else "Test and Trace",
        "covid_test_method": method,
    }
    if positive and "PCR" in method and r.random() < 0.7:
        row["covid_ct_mean"] = f"{r.uniform(15, 34):.2f}"
    if react and r.random() < 0.7:
        row["influenza_a_test_result"] = "Positive" if r.random() < 0.06 else "Negative"
        row["influenza_b_test_result"] = "Negative"
    return row


def _symptoms(r: Rng, positive: bool) -> dict[str, object]:
    ticked = {s: int(r.random() < often[not positive]) for s, often in _SYMPTOMS.items()}
    ticked["new_continuous_cough"] = int(ticked["cough_any"] and r.random() < 0.6)
    if not any(ticked.values()):
        ticked["none"] = int(r.random() < 0.85)
    return {f"symptom_{s}": flag for s, flag in ticked.items()}


def _token(r: Rng) -> str:
    return "".join(r.choice(list(string.ascii_letters + string.digits), 16))


def _dashed(r: Rng, code: int) -> str:
    h = r.bytes(16).hex()
    return f"{r.choice((62, 71))}-{code}-{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:]}"


def _change(sound: str, **changes: object):
    def apply(person: _Participant) -> None:
        person.clips[sound] = replace(person.clips[sound], **changes)

    return apply


# One participant for each thing that goes wrong in the release, at any scale.
_SPECIAL = {
    "header only": _change("cough", seconds=0.0),
    "size missing": _change("exhalation", stored=False, measured=False),
    "lost": _change("exhalation", stored=False),
    "no name": lambda p: p.clips.pop("exhalation"),
    "truncated": _change("cough", keep=0.5),
    "stereo": _change("cough", channels=2),
    "silent": _change("exhalation", gain=0.0),
    "blip": _change("cough", seconds=0.3),
    "not a participant": lambda p: p.row.clear(),
    "no split": lambda p: p.split.clear(),
    "contradiction": lambda p: p.row.update(symptom_none=1, symptom_headache=1),
    "reticent": lambda p: p.row.update(
        {f"symptom_{s}": int(s == "prefer_not_to_say") for s in _SYMPTOMS}
        | {"smoker_status": "Prefer not to say", "respiratory_condition_other": ""}
    ),
    "unknown": lambda p: p.row.update(
        gender="Unknown", covid_test_result="Unknown/Void", covid_test_method="Unknown",
        covid_ct_mean="",
    ),
    "untested": lambda p: p.row.update(
        covid_test_result="", covid_test_method="", covid_ct_mean="", age=""
    ),
}  # fmt: skip


def _audio(path: Path, seed: int, clip: _Clip) -> None:
    r = signal.rng(seed, clip.key, "sound")
    sound = np.zeros(0, np.float32)
    if clip.sound == "exhalation":
        sound = cough.recorded(r, cough.exhalation(r, clip.seconds, clip.airway))
    elif clip.frames:
        count = 3 if clip.sound == "three_cough" else int(r.integers(1, 3))
        sound = cough.recorded(r, cough.coughs(r, clip.seconds, clip.airway, count))
    if clip.rate != cough.RATE:
        sound = soxr.resample(sound, cough.RATE, clip.rate, quality="LQ")
    sound = np.resize(sound, clip.frames) * np.float32(clip.gain)
    soundfile.write(path, np.tile(sound[:, None], clip.channels), clip.rate, subtype="PCM_16")
    if clip.keep < 1:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * clip.keep)])
