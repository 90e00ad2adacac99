"""Where unpacked members go: each is written under another name, hashed, then renamed."""

import hashlib
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from pipeline.fetch.errors import FetchError
from pipeline.fetch.guard import UNFINISHED

_READ = 1 << 20
_LATEST = 0xFFFFFFFF  # seconds; archives state any time, file systems refuse some


def chosen(name: str, keep: Sequence[str], root: str = "") -> str | None:
    """A member's path without its root folders, if a pattern keeps it (``*`` crosses ``/``).

    Publishers' roots carry a version or a commit, and some archives have theirs twice.
    """
    pieces = list(PurePosixPath(name.replace("\\", "/")).parts)
    while root and len(pieces) > 1 and fnmatchcase(pieces[0], root):
        del pieces[0]
    path = "/".join(pieces)
    return path if any(fnmatchcase(path, pattern) for pattern in keep) else None


class Folder:
    """The folder that an archive is unpacked into.

    Args:
        root: It; made when the first member comes.
        written: Hears of bytes as they are written.

    Attributes:
        sums: Path -> sha256 of every member so far.
        bytes: Their sizes together.
    """

    def __init__(self, root: Path, written: Callable[[int], None]) -> None:
        self.root, self.sums, self.bytes = root, dict[str, str](), 0
        self._written = written
        self._made: set[str] = set()
        self._lock = threading.Lock()

    def put(self, path: str, size: int, time: int, chunks: Iterable[bytes]) -> None:
        """Write one member whose path a guard admitted.

        Raises:
            FetchError: ``bomb`` when it is longer than it states, ``bad_archive`` when shorter.
        """
        output = self.open(path, size, time)
        try:
            for chunk in chunks:
                output.write(chunk)
            output.finish()
        finally:
            output.abandon()

    def open(self, path: str, size: int, time: int) -> "Output":
        """A member to write piece by piece."""
        above = path.rpartition("/")[0]
        if above not in self._made:
            (self.root / above).mkdir(parents=True, exist_ok=True)
            self._made.add(above)
        return Output(self, path, size, time)

    def has(self, path: str, size: int, crc: int) -> bool:
        """A killed run has finished this member; its bytes are read again to be sure."""
        target = self.root / path
        if not target.is_file() or target.stat().st_size != size:
            return False
        hasher, found = hashlib.sha256(), 0
        with target.open("rb") as file:
            while block := file.read(_READ):
                hasher.update(block)
                found = zlib.crc32(block, found)
        if found == crc:
            self.count(path, size, hasher.hexdigest())
            self._written(size)
        return found == crc

    def count(self, path: str, size: int, sha256: str) -> None:
        with self._lock:
            self.sums[path] = sha256
            self.bytes += size

    def heard(self, size: int) -> None:
        self._written(size)


class Output:
    """One member on its way to the disk."""

    def __init__(self, folder: Folder, path: str, size: int, time: int) -> None:
        self._folder, self._path, self._size = folder, path, size
        self._time = min(max(time, 0), _LATEST)
        # Text, because pathlib would take half of the time of a small member.
        self._target = os.path.join(folder.root, path)  # noqa: PTH118
        above = os.path.dirname(self._target)  # noqa: PTH120
        self._temporary = f"{above}/.{threading.get_ident()}{UNFINISHED}"
        self._hash, self._count = hashlib.sha256(), 0
        self._file = open(self._temporary, "wb", buffering=0)  # noqa: PTH123, SIM115
        self._finished = False

    def write(self, chunk: bytes | bytearray) -> int:
        self._count += len(chunk)
        if self._count > self._size:
            detail = f"more than the {self._size} bytes it states"
            raise FetchError("bomb", self._path, detail)
        view = memoryview(chunk)
        while view:
            view = view[self._file.write(view) :]
        self._hash.update(chunk)
        self._folder.heard(len(chunk))
        return len(chunk)

    def finish(self) -> None:
        """The member is complete: give it its time and its name."""
        self._file.close()
        if self._count != self._size:
            detail = f"{self._count} of {self._size} bytes"
            raise FetchError("bad_archive", self._path, detail)
        # The same archive leaves the same times, so nothing downstream is redone.
        os.utime(self._temporary, (self._time, self._time))
        os.replace(self._temporary, self._target)  # noqa: PTH105
        self._finished = True
        self._folder.count(self._path, self._size, self._hash.hexdigest())

    def abandon(self) -> None:
        """Leave nothing behind; harmless after ``finish``."""
        if not self._finished:
            self._file.close()
            Path(self._temporary).unlink(missing_ok=True)
