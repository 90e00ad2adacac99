"""ZCHSound: two `;` tables of file, sex, age in days and diagnosis; `ZCH<4 digits>.wav` anywhere.

Sound is found by its name, wherever it lies: copies of the archive differ in whether the class
has a folder. The `Noise ... Details` folder and table differ only in `.csv`. One recording per
child, so the file is the person; byte-identical files are dealt with once all sound is hashed.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.records import Recording, Rejected, Value

_NAME = re.compile(r"^ZCH\d{4}\.wav$")
_TABLE = re.compile(r"^(clean|noise) heartsound data details\b.*\.csv$", re.IGNORECASE)
_COLUMNS = ["fileName", "gender", "age(days)", "diagnosis"]


def read(archive: Path) -> Iterator[Recording | Rejected]:
    wavs: dict[str, Path] = {}
    for wav in sorted(archive.rglob("*.wav")):
        name = wav.relative_to(archive).as_posix()
        if not _NAME.match(wav.name):
            yield Rejected(name=name, reason="bad_name")
        elif wav.name in wavs:
            detail = f"a second file is called {wav.name}; the first in order is used"
            yield Rejected(name=name, reason="bad_metadata", detail=detail)
        else:
            wavs[wav.name] = wav
    listed: set[str] = set()
    for table in _tables(archive):
        part = table.name.split()[0].lower()
        for cells in _rows(table):
            listed.add(cells[0])
            yield _entry(archive, wavs, part, cells)
    for name in sorted(set(wavs) - listed):
        detail = "no row of the two tables names this file"
        yield Rejected(name=name, reason="no_metadata", detail=detail)


def _entry(
    archive: Path, wavs: dict[str, Path], part: str, cells: list[str]
) -> Recording | Rejected:
    name = cells[0]
    if len(cells) != len(_COLUMNS):
        detail = f"{len(cells)} cells instead of {len(_COLUMNS)}: {';'.join(cells)}"
        return Rejected(name=name, reason="bad_metadata", detail=detail)
    if not _NAME.match(name):
        return Rejected(name=name, reason="bad_name", detail="in the table")
    if name not in wavs:
        return Rejected(name=name, reason="no_audio_file", detail=f"named in the {part} table")
    _, sex, age, diagnosis = cells
    findings: dict[str, Value] = {"recording_set": part}
    if sex:
        findings["sex"] = sex
    if age:
        if not age.isdecimal():
            return Rejected(name=name, reason="bad_metadata", detail=f"age {age!r} days")
        findings["age_days"] = int(age)
    if diagnosis:
        findings["diagnosis"] = diagnosis
    native_id = name.removesuffix(".wav")
    return Recording(
        native_id=native_id,
        member=wavs[name].relative_to(archive).as_posix(),
        modality="heart",
        case_id=native_id,
        person=native_id,
        findings=findings,
        row=dict(zip(_COLUMNS, cells, strict=True)),
    )


def _tables(archive: Path) -> list[Path]:
    """The tables that are there; sound of a set without a table is refused later, by name."""
    folders = (archive, *sorted(p for p in archive.iterdir() if p.is_dir()))
    for folder in folders:
        tables = sorted(p for p in folder.iterdir() if p.is_file() and _TABLE.match(p.name))
        if tables:
            return tables
    raise FileNotFoundError(
        "ZCHSound needs 'Clean Heartsound Data Details.csv' and 'Noise Heartsound Data "
        f"Details.csv' in {archive}; unpack ZCHSound.zip (a file of 134 bytes is only its pointer)"
    )


def _rows(table: Path) -> Iterator[list[str]]:
    raw = table.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:  # a Chinese spreadsheet programme's default
        text = raw.decode("gbk")
    rows = csv.reader(text.splitlines(), delimiter=";")
    header = [c.strip() for c in next(rows, [])]
    if header != _COLUMNS:
        raise ValueError(f"{table.name} begins with {header}; expected {';'.join(_COLUMNS)}")
    for cells in rows:
        if cells:
            yield [c.strip() for c in cells]
