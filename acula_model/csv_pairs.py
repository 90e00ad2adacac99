"""A csv of sounds and reports, as the AcuLa release takes it -> shards of pairs.

Columns ``audio_path`` and ``Gen_Report``; optional ones of ours: ``dataset`` and ``modality``
(batches are of one group), ``split`` (train, val, test) and ``person_id``. The release drops rows
whose file is missing without a word; here every row that is not used is in a table with its reason.
"""

import csv
import hashlib
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np

from acula_model import decoding, shards, teachers

SAMPLE_RATE = 16_000  # Hz, of shards
SHARD = 1_000  # pairs
SPLITS = ("train", "val", "test")


class CsvError(ValueError):
    """A csv that cannot be trained on; says why."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line: where its sound is, what is said about it, and which side it is on."""

    line: int
    audio: Path
    report: str
    group: tuple[str, str]  # dataset, modality
    split: str


@dataclass
class Pairs:
    """What came of the lines.

    Attributes:
        learn: Pair ids to learn from.
        gauge: Pair ids that only measure.
        reports: report hash -> text.
        refused: line number, path and reason of each line that is not used.
    """

    learn: list[str] = field(default_factory=list)
    gauge: list[str] = field(default_factory=list)
    reports: dict[str, str] = field(default_factory=dict)
    refused: list[tuple[int, str, str]] = field(default_factory=list)


def rows(path: Path) -> list[Row]:
    """Lines of a csv.

    Args:
        path: The file. Relative sound paths start at the current folder, as in the release, or
            else beside the csv.

    Raises:
        CsvError: A column is missing, a split has another name, or a person is on two sides.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.DictReader(file)
        columns = set(lines.fieldnames or ())
        if missing := {"audio_path", "Gen_Report"} - columns:
            raise CsvError(
                f"{path} has no column {', '.join(sorted(missing))}; its columns are "
                f"{', '.join(lines.fieldnames or ())}"
            )
        found: list[Row] = []
        sides: dict[str, set[str]] = {}
        for line in lines:
            split = (line.get("split") or "train").strip().lower()
            if split not in SPLITS:
                raise CsvError(f"{path}, line {lines.line_num}: split {split!r} is none of {SPLITS}")
            if person := line.get("person_id"):
                sides.setdefault(person, set()).add(split)
            sound = Path(line["audio_path"] or "")
            found.append(
                Row(
                    line=lines.line_num,
                    audio=sound if sound.exists() else path.parent / sound,
                    report=(line["Gen_Report"] or "").strip(),
                    group=(line.get("dataset") or path.stem, line.get("modality") or "sound"),
                    split=split,
                )
            )
    if torn := sorted(person for person, splits in sides.items() if len(splits) > 1):
        raise CsvError(
            f"{path}: {len(torn)} persons are on more than one side, such as {', '.join(torn[:3])}"
        )
    return found


def write(
    lines: list[Row], folder: Path, progress: Callable[[str], None] = print
) -> Pairs:
    """Write shards of the usable lines; a shard that is there already is not made again.

    Args:
        lines: From ``rows``; those of the split ``test`` are left out.
        folder: Gets ``<hash>.tar`` files.
        progress: Called with a line per shard.

    Returns:
        Which pairs there are, and every line that was refused.

    Raises:
        CsvError: No line can be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = Pairs()
    kept: set[Path] = set()
    with ThreadPoolExecutor() as pool:
        for number, some in enumerate(batched(lines, SHARD), 1):
            path = folder / f"{_key(some)}.tar"
            kept.add(path)
            if not path.exists():
                made = list(pool.map(_pair, some))
                temporary = path.with_suffix(".unfinished")
                shards.write(temporary, _unique(p for p in made if isinstance(p, shards.Pair)))
                temporary.replace(path)
            _note(path, some, found)
            progress(f"shards: {min(number * SHARD, len(lines))} of {len(lines)} lines read")
    for stale in set(folder.glob("*.tar")) - kept:
        stale.unlink()  # of lines that the csv no longer has
    if not found.learn:
        raise CsvError("no line of the csv can be used for training; see refused.csv")
    return found


def write_refused(path: Path, refused: list[tuple[int, str, str]]) -> None:
    """Lines that were not used, as a csv."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("line", "audio_path", "reason"))
        table.writerows(refused)


def _pair(row: Row) -> shards.Pair | str:
    """The pair of a line, or why there is none."""
    import soundfile

    if not row.report:
        return "empty report"
    if row.split == "test":
        return "test split"
    try:
        wave = decoding.read(row.audio, SAMPLE_RATE)
    except decoding.SoundError as error:
        return str(error)
    pcm = np.clip(np.rint(wave * 32768.0), -32768, 32767).astype("<i2")
    flac = io.BytesIO()
    soundfile.write(flac, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    dataset, modality = row.group
    key = teachers.hash_of(row.report)
    meta: dict[str, Any] = {
        "pair_id": _id(row),
        "recording_id": f"{dataset}/{row.audio.name}",
        "dataset": dataset,
        "modality": modality,
        "split": row.split,
        "align": row.split == "train",
        "audio_sha256": hashlib.sha256(pcm.tobytes()).hexdigest(),
        "full_hash": key,
        "full_text": row.report,
    }
    return shards.Pair(flac=flac.getvalue(), meta=meta)
