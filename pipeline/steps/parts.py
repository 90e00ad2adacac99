"""Parts of normalised audio: each one tar of FLAC, see ``part_audio``, and one parquet of facts.

A part is a pure function of its files, keyed by their names, sizes and times, so unchanged
parts are never decoded again and metadata edits touch no audio.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.records import unit_hash
from pipeline.steps import audio, remote, store
from pipeline.steps.part_audio import Item

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


def plan(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Part key -> its items. Buckets follow a hash of the id, so new files touch few parts."""
    buckets = 1
    while len(items) > buckets * RECORDINGS_PER_PART:
        buckets *= 2
    parts: dict[int, list[Item]] = {}
    for item in sorted(items):
        parts.setdefault(int(unit_hash(item[0]) * buckets), []).append(item)
    return {store.digest([audio.VERSION, bucket]): bucket for bucket in parts.values()}


def record(folder: Path, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``<key>.parquet`` beside ``<key>.tar``: the part is whole then."""
    with store.finished(folder / f"{key}.parquet") as temporary:
        table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
        pq.write_table(table, temporary, compression="zstd")


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
