"""SPRSound: `<patient>_<age>_<sex>_<location>_<recording>.wav` with a json of the same stem.

The repository has moved its folders twice and repeats every release in task folders, so files
are found by name below one root. Some files of 2024 and 2025 name no patient. The age is the
one in the file name, since it is the age at that recording; the summaries give one per patient.
"""

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.records import Event, Recording, Rejected, Value

_NAME = re.compile(
    r"^(?P<patient>\d*)_(?P<age>\d+\.\d+)_(?P<sex>[01])_(?P<location>p[1-8])_(?P<recording>\d+)$"
)
_YEAR = re.compile(r"20\d\d")
_EVENTS = {
    "Normal": "normal_events",
    "Rhonchi": "rhonchi",
    "Wheeze": "wheezes",
    "Stridor": "stridors",
    "Coarse Crackle": "coarse_crackles",
    "Fine Crackle": "fine_crackles",
    "Wheeze+Crackle": "wheezes_with_crackles",
}
_CONTINUOUS = {"Rhonchi", "Wheeze", "Stridor", "Wheeze+Crackle"}
_DISCONTINUOUS = {"Coarse Crackle", "Fine Crackle", "Wheeze+Crackle"}


def read(archive: Path) -> Iterator[Recording | Rejected]:
    summaries = _summaries(archive)
    for folder in _folders(archive):
        annotations: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(folder.rglob("*.json")):
            annotations[path.stem].append(path)
        wavs = sorted(folder.rglob("*.wav"))
        for wav in wavs:
            yield _recording(archive, folder, wav, annotations[wav.stem], summaries)
        for stem in sorted(annotations.keys() - {w.stem for w in wavs}):
            detail = f"{annotations[stem][0].relative_to(archive).as_posix()} describes it"
            yield Rejected(name=f"{stem}.wav", reason="no_audio_file", detail=detail)


def _folders(archive: Path) -> list[Path]:
    """The folders of one root in which every recording occurs once."""
    for pattern in ("BioCAS20[0-9][0-9]", "Classification"):
        found = [p for p in archive.rglob(pattern) if p.is_dir()]
        if found:
            root = min((p.parent for p in found), key=lambda p: (len(p.parts), p.as_posix()))
            return sorted(p for p in found if p.parent == root)
    raise FileNotFoundError(
        "SPRSound needs the folders BioCAS2022 to BioCAS2025: check them out of the repository"
    )


def _summaries(archive: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Year of the release -> patient -> row; only the file of 2022 has no year in its name."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for path in sorted(archive.rglob("*patient_summary*.csv"), key=lambda p: -len(p.parts)):
        challenge = re.search(r"'(\d\d)", path.name)
        with path.open(newline="", encoding="utf-8") as lines:
            rows = {row["patient_num"]: row for row in csv.DictReader(lines)}
        found[f"20{challenge[1]}" if challenge else "2022"] = rows
    if "2022" not in found:
        raise FileNotFoundError(
            "SPRSound needs 'Patient Summary/SPRSound_patient_summary.csv': check the folder "
            "'Patient Summary' out beside BioCAS2022"
        )
    return found


def _recording(
    archive: Path,
    folder: Path,
    wav: Path,
    annotations: list[Path],
    summaries: dict[str, dict[str, dict[str, str]]],
) -> Recording | Rejected:
    member = wav.relative_to(archive).as_posix()
    match = _NAME.match(wav.stem)
    if not match:
        return Rejected(name=member, reason="bad_name")
    if not annotations:
        return Rejected(name=member, reason="no_metadata", detail=f"there is no {wav.stem}.json")
    if len(annotations) > 1:
        detail = f"{len(annotations)} files are called {wav.stem}.json"
        return Rejected(name=member, reason="bad_metadata", detail=detail)
    text = annotations[0].read_text(encoding="utf-8")
    try:
        record, events = _labels(json.loads(text))
    except ValueError as error:
        return Rejected(name=member, reason="bad_metadata", detail=str(error))
    patient = match["patient"] or None
    year = _year(annotations[0].relative_to(folder.parent))
    summary = summaries.get(year, {}).get(patient or "", {})
    disease = summary.get("disease", "-")  # "-" is the summaries' missing value
    findings: dict[str, Value] = {
        "age": float(match["age"]),
        "sex": match["sex"],
        "location": match["location"],
        **({} if disease == "-" else {"disease": disease}),
        **_statements(record, events),
    }
    parts = wav.relative_to(archive).parts
    side = "train" if any(p.startswith("train") for p in parts) else "test"
    return Recording(
        native_id=wav.stem,
        member=member,
        modality="lung",
        case_id=f"{patient}_{match['age']}" if patient else wav.stem,
        person=patient,
        # Whose recording it is, nobody knows: it may be of a person on the other side.
        official_split=side if patient else None,
        findings=findings,
        row={
            "annotation": text,
            "annotation_file": annotations[0].relative_to(archive).as_posix(),
            "patient_summary": json.dumps(summary, ensure_ascii=False) if summary else "",
        },
    )


def _year(annotation: Path) -> str:
    """Release of a recording; only that of 2022 has folders without a year."""
    years = _YEAR.findall(annotation.parent.as_posix())
    return years[-1] if years else "2022"


def events(_wav: Path, row: Mapping[str, str]) -> list[Event]:
    """Normal and adventitious sounds."""
    annotation = json.loads(row["annotation"])
    _labels(annotation)
    return [
        Event(
            start_s=int(event["start"]) / 1000,
            end_s=int(event["end"]) / 1000,
            label=event["type"].lower(),
            track="sound",
        )
        for event in annotation["event_annotation"]
    ]


def _labels(annotation: Any) -> tuple[str | None, Counter[str]]:
    """Label of the recording, absent since 2024, and how often each event label occurs."""
    if not isinstance(annotation, dict) or "event_annotation" not in annotation:
        raise ValueError("the json has no event_annotation")
    if strangers := annotation.keys() - {"record_annotation", "event_annotation"}:
        raise ValueError(f"the json has unknown keys {sorted(strangers)}")
    events: Counter[str] = Counter()
    for event in annotation["event_annotation"]:
        if not isinstance(event, dict) or not {"start", "end", "type"} <= event.keys():
            raise ValueError(f"event {event} lacks start, end or type")
        if not 0 <= int(event["start"]) < int(event["end"]):  # milliseconds, as strings
            raise ValueError(f"event {event['start']}..{event['end']} ms is reversed")
        events[event["type"]] += 1
    return annotation.get("record_annotation"), events


def _statements(record: str | None, events: Counter[str]) -> dict[str, Value]:
    found: dict[str, Value] = {} if record is None else {"record": record}
    if record is not None:
        found["label_conflict"] = record != _union(events)
    if events:
        found |= dict.fromkeys(_EVENTS.values(), 0)
        # A label without a word goes by its own name, so that it is refused and not lost.
        found |= {_EVENTS.get(label, label): count for label, count in events.items()}
        if record != "Poor Quality":
            found["adventitious"] = set(events) != {"Normal"}
    return found


def _union(events: Counter[str]) -> str:
    """The record label that the event labels amount to."""
    if not events:
        return "Poor Quality"
    heard = [
        name
        for name, labels in (("CAS", _CONTINUOUS), ("DAS", _DISCONTINUOUS))
        if labels & events.keys()
    ]
    return " & ".join(heard) or "Normal"
