"""audio files of one part -> one tar of FLAC, and what was found of each; runs in workers.

Workers start in no time and stay small: no pyarrow here, whoever asked writes the table.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from acula_model.shards import Tar
from pipeline.records import pair_id, recording_id
from pipeline.steps import audio
from pipeline.steps.disk import finished

# What a worker is given of one recording: native id, member path, bytes, time of change.
Item = tuple[str, str, int, int]


def make(
    archive: Path, folder: Path, dataset: str, key: str, items: Sequence[Item]
) -> tuple[str, list[dict[str, Any]]]:
    """Write ``<key>.tar``; returns the key and a row for each recording tried.

    Args:
        archive: Root of the dataset's files; what lies outside is refused.
        folder: Of the parts.
        dataset: Its id.
        key: Of the part.
        items: Its recordings.
    """
    rows: list[dict[str, Any]] = []
    root = archive.resolve()
    with finished(folder / f"{key}.tar") as temporary, Tar(temporary) as tar:
        for native_id, member, _, _ in items:
            row: dict[str, Any] = {"native_id": native_id, "member": member}
            try:
                path = (root / member).resolve()
                if not path.is_relative_to(root):
                    raise audio.BadAudio("undecodable", "the file lies outside the archive")
                facts = asdict(audio.normalise(path))
            except audio.BadAudio as error:
                row |= {"reason": error.reason, "detail": error.detail}
            else:
                flac = facts.pop("flac")
                name = f"{pair_id(recording_id(dataset, native_id))}.flac"
                row |= facts | {"part": key, "offset": tar.add(name, flac), "size": len(flac)}
            rows.append(row)
    return key, rows
