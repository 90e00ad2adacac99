"""audio files of one part -> one tar of FLAC and one parquet of audio facts; runs in workers.

A part is a pure function of its files, keyed by their names, sizes and times, so unchanged
parts are never decoded again and metadata edits touch no audio.
"""

import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.records import pair_id, recording_id, unit_hash
from pipeline.steps import audio, remote, store

# About 20 minutes of sound, which keeps a worker's memory and a lost part's cost small.
RECORDINGS_PER_PART = 128

_AUDIO_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}
FACTS = [
    pa.field(f.name, _AUDIO_TYPES[f.type])  # pyright: ignore[reportArgumentType]
    for f in fields(audio.Normalised)
    if f.name != "flac"
]
PLACE = [
    pa.field("part", pa.string()),
    pa.field("offset", pa.int64()),
    pa.field("size", pa.int64()),
]
SCHEMA = pa.schema(
    [
        pa.field("native_id", pa.string()),
        pa.field("member", pa.string()),
        *FACTS,
        *PLACE,
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
    ]
)
# What a worker is given of one recording: native id, member path, bytes, time of change.
Item = tuple[str, str, int, int]


def plan(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Part key -> its items. Buckets follow a hash of the id, so new files touch few parts."""
    buckets = 1
    while len(items) > buckets * RECORDINGS_PER_PART:
        buckets *= 2
    parts: dict[int, list[Item]] = {}
    for item in sorted(items):
        parts.setdefault(int(unit_hash(item[0]) * buckets), []).append(item)
    return {store.digest([audio.VERSION, bucket]): bucket for bucket in parts.values()}


def make(archive: Path, folder: Path, dataset: str, key: str, items: Sequence[Item]) -> int:
    """Write ``<key>.tar`` and then ``<key>.parquet``; returns the number of recordings tried."""
    rows: list[dict[str, Any]] = []
    root = archive.resolve()
    with store.finished(folder / f"{key}.tar") as temporary, tarfile.open(temporary, "w") as tar:
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
                info = tarfile.TarInfo(f"{pair_id(recording_id(dataset, native_id))}.flac")
                info.size = len(flac)
                # Asked before writing: the data follow one 512-byte header.
                row |= facts | {"part": key, "offset": tar.offset + 512, "size": len(flac)}
                tar.addfile(info, io.BytesIO(flac))
            rows.append(row)
    with store.finished(folder / f"{key}.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary, compression="zstd")
    return len(rows)


def read_flac(folder: Path, part: str, offset: int, size: int) -> bytes:
    """The FLAC bytes of one recording, without opening the tar; here or in the store."""
    try:
        file = os.open(f"{folder}/{part}.tar", os.O_RDONLY)
    except FileNotFoundError:
        return remote.read(folder / f"{part}.tar", offset, size)
    try:
        return os.pread(file, size, offset)
    finally:
        os.close(file)


def clean(folder: Path, keep: set[str]) -> None:
    """Delete parts that no current plan contains and what killed workers left unfinished."""
    for path in folder.iterdir():
        if path.stem not in keep:
            path.unlink()
    remote.keep(folder, lambda name: Path(name).stem in keep)
