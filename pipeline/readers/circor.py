"""CirCor 1.0.3: `training_data.csv` with one row per visit, `<patient>_<site>[_<take>].wav` audio.

Joined from the csv outwards: `Recording locations:` names a site once per recording, and takes
are numbered exactly where a site is named more than once. A murmur belongs to the visit; whether
it was heard in one recording follows from the sites at which it was heard. Two visits of a person
have two patient ids, linked by `Additional ID`.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median

from pipeline.records import Event, Recording, Rejected, Value

_NAME = re.compile(r"^\d{4,5}_(AV|PV|TV|MV|Phc)(_\d+)?$")
_MISSING = "nan"  # the csv's own marker
_CODES = {
    "age_group": "Age",
    "sex": "Sex",
    "campaign": "Campaign",
    "murmur": "Murmur",
    "most_audible": "Most audible location",
    "systolic_timing": "Systolic murmur timing",
    "systolic_shape": "Systolic murmur shape",
    "systolic_grade": "Systolic murmur grading",
    "systolic_pitch": "Systolic murmur pitch",
    "systolic_quality": "Systolic murmur quality",
    "diastolic_timing": "Diastolic murmur timing",
    "diastolic_shape": "Diastolic murmur shape",
    "diastolic_grade": "Diastolic murmur grading",
    "diastolic_pitch": "Diastolic murmur pitch",
    "diastolic_quality": "Diastolic murmur quality",
    "outcome": "Outcome",
}
_NUMBERS = {"height": "Height", "weight": "Weight"}
_SITES = "Recording locations:"  # the header has the colon
_MURMUR_SITES = "Murmur locations"
_PREGNANT = {"True": True, "False": False}
_COLUMNS = (
    "Patient ID",
    _SITES,
    *_CODES.values(),
    *_NUMBERS.values(),
    _MURMUR_SITES,
    "Pregnancy status",
    "Additional ID",
)
# States of the segmentation in the order of one cardiac cycle: S1, systole, S2, diastole, S1.
_CYCLE = ["1", "2", "3", "4", "1"]
_PHASES = {"1": "S1", "2": "systole", "3": "S2", "4": "diastole"}
_SLACK = 0.005  # s; neighbouring segments overlap or part by up to 1.4 ms


def read(archive: Path) -> Iterator[Recording | Rejected]:
    root = _root(archive)
    wavs = {p.stem: p for p in sorted((root / "training_data").glob("*.wav"))}
    listed: set[str] = set()
    for row in _visits(root / "training_data.csv"):
        if isinstance(row, Rejected):
            yield row
            continue
        patient = row["Patient ID"]
        if row[_SITES] == _MISSING:
            yield Rejected(name=patient, reason="bad_metadata", detail="no recording location")
            continue
        for native_id, site in _recordings(patient, row[_SITES].split("+")):
            listed.add(native_id)
            if native_id not in wavs:
                yield Rejected(
                    name=f"{native_id}.wav",
                    reason="no_audio_file",
                    detail="named in training_data.csv",
                )
                continue
            wav = wavs[native_id]
            try:
                findings = _findings(row, site, wav.with_suffix(".tsv"))
            except ValueError as error:
                yield Rejected(name=wav.name, reason="bad_metadata", detail=str(error))
                continue
            other = row["Additional ID"]
            yield Recording(
                native_id=native_id,
                member=wav.relative_to(archive).as_posix(),
                modality="heart",
                case_id=patient,
                person=patient,
                linked=() if other == _MISSING else (other,),
                findings=findings,
                row=row,
            )
    for stem in sorted(set(wavs) - listed):
        if _NAME.match(stem):
            detail = "no row of training_data.csv names this recording"
            yield Rejected(name=f"{stem}.wav", reason="no_metadata", detail=detail)
        else:
            yield Rejected(name=f"{stem}.wav", reason="bad_name")


def _root(archive: Path) -> Path:
    """The version folder: the archive itself, or the one folder that the zip unpacks to."""
    for folder in (archive, *sorted(p for p in archive.iterdir() if p.is_dir())):
        if (folder / "training_data.csv").is_file():
            return folder
    raise FileNotFoundError(
        f"CirCor needs training_data.csv beside training_data/ in {archive}; unpack the whole zip"
    )


def _visits(path: Path) -> Iterator[dict[str, str] | Rejected]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        table = csv.reader(lines)
        header = next(table, [])
        if missing := [c for c in _COLUMNS if c not in header]:
            raise ValueError(f"{path.name} has no column {', '.join(missing)}; is it CirCor 1.0.3?")
        for cells in table:
            if len(cells) == len(header):
                yield dict(zip(header, cells, strict=True))
            elif cells:
                detail = f"{len(cells)} cells instead of {len(header)}"
                yield Rejected(name=cells[0], reason="bad_metadata", detail=detail)


def _recordings(patient: str, sites: list[str]) -> Iterator[tuple[str, str]]:
    """(native id, site) of each recording; a set of the sites would lose the repeats."""
    often = Counter(sites)
    taken: Counter[str] = Counter()
    for site in sites:
        taken[site] += 1
        suffix = f"_{taken[site]}" if often[site] > 1 else ""
        yield f"{patient}_{site}{suffix}", site


def _findings(row: dict[str, str], site: str, segments: Path) -> dict[str, Value]:
    found: dict[str, Value] = {"site": site}
    found |= {name: row[c] for name, c in _CODES.items() if row[c] != _MISSING}
    found |= {name: float(row[c]) for name, c in _NUMBERS.items() if row[c] != _MISSING}
    pregnant = row["Pregnancy status"]
    if pregnant != _MISSING:
        if pregnant not in _PREGNANT:
            raise ValueError(f"Pregnancy status {pregnant!r} is neither True nor False")
        found["pregnant"] = _PREGNANT[pregnant]
    heard_at = () if row[_MURMUR_SITES] == _MISSING else tuple(row[_MURMUR_SITES].split("+"))
    if heard_at:
        found["murmur_sites"] = heard_at
    murmur = row["Murmur"]
    if murmur == "Present" and heard_at:
        found["murmur_here"] = "heard" if site in heard_at else "not_heard_here"
    elif murmur in ("Absent", "Unknown"):
        found["murmur_here"] = murmur.lower()
    rate = _heart_rate(segments)
    if rate is not None:
        found["heart_rate"] = rate
    return found


def events(wav: Path, _row: Mapping[str, str]) -> list[Event]:
    """Heart sounds and the pauses between them, where somebody annotated them."""
    return [
        Event(start_s=start, end_s=end, label=_PHASES[state], track="phase")
        for start, end, state in _segments(wav.with_suffix(".tsv"))
        if state in _PHASES and start < end
    ]


def _segments(path: Path) -> list[tuple[float, float, str]]:
    """Start and end in seconds and state of each segment; none without the file."""
    segments: list[tuple[float, float, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        start, end, state = line.split("\t")
        if state not in ("0", "1", "2", "3", "4") or not float(start) <= float(end):
            raise ValueError(f"{path.name}: no segment {line!r}")
        segments.append((float(start), float(end), state))
    return segments


def _heart_rate(path: Path) -> float | None:
    """Beats per minute over the whole annotated cycles; None when there are fewer than two.

    Most of a recording is not annotated, and the last segment may end anywhere.
    """
    segments = _segments(path)
    cycles: list[float] = []
    for i in range(len(segments) - 4):
        window = segments[i : i + 5]
        joined = all(abs(b[0] - a[1]) < _SLACK for a, b in pairwise(window))
        if joined and [s for _, _, s in window] == _CYCLE:
            cycles.append(window[4][0] - window[0][0])
    return round(60 / median(cycles), 1) if len(cycles) >= 2 else None
