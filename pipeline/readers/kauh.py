"""KAUH: all metadata in the name, `BP33_Asthma,E W,P R M,43,F.wav`; three filters per patient.

The letter before `P` is the stethoscope's filter; the three files of a patient are views of one
auscultation. Eight locations in the names cannot be read as chest side, left or right, and level
(`P L R`). `Data annotation.xlsx` has them; its rows are in the patients' order and without ids,
so a row is believed only where its age and sex are those of the name. Otherwise the chest side is
all that is said.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.records import Recording, Rejected, Value

_NAME = re.compile(
    r"(?P<filter>[BDE])P(?P<patient>[1-9]\d{0,2})_(?P<diagnosis>[^,]+),(?P<sound_type>[^,]+),"
    r"(?P<location>[^,]+),(?P<age>\d+),(?P<sex>[MF])\.wav"
)
# Anterior or posterior; LEFT or right; upper, middle or LOWER: an L means what its place says.
_LOCATION = re.compile(r"[AP] [LR] [UML]")
_CHEST_SIDE = re.compile(r"[AP](?= |$)")
_SHEET = "Data annotation.xlsx"
_COLUMNS = ("Age", "Gender", "Location", "Sound type", "Diagnosis")


def read(archive: Path) -> Iterator[Recording | Rejected]:
    sheet = _sheet(archive)
    seen: set[str] = set()
    for wav in sorted(archive.rglob("*.wav")):
        member = wav.relative_to(archive).as_posix()
        name = _NAME.fullmatch(wav.name)
        if not name:
            yield Rejected(name=member, reason="bad_name")
            continue
        native_id = f"{name['filter']}P{name['patient']}"
        if native_id in seen:
            detail = f"a second file is called {native_id}; the first in order is used"
            yield Rejected(name=member, reason="bad_metadata", detail=detail)
            continue
        seen.add(native_id)
        yield _recording(member, native_id, name, sheet.get(int(name["patient"]), {}))


def _recording(
    member: str, native_id: str, name: re.Match[str], annotation: dict[str, str]
) -> Recording:
    person = name["patient"]
    row = name.groupdict()
    same = (annotation.get("Age"), annotation.get("Gender")) == (name["age"], name["sex"])
    findings: dict[str, Value] = {
        "filter": name["filter"],
        "diagnosis": _spaced(name["diagnosis"]).casefold(),  # Asthma and asthma, COPD and copd
        "sound_type": _spaced(name["sound_type"]),
        "age": int(name["age"]),
        "sex": name["sex"],
    }
    places = [_spaced(name["location"])]
    if same and not _LOCATION.fullmatch(places[0]):
        places.insert(0, annotation["Location"])
        row["location in the annotation sheet"] = annotation["Location"]
    if location := _location(places):
        findings["location"] = location
    return Recording(
        native_id=native_id,
        member=member,
        modality="lung",
        case_id=person,
        person=person,
        findings=findings,
        row=row,
    )


def _location(places: list[str]) -> str | None:
    """The first place that can be read; else the chest side of the last, if that can."""
    for place in places:
        if _LOCATION.fullmatch(place):
            return place
    side = _CHEST_SIDE.match(places[-1])
    return side[0] if side else None


def _sheet(archive: Path) -> dict[int, dict[str, str]]:
    """Patient -> cells of the annotation sheet; nothing where there is none."""
    path = next(iter(sorted(archive.rglob(_SHEET))), None)
    if path is None:
        return {}
    from openpyxl import load_workbook

    book = load_workbook(path, read_only=True, data_only=True)
    rows = book.worksheets[0].iter_rows(max_col=len(_COLUMNS), values_only=True)
    header = tuple(_cell(c) for c in next(rows, ()))
    if header != _COLUMNS:
        raise ValueError(f"{path.name} begins with {header}; expected {_COLUMNS}")
    people: dict[int, dict[str, str]] = {}
    for patient, cells in enumerate(rows, start=1):
        if cells[0] is None:  # rows without people follow: empty cells, zeros
            break
        people[patient] = dict(zip(_COLUMNS, map(_cell, cells), strict=True))
    book.close()
    return people


def _cell(value: Any) -> str:
    number = isinstance(value, float) and value.is_integer()
    return "" if value is None else _spaced(str(int(value) if number else value))


def _spaced(text: str) -> str:
    """Without the stray spaces of `P R L ` and `Heart Failure + Lung Fibrosis `."""
    return " ".join(text.split())
