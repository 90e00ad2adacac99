"""RespiratoryDatabase@TR: `H002_L1.wav` anywhere, and one COPD severity per patient.

`Labels.xlsx` is the publisher's own table and is preferred; `Labels.csv` is a conversion of it
by others (with a byte order mark and a comma too many) and is read where it lies. A patient to
whom the two give different labels is refused. Which of the six channels of a side is which
place on the chest is not known, so a channel stays a channel.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from pipeline.records import Recording, Rejected

_NAME = re.compile(r"(?P<patient>H\d{3})_(?P<channel>[LR][1-6])\.wav")
_CHANNELS = [f"{side}{n}" for side in "LR" for n in range(1, 7)]
_COLUMNS = ("Patient ID", "Diagnosis")


def read(archive: Path) -> Iterator[Recording | Rejected]:
    tables = _tables(archive)
    patients = sorted({p for table in tables.values() for p in table})
    found: set[str] = set()
    for wav in sorted(archive.rglob("*.wav")):
        member = wav.relative_to(archive).as_posix()
        name = _NAME.fullmatch(wav.name)
        if not name:
            yield Rejected(name=member, reason="bad_name")
        elif wav.name in found:
            detail = f"a second file is called {wav.name}; the first in order is used"
            yield Rejected(name=member, reason="bad_metadata", detail=detail)
        else:
            found.add(wav.name)
            yield _recording(member, name, tables)
    for patient in patients:
        for channel in _CHANNELS:
            name = f"{patient}_{channel}.wav"
            if name not in found:
                detail = f"{patient} has a label and should have all twelve channels"
                yield Rejected(name=name, reason="no_audio_file", detail=detail)


def _recording(
    member: str, name: re.Match[str], tables: dict[str, dict[str, str]]
) -> Recording | Rejected:
    patient = name["patient"]
    said = {file: labels[patient] for file, labels in tables.items() if patient in labels}
    if not said:
        detail = f"{patient} is not in {' nor in '.join(tables)}"
        return Rejected(name=member, reason="no_metadata", detail=detail)
    if len(set(said.values())) > 1:
        detail = f"{patient}: " + ", ".join(f"{label} in {file}" for file, label in said.items())
        return Rejected(name=member, reason="bad_metadata", detail=detail)
    file, label = next(iter(said.items()))
    return Recording(
        native_id=f"{patient}_{name['channel']}",
        member=member,
        modality="lung",
        case_id=patient,
        person=patient,
        findings={"copd_severity": label, "channel": name["channel"]},
        row={"Patient ID": patient, "Diagnosis": label, "table": file},
    )


def _tables(archive: Path) -> dict[str, dict[str, str]]:
    """File -> patient -> label, the preferred file first."""
    tables: dict[str, dict[str, str]] = {}
    for name, load in (("Labels.xlsx", _sheet), ("Labels.csv", _csv)):
        if path := next(iter(sorted(archive.rglob(name))), None):
            tables[name] = _labels(name, load(path))
    if not tables:
        raise FileNotFoundError(
            "RespiratoryDatabase@TR needs Labels.xlsx (or Labels.csv), a file of its own on the "
            f"dataset's page: download it into {archive}"
        )
    return tables


def _labels(name: str, rows: Iterable[tuple[str, ...]]) -> dict[str, str]:
    cells = iter(rows)
    header = next(cells, ())[:2]
    if header != _COLUMNS:
        raise ValueError(f"{name} begins with {header}; expected {_COLUMNS}")
    labels: dict[str, str] = {}
    for patient, label, *_ in cells:
        if labels.setdefault(patient, label) != label:
            raise ValueError(f"{name} gives {patient} two labels: {labels[patient]}, {label}")
    return labels


def _sheet(path: Path) -> Iterator[tuple[str, ...]]:
    """Rows of the first sheet; the other two are empty."""
    from openpyxl import load_workbook

    book = load_workbook(path, read_only=True, data_only=True)
    rows = book.worksheets[0].iter_rows(max_col=len(_COLUMNS), values_only=True)
    # The sheet is formatted down to its last possible row, a million below the labels.
    yield from (tuple(map(_cell, row)) for row in takewhile(any, rows))
    book.close()


def _csv(path: Path) -> Iterator[tuple[str, ...]]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        yield from (tuple(map(_cell, row)) for row in csv.reader(lines) if any(row))


def _cell(value: Any) -> str:
    return "" if value is None else str(value).strip()
