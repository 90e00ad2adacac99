"""Zip archives by their central directory: whole, spanned over volumes, ZIP64, here or by Range.

No library reads a spanned ZIP64 archive or one of its members over a network: ``zipfile``
refuses several disks, and a plain concatenation has every offset wrong. The rule, checked on
archives that Info-ZIP wrote: an absolute offset is the size of all disks before plus the
relative offset. Format: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.5.3.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.fetch.errors import FetchError
from pipeline.fetch.volumes import Volumes

_END = struct.Struct("<4s4H2LH")  # end of central directory
_LOCATOR = struct.Struct("<4sLQL")  # where the ZIP64 end is
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")  # one entry of the central directory
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 0xFFFF
_LARGEST_DIRECTORY = 64 << 20  # of 500,000 members; it is held in memory
STORED, DEFLATED = 0, 8
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 99: "AES"}


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of the central directory; ``offset`` counts from the first volume's start."""

    name: str
    offset: int
    size: int
    packed: int
    crc: int
    method: int
    flags: int
    mode: int
    time: int

    @property
    def is_folder(self) -> bool:
        return self.name.endswith(("/", "\\"))  # some programs under Windows write the second

    @property
    def encrypted(self) -> bool:
        return bool(self.flags & 1)


def directory(volumes: Volumes) -> list[Member]:
    """Every entry, in the directory's order.

    Raises:
        FetchError: ``bad_archive``: cut, volumes missing, or entries that share bytes.
    """
    at, size, count, disks, tail_start = _find(volumes)
    if disks != len(volumes.volumes):
        detail = f"{disks} volumes belong together, {len(volumes.volumes)} are here"
        raise FetchError("bad_archive", volumes.name, detail)
    if at + size > tail_start:
        raise FetchError("bad_archive", volumes.name, "the directory is cut")
    if size > _LARGEST_DIRECTORY:
        raise FetchError("bomb", volumes.name, f"a directory of {size} bytes")
    members = list(_entries(volumes, volumes.read_at(at, size)))
    # Without ZIP64 the count has 16 bits, and some programs go on counting from 0.
    if (len(members) - count) % 0x10000 and count != 0xFFFF:
        detail = f"{count} entries are stated, {len(members)} are there"
        raise FetchError("bad_archive", volumes.name, detail)
    _no_overlap(volumes, members, at)
    return members


def _find(volumes: Volumes) -> tuple[int, int, int, int, int]:
    """Offset, size and entries of the directory, number of disks, and where its end begins."""
    start = max(0, volumes.size - _END.size - _LONGEST_COMMENT)
    tail = volumes.read_at(start, volumes.size - start)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        detail = "no directory at its end: it is cut, or no zip"
        raise FetchError("bad_archive", volumes.name, detail)
    _, disk, first, _, count, size, offset, comment = _END.unpack_from(tail, at)
    if len(tail) - at - _END.size < comment:
        raise FetchError("bad_archive", volumes.name, "cut within the comment at its end")
    if at >= _LOCATOR.size and tail[at - _LOCATOR.size :].startswith(b"PK\x06\x07"):
        _, disk64, offset64, disks = _LOCATOR.unpack_from(tail, at - _LOCATOR.size)
        where = _absolute(volumes, disk64, offset64)
        raw = volumes.read_at(where, _END64.size)
        if len(raw) < _END64.size or not raw.startswith(b"PK\x06\x06"):
            raise FetchError("bad_archive", volumes.name, "no ZIP64 directory end")
        _, _, _, _, _, first, _, count, size, offset = _END64.unpack(raw)
        return _absolute(volumes, first, offset), size, count, max(1, disks), where
    return _absolute(volumes, first, offset), size, count, disk + 1, start + at


def _absolute(volumes: Volumes, disk: int, offset: int) -> int:
    if disk >= len(volumes.volumes):
        detail = f"volume {disk + 1} is named, {len(volumes.volumes)} are here"
        raise FetchError("bad_archive", volumes.name, detail)
    return volumes.starts[disk] + offset


def _entries(volumes: Volumes, raw: bytes) -> Iterator[Member]:
    at = 0
    while at < len(raw):
        if len(raw) - at < _ENTRY.size or not raw.startswith(b"PK\x01\x02", at):
            raise FetchError("bad_archive", volumes.name, f"no directory entry at byte {at}")
        (_, made, _, flags, method, time, date, crc, packed, size, n, e, c, disk, _, external,
         offset) = _ENTRY.unpack_from(raw, at)  # fmt: skip
        name = raw[at + _ENTRY.size : at + _ENTRY.size + n]
        extra = raw[at + _ENTRY.size + n : at + _ENTRY.size + n + e]
        at += _ENTRY.size + n + e + c
        size, packed, offset, disk = _zip64(extra, size, packed, offset, disk)
        yield Member(
            name=_text(name, flags),
            offset=_absolute(volumes, disk, offset),
            size=size,
            packed=packed,
            crc=crc,
            method=method,
            flags=flags,
            mode=external >> 16 if made >> 8 in (3, 19) else 0,  # Unix, macOS
            time=_seconds(date, time),
        )


