"""What listeners noted about pairs: one JSON line per note, only ever appended.

The last line about a pair holds. Writers take a lock and add one whole line, so two explorers
lose nothing of each other; readers skip a line that a killed writer left unfinished.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.settings import Settings

NOTE_LENGTH = 2000  # characters
_LISTED = 100  # recordings in the facts of a step; the file has all
_WAIT = 10  # s for another writer, who needs milliseconds


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One note: ``doubtful`` False takes an earlier mark back."""

    pair_id: str
    recording_id: str
    doubtful: bool
    note: str = ""
    at: str = ""  # UTC, ISO 8601


def place(settings: Settings) -> Path:
    """The file: the setting's, or ``marks.jsonl`` under the data root."""
    return settings.marks or settings.data_root / "marks.jsonl"


def add(path: Path, mark: Mark) -> Mark:
    """Append one mark, with the time now; returns it as written.

    Raises:
        filelock.Timeout: Somebody else has held the file for ten seconds.
    """
    at = datetime.now(UTC).isoformat(timespec="seconds")
    mark = replace(mark, note=mark.note[:NOTE_LENGTH], at=at)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(mark), ensure_ascii=False).encode() + b"\n"
    with FileLock(f"{path}.lock", timeout=_WAIT), path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a killed writer's line ends here
                line = b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return mark


def read(path: Path) -> tuple[dict[str, Mark], int]:
    """The mark that holds for each pair, and how many lines could not be read."""
    found: dict[str, Mark] = {}
    broken = 0
    if not path.is_file():
        return found, broken
    with path.open("rb") as lines:
        for line in lines:
            try:
                mark = Mark(**json.loads(line))
                if not isinstance(mark.doubtful, bool) or not all(
                    isinstance(v, str)
                    for v in (mark.pair_id, mark.recording_id, mark.note, mark.at)
                ):
                    raise TypeError("a field has another type")
            except (ValueError, TypeError):
                broken += bool(line.strip())
                continue
            found[mark.pair_id] = mark
    return found, broken


def doubtful(marks: Mapping[str, Mark]) -> dict[str, Mark]:
    """Those in force."""
    return {key: mark for key, mark in marks.items() if mark.doubtful}


def excluded(settings: Settings) -> dict[str, Mark]:
    """Pairs that the ``pairs`` step leaves out: none unless ``exclude_marks`` says so."""
    return doubtful(read(place(settings))[0]) if settings.exclude_marks else {}


def facts(left_out: Sequence[str], settings: Settings) -> dict[str, Any]:
    """How many recordings were left out and which, for the step's facts."""
    if not settings.exclude_marks:
        return {}
    return {"excluded_by_marks": len(left_out), "excluded_recordings": sorted(left_out)[:_LISTED]}
