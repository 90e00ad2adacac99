"""Archives as nobody should pack them, of all three kinds, byte by byte."""

import gzip
import io
import struct
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import py7zr

TIME = 1_600_000_000  # even, as the times in zips are
Members = Sequence[tuple[str, bytes]]


@dataclass(kw_only=True)
class Entry:
    """A member of a zip; what is None is as it should be."""

    name: str
    data: bytes = b"some bytes"
    method: int = 8
    flags: int = 0x800
    mode: int = 0o100644
    size: int | None = None
    local_name: str | None = None
    offset: int | None = None
    packed: int | None = None


def zip_with(*entries: Entry) -> bytes:
    """A zip of these entries; sizes, names and offsets as they claim."""
    body, directory = b"", b""
    for e in entries:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        packed = packer.compress(e.data) + packer.flush() if e.method == 8 else e.data
        crc, size = zlib.crc32(e.data), len(e.data) if e.size is None else e.size
        stated = len(packed) if e.packed is None else e.packed
        offset = len(body) if e.offset is None else e.offset
        name, local = (n.encode() for n in (e.name, e.local_name or e.name))
        head = (20, e.flags, e.method, 0x6000, 0x5130, crc, stated, size)
        body += struct.pack("<4s5H3L2H", b"PK\x03\x04", *head, len(local), 0) + local + packed
        directory += struct.pack("<4s6H3L", b"PK\x01\x02", 3 << 8 | 20, *head)
        directory += struct.pack("<5H2L", len(name), 0, 0, 0, 0, e.mode << 16, offset) + name
    n = len(entries)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, n, n, len(directory), len(body), 0)
    return body + directory + end


def zip_of(members: Members) -> bytes:
    return zip_with(*(Entry(name=name, data=data) for name, data in members))


def tar_of(members: Members, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """A tar, not yet packed."""
    out = b""
    for name, data in members:
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.type, info.linkname = len(data), TIME, kind, link
        form = tarfile.GNU_FORMAT
        if "\0" in name:  # ends a name in a plain header
            info.pax_headers, form = {"path": name}, tarfile.PAX_FORMAT
        out += info.tobuf(form, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512)
    return out + bytes(1024)


def tar_gz_of(members: Members) -> bytes:
    return gzip.compress(tar_of(members), mtime=0)


def seven_of(members: Members, **options: Any) -> bytes:
    """py7zr refuses to write hostile names, so they replace harmless ones of their length."""
    out = io.BytesIO()
    with py7zr.SevenZipFile(out, "w", **options) as archive:
        archive.set_encoded_header_mode(False)
        for n, (name, data) in enumerate(members):
            archive.writestr(data, _placeholder(n, name))
    data = out.getvalue()
    for n, (name, _) in enumerate(members):
        data = data.replace(_placeholder(n, name).encode("utf-16-le"), name.encode("utf-16-le"))
    return with_header(data, data[_header_at(data) :])


def _placeholder(n: int, name: str) -> str:
    length = len(name.encode("utf-16-le")) // 2
    return chr(0x4E00 + n) * length


def _header_at(archive: bytes) -> int:
    return 32 + struct.unpack_from("<Q", archive, 12)[0]


def header(archive: bytes) -> bytes:
    """Of a 7z: what lists its members."""
    return archive[_header_at(archive) :]


def with_header(archive: bytes, fresh: bytes) -> bytes:
    """The 7z with another header, whose checksums agree."""
    at = _header_at(archive)
    start = struct.pack("<QQL", at - 32, len(fresh), zlib.crc32(fresh))
    signature = archive[:8] + struct.pack("<L", zlib.crc32(start)) + start
    return signature + archive[32:at] + fresh


OF: dict[str, Callable[[Members], bytes]] = {"zip": zip_of, "tar.gz": tar_gz_of, "7z": seven_of}
