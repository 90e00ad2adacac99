"""MMLung: `<task folder>/<subject>_<task>.wav` and one spirometry sheet per subject.

The phone's folder is written with spaces in one place and underscores in another. Sheets are
legacy Excel files of which three cells are used; joined by the subject's number, never by the
order of files, in which 10 stands before 2.
"""

import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from zipfile import BadZipFile

from pipeline.records import Modality, Recording, Rejected, Value

_TASKS = {
    "1_1_cough": "cough",
    "2_2_A_single": "vowela",
    "3_2_E_single": "vowele",
    "4_2_I_single": "voweli",
    "5_2_O_single": "vowelo",
    "6_2_Ophonation_single": "vowelophonation",
    "7_2_U_Single": "vowelu",
    "8_2_Uphonation_single": "voweluphonation",
    "9_3_deepbreath": "deepbreaths",
    "10_3_shallowclean": "shallowbreath",
    "11_4_rainbow": "rainbow",
    "12_5_describe_sth": "describesth",
    "13_6_long": "long",
    "14_6_short1": "short1",
    "15_6_short2": "short2",
    "16_7_describe_pic": "describepic",
    "17_8_action": "action",
    "18_8_nonaction": "nonaction",
}
_MODALITIES: dict[str, Modality] = {
    "cough": "cough", "deepbreaths": "breath", "shallowbreath": "breath",
}  # fmt: skip
_NAME = re.compile(r"(?P<subject>\d+)_(?P<task>[a-z0-9]+)\.wav")
_PHONE = re.compile(r"Trimmed[ _]Data[ _]from[ _]phone")
_SHEETS = "spirometry_ground_truth"
_SHEET = re.compile(r"(?P<subject>\d+)(_.*)?\.xls")
_CELLS = {"fvc": "B23", "fev1": "B24", "fev1_fvc": "B25"}
_NUMBER = re.compile(r"\d+(\.\d+)?")
Spirometry = dict[str, str]


def read(archive: Path) -> Iterator[Recording | Rejected]:
    phone, sheets = _folders(archive)
    spirometry: dict[int, Spirometry | str] = {}
    for subject, paths in _by_subject(sheets).items():
        spirometry[subject] = _measured(paths)
    named: set[str] = set()
    folders: set[str] = set()
    for wav in sorted(archive.rglob("*.wav")):
        member = wav.relative_to(archive).as_posix()
        name = _NAME.fullmatch(wav.name)
        task = _TASKS.get(wav.parent.name) if wav.parent.parent in phone else None
        if task is None:
            detail = "not in one of the phone's task folders"
            yield Rejected(name=member, reason="bad_name", detail=detail)
            continue
        folders.add(task)
        if not name or name["task"] != task:
            detail = f"{wav.parent.name} holds <subject>_{task}.wav"
            yield Rejected(name=member, reason="bad_name", detail=detail)
            continue
        native_id = f"{int(name['subject'])}_{task}"
        if native_id in named:
            detail = f"a second file is {native_id}; the first in order is used"
            yield Rejected(name=member, reason="bad_metadata", detail=detail)
            continue
        named.add(native_id)
        yield _recording(member, native_id, spirometry.get(int(name["subject"])))
    for subject in sorted(spirometry):
        for task in sorted(folders):
            if f"{subject}_{task}" not in named:
                detail = "the subject has a spirometry sheet, others have this recording"
                yield Rejected(name=f"{subject}_{task}.wav", reason="no_audio_file", detail=detail)


def _recording(
    member: str, native_id: str, measured: Spirometry | str | None
) -> Recording | Rejected:
    subject, task = native_id.split("_")
    if measured is None:
        detail = f"no {_SHEETS}/{subject}_*.xls"
        return Rejected(name=member, reason="no_metadata", detail=detail)
    if isinstance(measured, str):
        return Rejected(name=member, reason="bad_metadata", detail=measured)
    values: dict[str, Value] = {
        name: float(measured[cell].replace("*", "")) for name, cell in _CELLS.items()
    }
    return Recording(
        native_id=native_id,
        member=member,
        modality=_MODALITIES.get(task, "voice"),
        case_id=subject,
        person=subject,
        findings={"sound": task, **values},
        row=measured,
    )


def _folders(archive: Path) -> tuple[set[Path], list[Path]]:
    """The phone's folders and those of the spirometry sheets, wherever they lie."""
    folders = sorted(p for p in archive.rglob("*") if p.is_dir())
    phone = {p for p in folders if _PHONE.fullmatch(p.name)}
    sheets = [p for p in folders if p.name == _SHEETS]
    if not phone or not sheets:
        lacking = "'Trimmed Data from phone/'" if not phone else f"{_SHEETS}/"
        raise FileNotFoundError(
            f"MMLung needs {lacking} in {archive}. The data are given out on request only: "
            "datasets_manifest/mmlung.yaml says by whom"
        )
    return phone, sheets


def _by_subject(folders: list[Path]) -> dict[int, list[Path]]:
    found: dict[int, list[Path]] = defaultdict(list)
    for path in sorted(p for folder in folders for p in folder.iterdir()):
        if name := _SHEET.fullmatch(path.name):
            found[int(name["subject"])].append(path)
    return found


def _measured(paths: list[Path]) -> Spirometry | str:
    """The three cells as they stand, or why they cannot be used."""
    import xlrd
    from xlrd.biffh import XLRDError
    from xlrd.compdoc import CompDocError

    if len(paths) > 1:
        return f"{len(paths)} spirometry sheets: {', '.join(p.name for p in paths)}"
    name = paths[0].name
    try:
        book = xlrd.open_workbook(str(paths[0]), logfile=StringIO())
        sheet = book.sheet_by_index(0)
        cells = {
            cell: str(sheet.cell_value(int(cell[1:]) - 1, ord(cell[0]) - ord("A"))).strip()
            for cell in _CELLS.values()
        }
    # xlrd lets what it trips over in a damaged file through as it is.
    except (
        XLRDError, CompDocError, BadZipFile, struct.error, AssertionError, LookupError,
        ValueError,
    ) as error:  # fmt: skip
        return f"{name} cannot be read: {error!r}"
    for cell, text in cells.items():  # the spirometer marks some values with an asterisk
        if not _NUMBER.fullmatch(text.replace("*", "").strip()):
            return f"{name}: {cell} is {text!r}, no number with a decimal point"
    return cells
