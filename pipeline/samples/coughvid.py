"""A look-alike of COUGHVID version 1: Opus in WebM and Ogg, sidecars, metadata_compiled.csv.

Half of the people give place, age and sex; they may record several times and then sound alike.
In 6 % of the people the sound contradicts the status, in another 6 % the sex. Date, place, length
and container say nothing about either.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from uuid import UUID

import av
import numpy as np
import soxr

from pipeline.samples import cohort, cough, signal
from pipeline.samples.cough import Airway
from pipeline.samples.signal import Job, Rng, Signal

RATE = 48000
LABEL_ERROR = 0.06
# Signs that an expert can tick; "nothing" is ticked instead of them.
_SIGNS = ("dyspnea", "wheezing", "stridor", "choking", "congestion")
_EXPERT = ("quality", "cough_type", *_SIGNS, "nothing", "diagnosis", "severity")
_EXPERT_3 = ("quality", *_SIGNS, "nothing", "cough_type", "diagnosis", "severity")
_SELF_REPORT = ("age", "gender", "respiratory_condition", "fever_muscle_pain", "status")
_COLUMNS = ["uuid", "datetime", "cough_detected", "latitude", "longitude", *_SELF_REPORT,
            *(f"{c}_1" for c in _EXPERT), *(f"{c}_2" for c in _EXPERT),
            *(f"{c}_3" for c in _EXPERT_3)]  # fmt: skip
# How often the experts cannot tell dry from wet, find a recording good, ok or poor, and what they
# suspect behind a sick cough: as different as in the release.
_CANNOT_TELL = {"1": 0.3, "2": 0.08, "3": 0.12}
_QUALITY = {"1": (0.05, 0.76, 0.19), "2": (0.52, 0.36, 0.12), "3": (0.92, 0.05, 0.03)}
_SUSPECT = {"1": ("COVID-19", "lower_infection"),
            "2": ("COVID-19", "upper_infection", "lower_infection", "obstructive_disease"),
            "3": ("upper_infection", "lower_infection")}  # fmt: skip
# By status: how ill the cough sounds (beta distribution), and how often the two flags are true.
_ILL = {"COVID-19": (6, 2), "healthy": (1, 8), "symptomatic": (2, 3), "": (1, 2)}
_CONDITION = {"COVID-19": 0.3, "healthy": 0.2, "symptomatic": 0.3}
_FEVER = {"COVID-19": 0.25, "healthy": 0.13, "symptomatic": 0.3}
# Dealt in turn; "" answers nothing, and can therefore not be told apart by place, age and sex.
_LINKED = ("healthy", "COVID-19", "healthy", "symptomatic", "COVID-19", "healthy", "COVID-19",
           "healthy")  # fmt: skip
_UNLINKED = ("healthy", "", "COVID-19", "healthy", "symptomatic", "", "COVID-19", "healthy")
_SEXES = ("female", "male", "male", "female", "male")
_PLACES = ((41.0, 29.1), (46.5, 6.6), (40.4, -3.7), (41.3, 61.3), (-23.5, -46.6), (33.6, -7.5))


@dataclass(frozen=True, kw_only=True)
class _Person:
    told: dict[str, str]  # place and self-report; what was not answered is left out
    airway: Airway
    ill: float
    wet: bool


@dataclass(frozen=True, kw_only=True)
class _Upload:
    row: dict[str, str]
    airway: Airway
    key: str  # the sound depends on the seed and this
    seconds: float
    suffix: str
    sound: Literal["cough", "breath", "silence"] = "cough"
    rate: int = RATE
    keep: float = 1.0  # fraction of the file that arrived
    stored: bool = True
    described: bool = True

    @property
    def name(self) -> str:
        return self.row["uuid"]


def write(root: Path, seed: int, scale: float = 1.0) -> None:
    folder = root / "public_dataset"
    uploads = [*_ordinary(seed, scale), *_special(seed)]
    jobs: list[Job] = [
        (_audio, folder / f"{u.name}{u.suffix}", {"seed": seed, "upload": u})
        for u in uploads if u.stored
    ]  # fmt: skip
    signal.render(jobs)
    rows = sorted((u.row for u in uploads if u.described), key=lambda row: row["uuid"])
    with (folder / "metadata_compiled.csv").open("w", newline="", encoding="utf-8") as lines:
        table = csv.DictWriter(lines, _COLUMNS, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    for row in rows:
        (folder / f"{row['uuid']}.json").write_text(json.dumps(_sidecar(row)), encoding="utf-8")


def _ordinary(seed: int, scale: float) -> Iterator[_Upload]:
    count = max(36, cohort.size(120, scale))
    sexes = [_SEXES[i % len(_SEXES)] for i in range(count)]
    names: dict[str, Iterator[str]] = {}
    for sex in ("female", "male"):
        r = signal.rng(seed, "places", sex)
        candidates = [_place_age_sex(r, sex) for _ in range(12 * count)]
        names[sex] = iter(cohort.spread("coughvid/~", candidates, sexes.count(sex)))
    for i, sex in enumerate(sexes):
        name = next(names[sex])
        person = _person(seed, name, _LINKED[i % len(_LINKED)], linked=True)
        for k in range(signal.rng(seed, name, "several").choice((1, 1, 1, 2, 2, 3))):
            yield _upload(seed, f"{name} {k}", person)
    for i in range(max(28, cohort.size(100, scale))):
        r = signal.rng(seed, "unlinked", i)
        name = _place_age_sex(r, str(r.choice(("female", "male", "other"), p=(0.41, 0.54, 0.05))))
        person = _person(seed, name, _UNLINKED[i % len(_UNLINKED)], linked=False)
        upload = _upload(seed, name, person)
        if i % 6 == 2:  # the detector did not find a cough
            low = {"cough_detected": f"{signal.rng(seed, i, 'low').uniform(0.003, 0.79):.4f}"}
            upload = replace(upload, row=upload.row | low, sound="breath")
        yield upload


def _special(seed: int) -> Iterator[_Upload]:
    """One upload for each thing that goes wrong in the release, at any scale."""

    def one(what: str, status: str = "healthy", linked: bool = True) -> _Upload:
        name = _place_age_sex(signal.rng(seed, what), "male")
        return _upload(seed, what, _person(seed, name, status, linked))

    yield replace(one("truncated"), suffix=".webm", keep=0.33)
    yield replace(one("empty"), suffix=".webm", keep=0.0)
    yield replace(one("lost"), stored=False)
    yield replace(one("unlisted"), described=False)
    yield replace(one("wideband"), suffix=".ogg", rate=16000)  # OpusHead says 16 kHz
    yield replace(one("blip", "COVID-19"), seconds=0.3)
    first = one("twice", "COVID-19", linked=False)
    yield first
    yield replace(one("again"), row=first.row | {"uuid": one("again").name}, key=first.key,
                  airway=first.airway, suffix=first.suffix, seconds=first.seconds)  # fmt: skip
    silent = one("silent")
    heard = {"cough_detected": "0.8312", **_judgement(signal.rng(seed, "silent"), "3", None)}
    yield replace(silent, row=silent.row | heard, sound="silence")
    for what, changed in (
        ("threshold", {"cough_detected": "0.8000"}),
        ("toddler", {"age": "1"}),
        ("oldest", {"age": "102"}),
    ):
        upload = one(what)
        yield replace(upload, row=upload.row | changed)
    upload = one("contradiction", "symptomatic")
    said = _judgement(signal.rng(seed, "contradiction"), "2", upload.airway)
    said |= {"wheezing_2": "True", "nothing_2": "True"}
    yield replace(upload, row=upload.row | said)


def _place_age_sex(r: Rng, sex: str) -> str:
    latitude, longitude = _PLACES[r.integers(len(_PLACES))]
    age = int(np.clip(r.normal(36, 13), 9, 80))
    return f"{latitude + r.normal(0, 2):.1f},{longitude + r.normal(0, 2):.1f},{age},{sex}"


def _person(seed: int, name: str, status: str, linked: bool) -> _Person:
    r = signal.rng(seed, name, "person")
    latitude, longitude, age, sex = name.split(",")
    told: dict[str, str] = {}
    if linked or r.random() < 0.3:
        told |= {"latitude": latitude, "longitude": longitude}
    if status:
        if linked or (r.random() < 0.7 and "latitude" not in told):
            told["age"] = age
        told |= {
            "gender": sex,
            "respiratory_condition": str(r.random() < _CONDITION[status]),
            "fever_muscle_pain": str(r.random() < _FEVER[status]),
            "status": status,
        }
    heard_sex = sex if sex != "other" else ("female", "male")[r.integers(2)]
    if r.random() < LABEL_ERROR:
        heard_sex = "male" if heard_sex == "female" else "female"
    heard_status = status
    if r.random() < LABEL_ERROR:
        heard_status = {"healthy": "COVID-19", "COVID-19": "healthy"}.get(status, status)
    ill = float(r.beta(*_ILL[heard_status]))
    wet = bool(r.random() < 0.2 + 0.4 * ill)
    airway = cough.airway(r, heard_sex, float(age), ill, wet, wheeze=bool(r.random() < 0.12))
    return _Person(told=told, airway=airway, ill=ill, wet=wet)


def _upload(seed: int, key: str, person: _Person) -> _Upload:
    r = signal.rng(seed, key, "upload")
    day = datetime(2020, 4, 1, tzinfo=UTC) + timedelta(days=float(r.uniform(0, 161)))
    row = {
        "uuid": str(UUID(bytes=r.bytes(16), version=4)),
        "datetime": day.isoformat(timespec="microseconds"),
        "cough_detected": f"{1 - 0.19 * r.beta(1, 2.5):.4f}",
        **person.told,
    }
    draw = r.random()
    for expert in "123" if draw < 0.1 else str(r.integers(1, 4)) if draw < 0.45 else "":
        row |= _judgement(r, expert, person.airway)
    return _Upload(
        row=row, airway=person.airway, key=key, seconds=round(float(r.uniform(4, 6)), 1),
        suffix=".ogg" if r.random() < 0.12 else ".webm",
    )  # fmt: skip


def _judgement(r: Rng, expert: str, airway: Airway | None) -> dict[str, str]:
    """What one expert says; without an airway there is no cough to judge."""
    said = {sign: "False" for sign in _SIGNS} | {"nothing": "True"}
    if airway is None:
        said["quality"] = "no_cough"
    else:
        wet = (airway.wet > 0.3) != (r.random() < 0.12)
        sick = airway.crackles > r.normal(4, 1.5)
        said["quality"] = str(r.choice(("good", "ok", "poor"), p=_QUALITY[expert]))
        said["cough_type"] = "wet" if wet else "dry"
        if r.random() < _CANNOT_TELL[expert]:
            said["cough_type"] = "unknown"
        if airway.wheeze and r.random() < 0.85:
            said |= {"wheezing": "True", "nothing": "False"}
        if r.random() < 0.05:
            said |= {str(r.choice(_SIGNS)): "True", "nothing": "False"}
        said["diagnosis"] = str(r.choice(_SUSPECT[expert])) if sick else "healthy_cough"
        said["severity"] = ("severe" if r.random() < 0.2 else "mild") if sick else "pseudocough"
        if r.random() < 0.08:
            said["severity"] = "unknown"
    return {f"{name}_{expert}": word for name, word in said.items()}


def _sidecar(row: dict[str, str]) -> dict[str, str | dict[str, str]]:
    sidecar: dict[str, str | dict[str, str]] = {
        k: v for k, v in row.items() if k != "uuid" and k[-2:] not in ("_1", "_2", "_3")
    }
    for expert in "123":
        said = {k[:-2]: v for k, v in row.items() if k.endswith(f"_{expert}")}
        if said:
            sidecar[f"expert_labels_{expert}"] = said
    return sidecar


def _audio(path: Path, seed: int, upload: _Upload) -> None:
    r = signal.rng(seed, upload.key, "sound")
    if upload.sound == "silence":
        sound = np.zeros(int(upload.seconds * cough.RATE), np.float32)
    elif upload.sound == "breath":
        sound = cough.recorded(r, cough.exhalation(r, upload.seconds, upload.airway))
    else:
        count = int(r.integers(2, 6))
        sound = cough.recorded(r, cough.coughs(r, upload.seconds, upload.airway, count))
    content = _opus(sound, path.suffix[1:], upload.rate, int(r.choice((24000, 32000, 48000))))
    path.write_bytes(content[: int(len(content) * upload.keep)])


def _opus(sound: Signal, container: str, rate: int, bits: int) -> bytes:
    """As a browser's recorder leaves it: 60 ms packets, in WebM without a length in the header.

    ``bitexact`` keeps random serial numbers out; the lowest complexity halves the time.
    """
    if rate != cough.RATE:
        sound = soxr.resample(sound, cough.RATE, rate, quality="LQ")
    samples = (np.clip(sound, -1, 1) * 32767).astype(np.int16)
    file = io.BytesIO()
    options = {"fflags": "+bitexact"} | ({"live": "1"} if container == "webm" else {})
    with av.open(file, "w", format=container, container_options=options) as out:
        stream = out.add_stream("libopus", rate=rate, layout="mono", bit_rate=bits, options={
            "frame_duration": "60", "compression_level": "0"})  # fmt: skip
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = rate
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()
