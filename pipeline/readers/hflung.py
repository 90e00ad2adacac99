"""HF_Lung_V1: `train/` and `test/` with `<stem>.wav` and `<stem>_label.txt`, one interval a line.

There is no token for a normal sound: what is absent was not annotated, and an empty label file
is valid. No patient is named; the publisher says that files of one date are very likely one
subject, so the date, written in two ways, is the proxy.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.records import Event, Recording, Rejected, Split, Value

_STETH = re.compile(r"^steth_(?P<date>\d{8})_\d{2}_\d{2}_\d{2}$")
_TRUNC = re.compile(
    r"^trunc_(?P<date>\d{4}-\d{2}-\d{2})-(?P<time>\d{2}-\d{2}-\d{2})"
    r"-(?P<location>L\d)_(?P<piece>\d{1,2})$"
)
_CLOCK = re.compile(r"^(\d{2}):(\d{2}):(\d{2}(?:\.\d+)?)$")
_SECONDS = 15.0
_PHASES = {"I": "inhalations", "E": "exhalations"}
_ADVENTITIOUS = {"D": "crackles", "Wheeze": "wheezes", "Rhonchi": "rhonchi", "Stridor": "stridors"}
_CALLED = {
    "I": "inhalation", "E": "exhalation", "D": "crackles", "Wheeze": "wheeze",
    "Rhonchi": "rhonchus", "Stridor": "stridor",
}  # fmt: skip
_SIDES: tuple[Split, Split] = ("train", "test")


def read(archive: Path) -> Iterator[Recording | Rejected]:
    root = _root(archive)
    for side in _SIDES:
        folder = root / side
        for wav in sorted(folder.glob("*.wav")):
            yield _recording(archive, wav, side)
        for label in sorted(folder.glob("*_label.txt")):
            wav = label.with_name(f"{label.stem.removesuffix('_label')}.wav")
            if not wav.is_file():
                detail = f"{side}/{label.name} describes it"
                yield Rejected(name=wav.name, reason="no_audio_file", detail=detail)


def _root(archive: Path) -> Path:
    """The folder that holds both sides; archives of the repository wrap it in a folder."""
    for root in (archive, *sorted(p for p in archive.iterdir() if p.is_dir())):
        if all((root / side).is_dir() for side in _SIDES):
            return root
    raise FileNotFoundError(
        "HF_Lung_V1 needs the folders train/ and test/: extract train.7z.001 and test.7z.001 "
        "with a 7-Zip reader"
    )


def _recording(archive: Path, wav: Path, side: Split) -> Recording | Rejected:
    name = f"{side}/{wav.name}"
    steth, trunc = _STETH.match(wav.stem), _TRUNC.match(wav.stem)
    if steth:
        device, date, case, site = "steth", steth["date"], wav.stem, {}
    elif trunc:
        device, date = "trunc", trunc["date"].replace("-", "")
        # All channels and pieces of one session.
        case, site = f"trunc_{trunc['date']}-{trunc['time']}", {"location": trunc["location"]}
    else:
        return Rejected(name=name, reason="bad_name")
    label = wav.with_name(f"{wav.stem}_label.txt")
    if not label.is_file():
        return Rejected(name=name, reason="no_metadata", detail=f"there is no {label.name}")
    try:
        text = label.read_text(encoding="utf-8")
        tokens = Counter(_interval(line)[0] for line in text.splitlines() if line.strip())
    except ValueError as error:
        return Rejected(name=name, reason="bad_metadata", detail=f"{label.name}: {error}")
    known = _PHASES | _ADVENTITIOUS
    findings: dict[str, Value] = {
        "device": device,
        **site,
        **dict.fromkeys(known.values(), 0),
        # A token without a word goes by its own name, so that it is refused and not lost.
        **{known.get(token, token): count for token, count in tokens.items()},
        "adventitious": any(token in _ADVENTITIOUS for token in tokens),
    }
    return Recording(
        native_id=wav.stem,
        member=wav.relative_to(archive).as_posix(),
        modality="lung",
        case_id=case,
        person=None,
        proxy=date,
        official_split=side,
        findings=findings,
        row={"label": text},
    )


def events(_wav: Path, row: Mapping[str, str]) -> list[Event]:
    """Breath phases and adventitious sounds."""
    return [
        Event(
            start_s=start,
            end_s=end,
            label=_CALLED.get(token, token),
            track="phase" if token in _PHASES else "sound",
        )
        for token, start, end in map(_interval, filter(str.strip, row["label"].splitlines()))
    ]


def _interval(line: str) -> tuple[str, float, float]:
    """Token, start and end of one line, clipped to the recording, in which it must lie."""
    token, start, end = line.split()
    first, last = max(_time(start), 0.0), min(_time(end), _SECONDS)
    if not first < last:
        raise ValueError(f"{line!r} is no interval within {_SECONDS:g} s")
    return token, first, last


def _time(text: str) -> float:
    match = _CLOCK.match(text)
    if not match:
        raise ValueError(f"{text!r} is not a time")
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
