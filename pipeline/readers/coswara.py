"""Coswara: `<batch>/<id>/<type>.wav`, combined_data.csv by id, a quality label for each file.

Batches lie in `Extracted_data`, where the publisher's script puts them, or wherever the parts were
unpacked; where there are several such folders one is read, `Extracted_data` first, then the least
deep. A batch is named after its upload, so the day of a recording comes from the table alone. The
id is the person: the table says who has taken part before, but not under which id. People whom
the table leaves out are described by the `metadata.json` beside their sound.
"""

import csv
import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from pipeline.records import Modality, Recording, Rejected, Value

_TYPES: dict[str, Modality] = {
    "breathing-deep": "breath", "breathing-shallow": "breath",
    "cough-heavy": "cough", "cough-shallow": "cough",
    "counting-fast": "voice", "counting-normal": "voice",
    "vowel-a": "voice", "vowel-e": "voice", "vowel-o": "voice",
}  # fmt: skip
_BATCH = re.compile(r"20\d{6}")
_ID = re.compile(r"[0-9A-Za-z]{28}")
_ROOT = "Extracted_data"
_TABLE = "combined_data.csv"
_SIDECAR = "metadata.json"
_FIRST_DAY = date(2020, 4, 13)
_COLUMNS = {
    "g": "sex",
    "covid_status": "covid_status",
    "smoker": "smoker",
    "test_status": "test_status",
    "testType": "test_type",
    "vacc": "vaccination",
    "um": "mask",
    "rU": "returning_user",
}
_SYMPTOMS = ("bd", "cold", "cough", "diarrhoea", "fever", "ftg", "loss_of_smell", "mp", "st")
_CONDITIONS = ("asthma", "cld", "pneumonia", "others_resp", "diabetes", "ht", "ihd",
               "others_preexist")  # fmt: skip
# A box that was not ticked is empty; nothing says that its owner read it.
_TICKED = {"True": True, "False": False, "": False}

Row = dict[str, str]


def read(archive: Path) -> Iterator[Recording | Rejected]:
    table = min(archive.rglob(_TABLE), key=lambda p: (len(p.parts), p.as_posix()), default=None)
    if table is None:
        raise FileNotFoundError(f"Coswara needs {_TABLE} from the top of its repository")
    people: dict[str, Row] = {}
    with table.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines, restval=""):
            if row["id"] in people:
                detail = f"a second row of {_TABLE}; the first is used"
                yield Rejected(name=row["id"], reason="bad_metadata", detail=detail)
            people.setdefault(row["id"], row)
    quality = _quality(table.parent / "annotations")
    done: set[str] = set()
    for entry in _folders(archive):
        if isinstance(entry, Rejected):
            yield entry
        elif entry.name in done:
            detail = "an earlier batch holds this id too and is used"
            yield Rejected(name=_name(archive, entry), reason="bad_metadata", detail=detail)
        else:
            done.add(entry.name)
            yield from _participant(archive, entry, people.get(entry.name), quality)
    for person in sorted(people.keys() - done):
        yield Rejected(name=person, reason="no_audio_file", detail="no batch has a folder of it")


def _folders(archive: Path) -> Iterator[Path | Rejected]:
    """The folder of each participant; what lies between them is refused."""
    batches = [p for p in archive.rglob("20*") if _BATCH.fullmatch(p.name) and _has_folders(p)]
    roots = sorted(
        {p.parent for p in batches}, key=lambda p: (p.name != _ROOT, len(p.parts), p.as_posix())
    )
    for other in roots[1:]:
        detail = f"more batches; those in {_name(archive, roots[0])} are used"
        yield Rejected(name=_name(archive, other), reason="bad_metadata", detail=detail)
    for folder in sorted(p for p in roots[0].iterdir() if p.is_dir()) if roots else ():
        if not _BATCH.fullmatch(folder.name):
            # Beside the batches lie the repository's own folders: only sound is missed.
            if folder.name.isdecimal() or any(folder.rglob("*.wav")):
                detail = "not the name of a batch"
                yield Rejected(name=_name(archive, folder), reason="bad_name", detail=detail)
            continue
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and _ID.fullmatch(entry.name):
                yield entry
            elif entry.is_dir() or entry.suffix == ".wav":
                yield Rejected(name=_name(archive, entry), reason="bad_name")


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any(p.is_dir() for p in folder.iterdir())