def _text(name: bytes, flags: int) -> str:
    if flags & 0x800:
        return name.decode("utf-8", errors="replace")
    try:
        return name.decode("utf-8")  # Info-ZIP under Linux leaves the flag out
    except UnicodeDecodeError:
        return name.decode("cp437")


def _zip64(extra: bytes, size: int, packed: int, offset: int, disk: int) -> tuple[int, ...]:
    """The four values, taken from the ZIP64 extra field where 32 or 16 bits do not hold them."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            field, used = extra[at + 4 : at + 4 + length], 0

            def take(value: int, full: int, form: str) -> int:
                nonlocal used
                if value != full:
                    return value
                if used + struct.calcsize(form) > len(field):  # noqa: B023  # used at once
                    raise FetchError("bad_archive", "zip directory", "a ZIP64 field is cut")
                found = struct.unpack_from(form, field, used)[0]  # noqa: B023
                used += struct.calcsize(form)
                return found

            size = take(size, 0xFFFFFFFF, "<Q")
            packed = take(packed, 0xFFFFFFFF, "<Q")
            offset = take(offset, 0xFFFFFFFF, "<Q")
            disk = take(disk, 0xFFFF, "<L")
        at += 4 + length
    return size, packed, offset, disk


def _seconds(date: int, time: int) -> int:
    """DOS date and time as seconds since 1970, read as UTC so that everyone gets the same."""
    try:
        moment = datetime(
            1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63,
            min(59, (time & 31) * 2), tzinfo=UTC,
        )  # fmt: skip
    except ValueError:
        return 315532800  # 1980-01-01, the format's zero
    return int(moment.timestamp())


def _no_overlap(volumes: Volumes, members: list[Member], directory_at: int) -> None:
    """Entries that share bytes are how a small file becomes petabytes."""
    end = 0
    for member in sorted((m for m in members if not m.is_folder), key=lambda m: m.offset):
        if member.offset < end or member.offset + member.packed > directory_at:
            raise FetchError("bad_archive", f"{volumes.name}: {member.name!r}", "overlaps another")
        end = member.offset + _LOCAL.size + member.packed


def expect_readable(volumes: Volumes, member: Member) -> None:
    """Ask before the first member is written.

    Raises:
        FetchError: ``bad_archive``: packed in a way that is not read.
    """
    if member.method not in (STORED, DEFLATED):
        method = _METHODS.get(member.method, f"method {member.method}")
        detail = f"packed by {method}; unpack it with 7-Zip and use the folder"
        raise FetchError("bad_archive", f"{volumes.name}: {member.name!r}", detail)


def read(volumes: Volumes, member: Member, block: int) -> Iterator[bytes]:
    """The member's bytes in blocks, its size and CRC-32 checked; each request reads ``block``.

    Raises:
        FetchError: ``bad_archive``: damaged; ``bomb``: longer than it states.
    """
    where = f"{volumes.name}: {member.name!r}"
    data = _packed(volumes, member, block, where)
    crc = size = 0
    for piece in _inflated(data, where) if member.method == DEFLATED else data:
        crc, size = zlib.crc32(piece, crc), size + len(piece)
        if size > member.size:
            raise FetchError("bomb", where, f"more than the {member.size} bytes it states")
        yield piece
    if size != member.size or crc != member.crc:
        detail = f"{size} of {member.size} bytes" if size != member.size else "wrong checksum"
        raise FetchError("bad_archive", where, detail)


def _packed(volumes: Volumes, member: Member, block: int, where: str) -> Iterator[bytes]:
    """Bytes after the local header, which is read together with the first of them."""
    guess = _LOCAL.size + len(member.name.encode()) + 128
    head = volumes.read_at(member.offset, min(guess + member.packed, guess + block))
    if len(head) < _LOCAL.size or not head.startswith(b"PK\x03\x04"):
        raise FetchError("bad_archive", where, f"no local header at byte {member.offset}")
    *_, n, e = _LOCAL.unpack_from(head)
    name = _text(head[_LOCAL.size : _LOCAL.size + n], member.flags)
    if name != member.name:
        raise FetchError("bad_archive", where, f"the local header says {name!r}")
    begin = _LOCAL.size + n + e
    first = head[begin : begin + member.packed]
    yield first
    offset, left = member.offset + begin + len(first), member.packed - len(first)
    while left > 0:
        piece = volumes.read_at(offset, min(block, left))
        if not piece:
            raise FetchError("bad_archive", where, "the archive ends within it")
        yield piece
        offset, left = offset + len(piece), left - len(piece)


def _inflated(data: Iterator[bytes], where: str) -> Iterator[bytes]:
    decompress = zlib.decompressobj(-zlib.MAX_WBITS)
    most = 1 << 20  # a megabyte of zeros packs into a kilobyte
    try:
        for piece in data:
            rest = piece
            while rest:
                out = decompress.decompress(rest, most)
                rest = decompress.unconsumed_tail
                if out:
                    yield out
        while out := decompress.decompress(decompress.unconsumed_tail, most):
            yield out
        yield decompress.flush()
    except zlib.error as error:
        raise FetchError("bad_archive", where, str(error)) from error
    if not decompress.eof:
        raise FetchError("bad_archive", where, "its packed bytes end too early")
