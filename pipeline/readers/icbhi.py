"""ICBHI 2017: `<patient>_<rec>_<location>_<mode>_<device>.wav` with a cycle file of the same stem.

Joined from the audio outwards: the official split lists one name whose wav does not exist
(`226_1b1_Pl_sc_Meditron`), so wav -> split and never the reverse; the row without a file is
reported. Cycle files are named after their wav, since prose files lie beside them.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.records import Event, Recording, Rejected, Split, Value

_NAME = re.compile(
    r"^(?P<patient>\d{3})_(?P<rec>\d[bp]\d)_(?P<location>Tc|Al|Ar|Pl|Pr|Ll|Lr)"
    r"_(?P<mode>sc|mc)_(?P<device>AKGC417L|LittC2SE|Litt3200|Meditron)$"
)
# Order as measured; the published training code names the last three wrongly.
_DEMOGRAPHICS = ("patient", "age", "sex", "bmi", "weight", "height")
_MEASURES = ("age", "bmi", "weight", "height")
_MISSING = "NA"
_SIDES: dict[str, Split] = {"train": "train", "test": "test"}


def read(archive: Path) -> Iterator[Recording | Rejected]:
    people = {r[0]: r for r in _rows(archive / "ICBHI_Challenge_demographic_information.txt")}
    diagnosis = {r[0]: r for r in _rows(archive / "ICBHI_Challenge_diagnosis.txt")}
    split = {r[0]: r for r in _rows(archive / "ICBHI_challenge_train_test.txt")}
    found: set[str] = set()
    for wav in sorted((archive / "ICBHI_final_database").rglob("*.wav")):
        match = _NAME.match(wav.stem)
        if not match:
            yield Rejected(name=wav.name, reason="bad_name")
            continue
        found.add(wav.stem)
        patient = match["patient"]
        silent = [
            file
            for file, key, rows in (
                ("the demographic information", patient, people),
                ("the diagnoses", patient, diagnosis),
                ("the train/test list", wav.stem, split),
            )
            if key not in rows
        ]
        if silent:
            detail = f"not in {' nor in '.join(silent)}"
            yield Rejected(name=wav.name, reason="no_metadata", detail=detail)
            continue
        try:
            yield _recording(
                archive, wav, match, people[patient], diagnosis[patient], split[wav.stem]
            )
        except ValueError as error:
            yield Rejected(name=wav.name, reason="bad_metadata", detail=str(error))
    for stem in sorted(split.keys() - found):
        detail = "the train/test list names it"
        yield Rejected(name=f"{stem}.wav", reason="no_audio_file", detail=detail)


def _rows(path: Path) -> list[list[str]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"ICBHI needs {path.name}: download it and put it beside ICBHI_final_database/"
        )
    with path.open(newline="", encoding="utf-8") as lines:  # CRLF in two of the three files
        return [row for row in csv.reader(lines, delimiter="\t") if row]


def _recording(
    archive: Path,
    wav: Path,
    name: re.Match[str],
    demographics: list[str],
    diagnosis: list[str],
    split: list[str],
) -> Recording:
    person = dict(zip(_DEMOGRAPHICS, demographics, strict=True))
    _, disease = diagnosis
    _, side = split
    if side not in _SIDES:
        raise ValueError(f"the train/test list says {side!r}")
    cycles = _cycles(wav.with_suffix(".txt"))
    findings: dict[str, Value] = {
        **{k: float(person[k]) for k in _MEASURES if person[k] != _MISSING},
        **({"sex": person["sex"]} if person["sex"] != _MISSING else {}),
        "diagnosis": disease,
        "location": name["location"],
        "mode": name["mode"],
        "device": name["device"],
        "cycles": len(cycles),
        "crackle_cycles": sum(crackles for *_, crackles, _ in cycles),
        "wheeze_cycles": sum(wheezes for *_, wheezes in cycles),
    }
    return Recording(
        native_id=wav.stem,
        member=wav.relative_to(archive).as_posix(),
        modality="lung",
        case_id=f"{name['patient']}_{name['rec']}",
        person=name["patient"],
        official_split=_SIDES[side],
        findings=findings,
        row=person | {"diagnosis": disease, "split": side},
    )


def events(wav: Path, _row: Mapping[str, str]) -> list[Event]:
    """Breathing cycles, and what was heard in each."""
    path = wav.with_suffix(".txt")
    found: list[Event] = []
    for start, end, crackles, wheezes in _cycles(path) if path.is_file() else []:
        heard = [word for word, here in (("crackles", crackles), ("wheezes", wheezes)) if here]
        label = " and ".join(heard) or "cycle"
        found.append(Event(start_s=start, end_s=end, label=label, track="cycle"))
    return found


def _cycles(path: Path) -> list[tuple[float, float, int, int]]:
    """Start and end in seconds, crackles and wheezes (0 or 1) of each breathing cycle."""
    if not path.is_file():
        raise ValueError(f"there is no {path.name}")
    cycles: list[tuple[float, float, int, int]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        start, end, crackles, wheezes = line.split("\t")
        if not float(start) < float(end):
            raise ValueError(f"{path.name}: cycle {start}..{end} is reversed")
        if {crackles, wheezes} - {"0", "1"}:
            raise ValueError(f"{path.name}: a flag in {line!r} is neither 0 nor 1")
        cycles.append((float(start), float(end), int(crackles), int(wheezes)))
    if not cycles:
        raise ValueError(f"{path.name} lists no cycle")
    return cycles
