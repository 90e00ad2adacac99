"""The pair format on disk: WebDataset tars of `<pair_id>.flac` + `<pair_id>.json`.

This module owns the format; the pipeline fills it. Plain `webdataset` and Hugging Face
`datasets` read the same files. Keys hold no dots: webdataset cuts names at the first one.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One sample: FLAC bytes (16 kHz mono) and its description.

    ``meta`` holds at least ``pair_id``, ``dataset``, ``split``, ``align`` and ``audio_sha256``.
    """

    flac: bytes
    meta: dict[str, Any]

    @property
    def pair_id(self) -> str:
        return self.meta["pair_id"]


def write(path: Path, pairs: Iterable[Pair]) -> None:
    """Write one tar; the same pairs give the same bytes."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for pair in pairs:
            if "." in pair.pair_id:
                raise ValueError(f"pair id {pair.pair_id!r} has a dot; webdataset would split it")
            meta = json.dumps(pair.meta, ensure_ascii=False, sort_keys=True).encode()
            for suffix, content in (("flac", pair.flac), ("json", meta)):
                info = tarfile.TarInfo(f"{pair.pair_id}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def places(path: Path) -> dict[str, tuple[int, int]]:
    """pair id -> (offset, size) of its FLAC bytes in the tar, from the headers alone."""
    with tarfile.open(path) as tar:
        flacs = [m for m in tar if m.name.endswith(".flac")]
    return {m.name.removesuffix(".flac"): (m.offset_data, m.size) for m in flacs}


def read(path: Path) -> Iterator[Pair]:
    """Pairs of one tar, in order, one at a time.

    Raises:
        ValueError: A sample lacks its FLAC or its JSON.
    """
    waiting: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is None:
                continue
            key, _, suffix = member.name.rpartition(".")
            sample = waiting.setdefault(key, {})
            sample[suffix] = content.read()
            if {"flac", "json"} <= sample.keys():
                del waiting[key]
                yield Pair(flac=sample["flac"], meta=json.loads(sample["json"]))
    if waiting:
        raise ValueError(f"{path}: incomplete samples {sorted(waiting)[:5]}")


def shards(folder: Path) -> list[Path]:
    """All tars below a folder, sorted.

    Raises:
        FileNotFoundError: There is none.
    """
    found = sorted(folder.rglob("*.tar"))
    if not found:
        raise FileNotFoundError(f"no shards in {folder}; materialise `shards` first")
    return found


def describe(path: Path) -> list[dict[str, Any]]:
    """Descriptions of all pairs of one tar, without reading the audio."""
    with tarfile.open(path) as tar:
        files = [tar.extractfile(m) for m in tar if m.name.endswith(".json")]
        return [json.loads(f.read()) for f in files if f is not None]
