"""tar.gz archives from front to back: reads are bounded, and the archive's end must be there.

``tarfile`` alone goes back where a header states a negative size, takes an extended header of
any stated size into memory, and takes a damaged header for the end.
"""

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.fetch.errors import FetchError
from pipeline.fetch.volumes import Volumes

_BLOCK = 64 << 10
_LONGEST_HEADER = 128 << 10  # of long names and extended attributes, one or two kilobytes


class _Plain:
    """The unpacked bytes as ``tarfile`` reads them."""

    def __init__(self, volumes: Volumes, most: int) -> None:
        # gzip, not tarfile's own reader, checks the length and the checksum at the end.
        self._file = gzip.GzipFile(fileobj=io.BufferedReader(volumes, _BLOCK))
        self._name, self._most = volumes.name, most
        self._at, self.last = 0, b""

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> int:
        if offset < self._at:
            raise tarfile.ReadError("a member that begins before its header")
        while self._at < offset and self.read(min(_BLOCK, offset - self._at)):
            pass
        return self._at

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.last = self._file.read(size)
        self._at += len(self.last)
        if self._at > self._most:  # members that nobody wants are unpacked, too
            raise FetchError("bomb", self._name, f"more than {self._most} bytes")
        return self.last


def members(volumes: Volumes, most: int) -> Iterator[tuple[tarfile.TarInfo, Iterator[bytes]]]:
    """Each member, and its bytes in blocks, to be read before the next member is asked for.

    Args:
        volumes: The archive.
        most: Bytes that all of it may unpack to.

    Raises:
        FetchError: ``bad_archive``: damaged or cut; ``bomb``.
    """
    with _explained(volumes.name):
        plain: Any = _Plain(volumes, most)
        with tarfile.open(
            fileobj=plain, mode="r:", encoding="utf-8", errors="surrogateescape"
        ) as tar:
            while (member := tar.next()) is not None:
                if member.size < 0:
                    raise tarfile.ReadError(f"{member.name!r} of {member.size} bytes")
                member.mtime = int(member.mtime)  # may state infinity
                yield member, _blocks(tar, member, f"{volumes.name}: {member.name!r}")
                vars(tar)["members"] = []  # it would keep them all
        if len(plain.last) < tarfile.BLOCKSIZE or plain.last.strip(b"\0"):
            raise tarfile.ReadError("a damaged header, or no end")
        while block := plain.read(_BLOCK):
            if block.strip(b"\0"):
                raise tarfile.ReadError("bytes after its end")


def _blocks(tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> Iterator[bytes]:
    with _explained(where):
        data: Any = tar.extractfile(member)
        while block := data.read(_BLOCK):
            yield block


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """What hostile bytes make gzip and tarfile raise, as one kind of error."""
    try:
        yield
    except FetchError:
        raise
    except (
        tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError,
        RecursionError,
    ) as error:  # fmt: skip
        raise FetchError("bad_archive", where, str(error)) from error
