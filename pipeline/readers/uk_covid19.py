"""UK COVID-19 vocal audio: three tables with one row per participant, and audio/<file>.wav.

A participant has up to three files: exhalation, cough, three_cough. Which file is which stands
only in audio_metadata.csv; the names do not say it. A size that is missing or at most 44 bytes
(a bare WAV header) means that nothing was recorded; `missing_audio` is about the participant as
a whole and is not used.
"""

import csv
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from pipeline.records import Modality, Recording, Rejected, Split, Value

# `47184_tLMeaLSsKRRJudkQ.wav` or `71-13-cbdf42d8-e6e6-4185-991c17801172ec86.wav` (8-4-4-16 digits,
# no RFC UUID). The second number is 12 for exhalations, 13 for coughs, unknown for three coughs.
_NAME = re.compile(
    r"\d+_[0-9A-Za-z]{16}\.wav|\d{2}-\d{2}-[0-9a-f]{8}(-[0-9a-f]{4}){2}-[0-9a-f]{16}\.wav"
)
_SOUNDS: dict[str, Modality] = {"exhalation": "breath", "cough": "cough", "three_cough": "cough"}
_HEADER = 44
_PERSON = "participant_identifier"
_SIDES: dict[str, Split | None] = {
    "train": "train", "val": "val", "test": "test",
    # Submissions after 29 November 2021, and those that the publisher's design left over.
    "long": None, "Not used": None, "": None,
}  # fmt: skip
_COLUMNS = {
    "age": "age",
    "gender": "sex",
    "smoker_status": "smoker_status",
    "covid_test_result": "covid_test_result",
    "influenza_a_test_result": "influenza_a_test_result",
    "influenza_b_test_result": "influenza_b_test_result",
}
_FLAGS = {
    "respiratory_condition_asthma": "asthma",
    "respiratory_condition_other": "other_respiratory_condition",
}
_MISSING = ("", "NaN", "nan")

Row = dict[str, str]


def read(archive: Path) -> Iterator[Recording | Rejected]:
    folder = archive / "audio"
    if not folder.is_dir():
        raise FileNotFoundError("UK COVID-19 needs audio/; unpack covid_data.zip and its parts")
    people = _Table(archive / "participant_metadata.csv")
    splits = _Table(archive / "train_test_splits.csv")
    unnamed = {entry.name for entry in os.scandir(folder)}
    present = frozenset(unnamed)
    done: set[str] = set()
    with _open(archive / "audio_metadata.csv") as lines:
        for audio in csv.DictReader(lines, restval=""):
            person = audio[_PERSON]
            if person in done:
                yield Rejected(name=person, reason="bad_metadata", detail="a second row of audio")
                continue
            done.add(person)
            split, who = splits.row(person), people.row(person)
            for sound in _SOUNDS:
                name = audio[f"{sound}_file_name"]
                if name in present and name not in unnamed:
                    yield Rejected(name=name, reason="bad_metadata", detail=f"again for {person}")
                    continue
                unnamed.discard(name)
                yield _entry(sound, audio, who, split, name in present)
    for person in sorted(people.names - done):
        yield Rejected(name=person, reason="no_audio_file", detail="not in audio_metadata.csv")
    for name in sorted(unnamed):
        yield Rejected(name=name, reason="no_metadata" if _NAME.fullmatch(name) else "bad_name")


def _entry(sound: str, audio: Row, who: Row, split: Row, present: bool) -> Recording | Rejected:
    person, name = audio[_PERSON], audio[f"{sound}_file_name"]
    if name in _MISSING:
        return Rejected(name=f"{person} {sound}", reason="no_audio_file", detail="no file name")
    if not _NAME.fullmatch(name):
        return Rejected(name=name, reason="bad_name", detail=f"{person} {sound}")
    try:
        size = _number(audio[f"{sound}_size"])
        side = _SIDES[split.get("splits", "")]
        findings = _findings(who) if who else {}
    except (KeyError, ValueError) as error:
        return Rejected(name=name, reason="bad_metadata", detail=f"{person}: {error!r}")
    if size is None or size <= _HEADER:
        reason = "header_only" if present else "no_audio_file"
        return Rejected(name=name, reason=reason, detail=f"{person} {sound}, size {size}")
    if not present:
        return Rejected(name=name, reason="no_audio_file", detail=f"{person} {sound}")
    if not who:
        detail = f"{person} is not in participant_metadata.csv"
        return Rejected(name=name, reason="no_metadata", detail=detail)
    return Recording(
        native_id=name.removesuffix(".wav"),
        member=f"audio/{name}",
        modality=_SOUNDS[sound],
        case_id=person,
        person=person,
        official_split=side,
        findings={"sound": sound, **findings},
        row={
            **{k: v for k, v in audio.items() if k.startswith(f"{sound}_") and v},
            **{k: v for k, v in who.items() if v},
            **{k: v for k, v in split.items() if v},
        },
    )


def _findings(who: Row) -> dict[str, Value]:
    said: dict[str, Value] = {
        finding: who[column] for column, finding in _COLUMNS.items() if who[column] not in _MISSING
    }
    for column, finding in _FLAGS.items():
        if (flag := _flag(who[column])) is not None:
            said[finding] = flag
    if symptoms := _symptoms(who):
        said["symptoms"] = symptoms
    # Several PCR names exist; the publisher's own code asks only whether "PCR" is in them.
    if (method := who["covid_test_method"]) not in _MISSING:
        said["covid_test_method"] = "PCR" if "PCR" in method else method
    if (cycles := _number(who["covid_ct_mean"])) is not None:
        said["covid_ct_mean"] = cycles
    if (source := who["recruitment_source"]) not in _MISSING:
        said["recruitment_source"] = "REACT" if "REACT" in source else source
    return said


def _symptoms(who: Row) -> tuple[str, ...]:
    """Ticked symptoms, or () where nothing or something contradictory was ticked.

    "None" or "prefer not to say" together with a symptom occurs. Either tick may be the wrong one,
    so neither is believed; the publisher's own splits leave such participants out too.
    """
    ticked = tuple(
        column.removeprefix("symptom_")
        for column, value in who.items()
        if column.startswith("symptom_") and column != "symptom_onset" and _flag(value)
    )
    alone = {"none", "prefer_not_to_say"} & set(ticked)
    return () if alone and len(ticked) > 1 else ticked


def _number(text: str) -> float | None:
    if text in _MISSING:
        return None
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text!r} is no number")
    return number


def _flag(text: str) -> bool | None:
    """0 and 1, which a column with gaps writes as 0.0 and 1.0."""
    return None if (number := _number(text)) is None else {0.0: False, 1.0: True}[number]


def _open(path: Path) -> TextIO:
    if not path.is_file():
        raise FileNotFoundError(f"UK COVID-19 needs {path.name} beside audio/; download it too")
    return path.open(newline="", encoding="utf-8")


class _Table:
    """A table by participant, kept as tuples: dictionaries of 73,000 people fill the memory."""

    def __init__(self, path: Path):
        with _open(path) as lines:
            rows = csv.reader(lines)
            self._header = next(rows)
            at = self._header.index(_PERSON)
            self._rows = {row[at]: tuple(row) for row in rows}
        self.names = self._rows.keys()

    def row(self, person: str) -> Row:
        """Cells by column; none for a person without a row."""
        return dict(zip(self._header, self._rows.get(person, ()), strict=False))
