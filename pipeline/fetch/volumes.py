"""The volumes of one archive, read as one run of bytes without joining them, here or far away."""

import io
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pipeline.fetch import remote
from pipeline.fetch.errors import TRANSIENT, FetchError

_STEM = re.compile(r"(?:\.z\d+|\.zip|\.(?P<rest>tar\.gz|tgz|7z)(?:\.\w+)?)$")
_RETRIES = 4
_LONGEST_WAIT = 90.0  # seconds; nothing else ends a wait, and hosts that limit ask for a minute


class Volume(Protocol):
    """Bytes that can be read anywhere."""

    name: str
    size: int

    def read_at(self, offset: int, count: int) -> bytes:
        """Exactly ``count`` bytes, or fewer at the end."""
        ...


class LocalVolume:
    """A file on this computer; safe to read from several threads."""

    def __init__(self, path: Path) -> None:
        self.name, self.size = str(path), path.stat().st_size
        self._file = path.open("rb")

    def read_at(self, offset: int, count: int) -> bytes:
        return os.pread(self._file.fileno(), count, offset)


class RemoteVolume:
    """A file at a URL whose server sends ranges; safe to read from several threads.

    Raises:
        FetchError: ``no_range`` when the server sends whole files only.
    """

    def __init__(self, url: str) -> None:
        self.name = url
        with remote.open_at(url, 0, 1) as stream:
            if not stream.ranged or stream.total is None:
                raise FetchError("no_range", url, "asked for one byte, was sent everything")
            self.size = stream.total

    def read_at(self, offset: int, count: int) -> bytes:
        stop = min(offset + count, self.size)
        if stop <= offset:
            return b""
        for attempt in range(_RETRIES):
            try:
                return self._read(offset, stop)
            except FetchError as error:
                patience = 0.5 * 2**attempt if error.wait is None else error.wait
                if (
                    error.code not in TRANSIENT
                    or attempt == _RETRIES - 1
                    or patience > _LONGEST_WAIT
                ):
                    raise
                time.sleep(patience)
        raise AssertionError("unreachable")

    def _read(self, offset: int, stop: int) -> bytes:
        with remote.open_at(self.name, offset, stop) as stream:
            if stream.start != offset or stream.total not in (None, self.size):
                raise FetchError("no_range", self.name, "a range was asked for and not sent")
            data = b"".join(stream.chunks)
        if len(data) != stop - offset:
            raise FetchError("cut", self.name, f"{len(data)} of {stop - offset} bytes")
        return data


class Volumes(io.RawIOBase):
    """Volumes in their order as one seekable file."""

    def __init__(self, volumes: Sequence[Volume]) -> None:
        self.volumes = list(volumes)
        self.starts = [0]
        for volume in self.volumes:
            self.starts.append(self.starts[-1] + volume.size)
        self.name = self.volumes[0].name
        self._position = 0

    @property
    def size(self) -> int:
        return self.starts[-1]

    def read_at(self, offset: int, count: int) -> bytes:
        """Bytes that may lie in two volumes or more; fewer only at the very end."""
        pieces: list[bytes] = []
        for volume, start in zip(self.volumes, self.starts, strict=False):
            if count > 0 and start <= offset < start + volume.size:
                piece = volume.read_at(offset - start, min(count, start + volume.size - offset))
                pieces.append(piece)
                offset, count = offset + len(piece), count - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"{self.name}: byte {base + offset} does not exist")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        data = self.read_at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def stem(name: str) -> str:
    """What the volumes of one archive share: ``a.7z.001`` and ``a.7z.002`` are ``a.7z``."""
    found = _STEM.search(name)
    if not found:
        return name
    return name[: found.start()] + (f".{found['rest']}" if found["rest"] else ".zip")


def grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """Names by stem, volumes in their order; the ``.zip`` of a spanned zip is its last one."""

    def place(name: str) -> tuple[str, bool, int, str]:
        number = re.search(r"\d+$", name)  # .z99 comes before .z100
        return stem(name), name.endswith(".zip"), int(number[0]) if number else 0, name

    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=place):
        groups.setdefault(stem(name), []).append(name)
    return groups
