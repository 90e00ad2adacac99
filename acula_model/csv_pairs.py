"""A csv of sounds and reports, as the AcuLa release takes it -> shards of pairs.

Columns ``audio_path`` and ``Gen_Report``; optional ones of ours: ``dataset`` and ``modality``
(batches are of one group), ``split`` (train, val, test) and ``person_id``. The release drops rows
whose file is missing without a word; here every row that is not used is in a table with its reason.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from acula_model import decoding, shards, teachers
from acula_model.counting import Counted
from acula_model.training import start

SAMPLE_RATE = 16_000  # Hz, of shards
SHARD = 256  # lines; their sounds are in memory together
SPLITS = ("train", "val", "test")


class CsvError(ValueError):
    """A csv that cannot be trained on; says why."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line: where its sound is, what is said about it, and which side it is on."""

    line: int
    audio: str
    report: str
    dataset: str
    modality: str
    split: str

    @property
    def pair_id(self) -> str:
        """16 hex digits of sound and report."""
        return hashlib.sha256(f"{self.audio}\0{self.report}".encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Pairs(start.Pairs):
    """What came of the lines.

    Attributes:
        refused: Line, path and reason of each line that is not used.
    """

    refused: list[tuple[int, str, str]]


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
        columns = list(lines.fieldnames or ())
        if missing := {"audio_path", "Gen_Report"} - set(columns):
            raise CsvError(
                f"{path} has no column {', '.join(sorted(missing))}; it has {', '.join(columns)}"
            )
        found: list[Row] = []
        sides: dict[str, set[str]] = {}
        for line in lines:
            split = (line.get("split") or "train").strip().lower()
            if split not in SPLITS:
                raise CsvError(
                    f"{path}, line {lines.line_num}: split {split!r} is none of {', '.join(SPLITS)}"
                )
            if person := line.get("person_id"):
                sides.setdefault(person, set()).add(split)
            audio = Path(line["audio_path"] or "")
            found.append(
                Row(
                    line=lines.line_num,
                    audio=str(audio if audio.exists() else path.parent / audio),
                    report=(line["Gen_Report"] or "").strip(),
                    dataset=line.get("dataset") or path.stem,
                    modality=line.get("modality") or "sound",
                    split=split,
                )
            )
    if torn := sorted(person for person, splits in sides.items() if len(splits) > 1):
        raise CsvError(
            f"{path}: {len(torn)} persons are on more than one side, such as {', '.join(torn[:3])}"
        )
    return found


def write(lines: Sequence[Row], folder: Path, progress: Callable[[str], None] = print) -> Pairs:
    """Write shards of the usable lines; a shard whose lines and sounds are unchanged stays.

    Args:
        lines: From ``rows``; those of the split ``test`` are left out.
        folder: Gets the shards, and beside each what was refused.
        progress: Called with a line per shard.

    Raises:
        CsvError: No line can be used for training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    refused = [(r.line, r.audio, reason) for r in lines if (reason := _unusable(r))]
    usable = {r.pair_id: r for r in lines if not _unusable(r)}
    repeated = [r for r in lines if not _unusable(r) and usable[r.pair_id] is not r]
    refused += [(r.line, r.audio, "same sound and report in a later line") for r in repeated]
    left = list(usable.values())
    kept: set[str] = set()
    counted = Counted(progress, "sounds: {} lines read", len(left))
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(left), SHARD):
            part = left[start : start + SHARD]
            place = folder / f"{_key(part)}.json"
            kept.add(place.stem)
            if not place.exists():
                _write_shard(part, place, pool)
            refused += [(n, a, reason) for n, a, reason in json.loads(place.read_text())]
            counted.add(len(part))
    for stale in folder.iterdir():  # of lines that the csv no longer has
        if stale.stem not in kept:
            stale.unlink()
    broken = {line for line, _, _ in refused}
    good = [r for r in left if r.line not in broken]
    if not any(r.split == "train" for r in good):
        raise CsvError(f"none of {len(lines)} lines can be used for training: {refused[:3]}")
    return Pairs(
        learn=[r.pair_id for r in good if r.split == "train"],
        gauge=[r.pair_id for r in good if r.split == "val"],
        reports=teachers.as_reports(sorted({r.report for r in good})),
        learned=frozenset(teachers.hash_of(r.report) for r in good if r.split == "train"),
        refused=sorted(refused),
    )


def write_refused(path: Path, refused: Sequence[tuple[int, str, str]]) -> None:
    """Write the lines that were not used as a csv."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("line", "audio_path", "reason"))
        table.writerows(refused)


def _unusable(row: Row) -> str | None:
    """Why a line is not even looked at."""
    if not row.report:
        return "empty report"
    return "held out for test" if row.split == "test" else None


def _key(part: Sequence[Row]) -> str:
    """Of what the lines say, and of the sizes and times of their files."""
    stats = [Path(r.audio).stat() if Path(r.audio).is_file() else None for r in part]
    seen = [s and (s.st_size, s.st_mtime_ns) for s in stats]
    said = repr([asdict(r) for r in part]) + repr(seen)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _write_shard(part: Sequence[Row], place: Path, pool: ThreadPoolExecutor) -> None:
    made = list(pool.map(_pair, part))
    good = [p for p in made if isinstance(p, shards.Pair)]
    bad = [(r.line, r.audio, p) for r, p in zip(part, made, strict=True) if isinstance(p, str)]
    if good:
        unfinished = place.with_suffix(".unfinished")
        shards.write(unfinished, good)
        unfinished.replace(place.with_suffix(".tar"))
    unfinished = place.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(bad))
    unfinished.replace(place)  # last: it says that the shard is complete


def _pair(row: Row) -> shards.Pair | str:
    """The pair of a line, or why there is none."""
    import soundfile

    try:
        wave = decoding.read(Path(row.audio), SAMPLE_RATE)
    except decoding.SoundError as error:
        return str(error)
    pcm = np.clip(np.rint(wave * 32768.0), -32768, 32767).astype("<i2")
    flac = io.BytesIO()
    soundfile.write(flac, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    meta: dict[str, Any] = {
        "pair_id": row.pair_id,
        "recording_id": f"{row.dataset}/{row.pair_id}",
        "dataset": row.dataset,
        "modality": row.modality,
        "split": row.split,
        "align": row.split == "train",
        "audio_sha256": hashlib.sha256(pcm.tobytes()).hexdigest(),
        "full_hash": teachers.hash_of(row.report),
        "full_text": row.report,
    }
    return shards.Pair(flac=flac.getvalue(), meta=meta)
