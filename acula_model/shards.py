"""The pair format on disk: WebDataset tars of `<pair_id>.flac` + `<pair_id>.json`.

This module owns the format; the pipeline fills it. Plain `webdataset` and Hugging Face
`datasets` read the same files. Keys hold no dots: webdataset cuts names at the first one.
"""

import io
import json
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from acula_model import waves

# What training and probing ask of a pair; the rest of its description stays in the shard.
_BRIEF = (
    "recording_id", "dataset", "modality", "full_hash", "strict_hash", "full_terms", "strict_terms",
)  # fmt: skip
_TO_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode
# Checksums count themselves as spaces, and what is put in takes the place of "00000000000".
_EMPTY = tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT)
_EMPTY_SUM = sum(_EMPTY) - sum(_EMPTY[148:156]) + 8 * ord(" ") - sum(_EMPTY[124:135])


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


def write(path: Path, pairs: Iterable[Pair]) -> dict[str, tuple[int, int]]:
    """Write one tar; the same pairs give the same bytes. Returns what ``places`` would."""
    found: dict[str, tuple[int, int]] = {}
    with Tar(path) as tar:
        for pair in pairs:
            if "." in pair.pair_id:
                raise ValueError(f"pair id {pair.pair_id!r} has a dot; webdataset would split it")
            found[pair.pair_id] = (tar.add(f"{pair.pair_id}.flac", pair.flac), len(pair.flac))
            tar.add(f"{pair.pair_id}.json", _TO_JSON(pair.meta).encode())
    return found


class Tar:
    """A new tar of plain files, byte for byte that of ``tarfile``, which takes longer.

    Args:
        path: Of the tar.
    """

    def __init__(self, path: Path):
        self._file, self._at = path.open("wb"), 0

    def add(self, name: str, content: bytes) -> int:
        """Write a member; returns where its content begins."""
        pad = -len(content) % tarfile.BLOCKSIZE
        self._file.writelines((_header(name, len(content)), content, bytes(pad)))
        start = self._at + tarfile.BLOCKSIZE
        self._at = start + len(content) + pad
        return start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        with self._file:
            if error is None:
                end = self._at + 2 * tarfile.BLOCKSIZE
                self._file.write(bytes(end - self._at + -end % tarfile.RECORDSIZE))


def _header(name: str, size: int) -> bytes:
    """The header that ``tarfile`` writes of a plain file, which takes it longer than the sound.

    Name, size and checksum are put into the header of an empty file; whatever else would have
    to change for them is left to ``tarfile``.
    """
    called, length = name.encode(), b"%011o" % size
    if not name.isascii() or len(called) > tarfile.LENGTH_NAME or len(length) > 11:
        info = tarfile.TarInfo(name)
        info.size = size
        return info.tobuf(tarfile.USTAR_FORMAT)
    total = _EMPTY_SUM + sum(called) + sum(length)
    start = called.ljust(100, b"\0") + _EMPTY[100:124] + length + _EMPTY[135:148]
    return start + b"%06o\0" % total + _EMPTY[155:]


def places(path: Path) -> dict[str, tuple[int, int]]:
    """pair id -> (offset, size) of its FLAC bytes in the tar, from the headers alone."""
    with tarfile.open(path) as tar:
        flacs = [m for m in tar if m.name.endswith(".flac")]
    return {m.name.removesuffix(".flac"): (m.offset_data, m.size) for m in flacs}


def flacs(path: Path, wanted: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Id and FLAC bytes of some members ``<id>.flac`` of a tar, in their order there.

    Raises:
        ValueError: One of them is not there.
    """
    known, ids = places(path), set(wanted)
    if lacking := sorted(ids - known.keys()):
        raise ValueError(f"{path} lacks {len(lacking)} sounds, such as {lacking[0]}")
    with path.open("rb") as file:
        for key, (offset, size) in known.items():
            if key in ids:
                file.seek(offset)
                yield key, file.read(size)


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
    return [meta for meta, _, _ in located(path)]


def located(path: Path) -> list[tuple[dict[str, Any], int, int]]:
    """Description, offset and size of the FLAC bytes of all pairs of one tar, in order.

    Raises:
        ValueError: A sample lacks its FLAC or its JSON.
    """
    flacs: dict[str, tuple[int, int]] = {}
    metas: dict[str, dict[str, Any]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, suffix = member.name.rpartition(".")
            if suffix == "flac":
                flacs[key] = (member.offset_data, member.size)
            elif suffix == "json" and (file := tar.extractfile(member)) is not None:
                metas[key] = json.loads(file.read())
    if incomplete := sorted(flacs.keys() ^ metas.keys()):
        raise ValueError(f"{path}: incomplete samples {incomplete[:5]}")
    return [(metas[key], *flacs[key]) for key in metas]


def brief(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What training and probing ask of a pair's description; equal terms share memory."""
    found = {k: meta[k] for k in _BRIEF if k in meta}
    for name in ("full_terms", "strict_terms"):
        if name in found:
            found[name] = tuple(sys.intern(term) for term in found[name])
    return found


def wave(flac: bytes, pair_id: str, rate: int) -> waves.Wave:
    """All samples of a pair, [S], at a rate in Hz that is not below its own.

    Raises:
        ValueError: No usable sound; names the pair.
    """
    import soundfile

    try:
        samples, native = soundfile.read(io.BytesIO(flac), dtype="float32")
        return waves.prepared(samples, native, rate)
    except (ValueError, soundfile.LibsndfileError) as error:
        raise ValueError(f"{pair_id}: {error}") from error