def _name(archive: Path, path: Path) -> str:
    return path.relative_to(archive).as_posix()


def _participant(
    archive: Path, folder: Path, listed: Row | None, quality: Row
) -> Iterator[Recording | Rejected]:
    person = folder.name
    wavs = {p.stem: p for p in sorted(folder.glob("*.wav"))}
    for kind in sorted(wavs.keys() - _TYPES.keys()):
        detail = "not one of the nine sounds"
        yield Rejected(name=_name(archive, wavs[kind]), reason="bad_name", detail=detail)
    sounds = [_name(archive, wavs[kind]) for kind in _TYPES if kind in wavs]
    try:
        cells, row = _metadata(folder, listed)
        findings = _findings(cells)
    except (FileNotFoundError, ValueError) as error:
        absent = isinstance(error, FileNotFoundError)
        detail = f"neither {_TABLE} nor a {_SIDECAR} describes it" if absent else str(error)
        for name in sounds or [_name(archive, folder)]:
            reason = "no_metadata" if absent else "bad_metadata"
            yield Rejected(name=name, reason=reason, detail=detail)
        return
    for kind, modality in _TYPES.items():
        native_id = f"{person}_{kind}"
        if kind not in wavs:
            detail = f"{_name(archive, folder)} lacks it"
            yield Rejected(name=native_id, reason="no_audio_file", detail=detail)
            continue
        heard = quality.get(native_id, "")
        yield Recording(
            native_id=native_id,
            member=_name(archive, wavs[kind]),
            modality=modality,
            case_id=person,
            person=person,
            findings={
                "recording_type": kind, **({"quality": heard} if heard else {}), **findings,
            },
            row={
                **row, "batch": folder.parent.name, **({"QUALITY": heard} if heard else {}),
            },
        )  # fmt: skip


def _metadata(folder: Path, listed: Row | None) -> tuple[Row, Row]:
    """Cells by column, and the metadata as they stood.

    Raises:
        FileNotFoundError: Nothing describes this participant.
        ValueError: The json cannot be read.
    """
    if listed is not None:
        return listed, {k: v for k, v in listed.items() if v}
    text = (folder / _SIDECAR).read_text(encoding="utf-8")
    said = json.loads(text)
    if not isinstance(said, dict):
        raise ValueError(f"{_SIDECAR} is not an object")
    # Old ones hold true where the table says True, and only the boxes that were ticked.
    return {k: "" if v is None else str(v) for k, v in said.items()}, {_SIDECAR: text}


def _findings(cells: Row) -> dict[str, Value]:
    said: dict[str, Value] = {
        finding: cells[column] for column, finding in _COLUMNS.items() if cells.get(column)
    }
    if age := cells.get("a"):
        said["age"] = int(age)
    if day := cells.get("record_date"):
        said["day"] = (date.fromisoformat(day) - _FIRST_DAY).days
    for finding, columns in (("symptoms", _SYMPTOMS), ("conditions", _CONDITIONS)):
        if ticked := tuple(c for c in columns if _ticked(c, cells.get(c, ""))):
            said[finding] = ticked
    return said


def _ticked(column: str, cell: str) -> bool:
    if cell not in _TICKED:
        raise ValueError(f"{column} is {cell!r}")
    return _TICKED[cell]


def _quality(folder: Path) -> Row:
    """`<id>_<type>` -> 0, 1 or 2."""
    found: Row = {}
    tables = sorted(folder.glob("*_labels.csv"))
    if not tables:  # the tasks ask for a grade: without any they would be empty in silence
        raise FileNotFoundError(f"Coswara needs {folder.name}/ with its tables beside {_TABLE}")
    for path in tables:
        with path.open(newline="", encoding="utf-8") as lines:
            # The header is `FILENAME, QUALITY`: a space belongs to neither name.
            for row in csv.DictReader(lines, skipinitialspace=True):
                found[row["FILENAME"]] = row["QUALITY"]
    return found
