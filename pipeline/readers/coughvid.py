"""COUGHVID: `<uuid>.webm|ogg` with a sidecar `<uuid>.json`, and metadata_compiled.csv for all.

The table comes first; a sidecar is read only where the table has no row, since where in the
archive the table lies could not be verified. Nothing names a person: recordings with the same
place, age and sex are linked by that proxy. Everything is a string: `bool("False")` is true.
"""

import csv
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pipeline.records import Recording, Rejected, Value

# Version 1, which is the one that the benchmark uses, and version 3.
_FOLDERS = ("public_dataset", "public_dataset_v3/coughvid_20211012")
_AUDIO = (".webm", ".ogg", ".wav")
_NAME = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
# The published benchmark keeps `>= 0.8`; three recordings have exactly 0.8.
_COUGH_DETECTED = 0.8
# Outside, ages are not believed: 60 of them, many exactly 1.
_AGES = (5, 95)
_FIRST_DAY = datetime(2020, 4, 1, tzinfo=UTC)
_PLACE_AGE_SEX = ("latitude", "longitude", "age", "gender")
_SIGNS = ("dyspnea", "wheezing", "stridor", "choking", "congestion")
_FLAGS = {"True": True, "False": False}


def read(archive: Path) -> Iterator[Recording | Rejected]:
    folder = next((archive / f for f in _FOLDERS if (archive / f).is_dir()), None)
    if folder is None:
        raise FileNotFoundError(f"CoughVID needs the folder {' or '.join(_FOLDERS)}; unpack it")
    audio: dict[str, Path] = {}
    sidecars: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            sidecars.append(path)
        elif path.suffix not in _AUDIO:
            continue
        elif not _NAME.fullmatch(path.stem):
            yield Rejected(name=path.name, reason="bad_name")
        elif path.stem in audio:
            detail = f"{audio[path.stem].name} is taken"
            yield Rejected(name=path.name, reason="no_metadata", detail=detail)
        else:
            audio[path.stem] = path
    table = folder / "metadata_compiled.csv"
    if not table.is_file() and not sidecars:
        raise FileNotFoundError(f"CoughVID needs {table.name} or sidecars in {folder.name}/")
    seen: set[str] = set()
    for name, row in _rows(table, sidecars):
        if name in seen:
            yield Rejected(name=name, reason="bad_metadata", detail="a second row")
        else:
            yield _entry(archive, name, row, audio.get(name))
        seen.add(name)
    for name in sorted(audio.keys() - seen):
        yield Rejected(name=audio[name].name, reason="no_metadata")


def _rows(table: Path, sidecars: list[Path]) -> Iterator[tuple[str, dict[str, str] | str]]:
    """Name and metadata without missing values, or what is wrong with them."""
    seen: set[str] = set()
    if table.is_file():
        with table.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                seen.add(row["uuid"])
                yield row["uuid"], {k: v for k, v in row.items() if k and v}
    for path in sidecars:
        if path.stem not in seen:
            try:
                yield path.stem, _flat(json.loads(path.read_text(encoding="utf-8")))
            except ValueError as error:
                yield path.stem, f"{path.name}: {error}"


def _flat(sidecar: dict[str, str | dict[str, str]]) -> dict[str, str]:
    """A sidecar with the column names of the table."""
    row: dict[str, str] = {}
    for key, value in sidecar.items():
        if isinstance(value, dict):  # expert_labels_2
            row |= {f"{k}_{key[-1]}": v for k, v in value.items()}
        else:
            row[key] = value
    return row


def _entry(
    archive: Path, name: str, row: dict[str, str] | str, audio: Path | None
) -> Recording | Rejected:
    if isinstance(row, str):
        return Rejected(name=name, reason="bad_metadata", detail=row)
    try:
        detected = float(row["cough_detected"])
        findings = {"cough_detected": detected, **_self_report(row)}
        for expert in "123":
            findings |= _judgement(row, expert)
    except (KeyError, ValueError) as error:
        return Rejected(name=name, reason="bad_metadata", detail=repr(error))
    if detected < _COUGH_DETECTED:
        return Rejected(name=name, reason="excluded", detail=f"cough_detected {detected}")
    if audio is None:
        return Rejected(name=name, reason="no_audio_file")
    who = [row.get(key, "") for key in _PLACE_AGE_SEX]
    return Recording(
        native_id=name,
        member=audio.relative_to(archive).as_posix(),
        modality="cough",
        case_id=name,
        person=None,
        proxy=",".join(who) if all(who) else None,
        findings=findings,
        row=row,
    )


def _self_report(row: dict[str, str]) -> dict[str, Value]:
    said: dict[str, Value] = {}
    if "datetime" in row:
        said["day"] = (datetime.fromisoformat(row["datetime"]) - _FIRST_DAY).days
    if "age" in row and _AGES[0] <= (age := float(row["age"])) <= _AGES[1]:
        said["age"] = age
    for finding, column in (("sex", "gender"), ("status", "status")):
        if column in row:
            said[finding] = row[column]
    for column in ("respiratory_condition", "fever_muscle_pain"):
        if column in row:
            said[column] = _FLAGS[row[column]]
    return said


def _judgement(row: dict[str, str], expert: str) -> dict[str, Value]:
    said: dict[str, Value] = {
        name: row[name]
        for kind in ("quality", "cough_type", "diagnosis", "severity")
        if (name := f"{kind}_{expert}") in row
    }
    if f"nothing_{expert}" in row:
        signs = tuple(s for s in _SIGNS if _FLAGS[row[f"{s}_{expert}"]])
        # "Nothing" beside a sign, or neither, leaves open what was meant: not recorded.
        if _FLAGS[row[f"nothing_{expert}"]] != bool(signs):
            said[f"signs_{expert}"] = signs or ("nothing",)
    return said
