"""Zip, tar.gz and 7z -> a folder. Hostile input: nothing is written before a guard admits it."""

import errno
import io
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from pipeline.fetch import tar_reader, transfer, zip_reader
from pipeline.fetch.errors import FetchError
from pipeline.fetch.guard import Guard, Limits, junk
from pipeline.fetch.volumes import LocalVolume, Volumes
from pipeline.fetch.writer import Folder, Output, chosen

LOCAL_BLOCK, REMOTE_BLOCK = 256 << 10, 8 << 20
_BATCH = 4096  # members handed to threads together: each waits in two kilobytes of memory
_SMALL = 64 << 10  # bytes of a local member below which a second thread costs more than it gains
_SEVEN_ZIP_BLOCK = 8 << 20
Wanted = Callable[[str], str | None]


def unpack(
    kind: str,
    volumes: Volumes,
    root: Path,
    keep: Sequence[str] = ("*",),
    drop: str = "",
    only: frozenset[str] | None = None,
    limits: Limits | None = None,
    written: Callable[[int], None] = lambda _: None,
    expect: Callable[[int], None] = lambda _: None,
    at_once: int = 2,
) -> Folder:
    """Unpack the wanted members of one archive.

    Members that are there already are kept, if the archive has their checksums (not tar).

    Args:
        kind: ``zip``, ``tar.gz`` or ``7z``.
        volumes: The archive's volumes in their order.
        root: Folder to fill.
        keep: Patterns over member paths, leading folders dropped.
        drop: Pattern of leading folders to drop.
        only: Names (last part of the path) to keep; None keeps all.
        limits: What it may come to; by default a multiple of its packed size.
        written: Hears of bytes as they are written.
        expect: Hears of all bytes to come, where the archive says so beforehand (not tar).
        at_once: Members unpacked or fetched at the same time (zip).

    Raises:
        FetchError: The archive is damaged or hostile, and names the member; or no room is left.
    """
    limits = limits or Limits.of(volumes.size)
    guard = Guard(volumes.name, limits)

    def wanted(name: str) -> str | None:
        path = None if junk(name) else chosen(name, keep, drop)
        return path if only is None or (path and path.rpartition("/")[2] in only) else None

    folder = Folder(root, written)
    try:
        if kind == "zip":
            _zip(volumes, folder, guard, wanted, expect, at_once)
        elif kind == "tar.gz":
            _tar(volumes, folder, guard, wanted, limits)
        else:
            _seven_zip(volumes, folder, guard, wanted, expect, limits)
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        where = str(error.filename2 or error.filename)  # another archive may have filled it
        raise FetchError("unsafe_name", where, "both a file and a folder") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise FetchError("disk_full", str(root), str(error)) from error
    return folder


def _zip(
    volumes: Volumes,
    folder: Folder,
    guard: Guard,
    wanted: Wanted,
    expect: Callable[[int], None],
    at_once: int,
) -> None:
    """All members are looked at before the first byte is written."""
    members: list[tuple[str, zip_reader.Member]] = []
    for m in zip_reader.directory(volumes):
        if m.is_folder and m.size:
            raise guard.refusal("unsafe_name", m.name, "a folder with bytes of its own")
        if not m.is_folder and (path := wanted(m.name)) is not None:
            members.append((guard.admit(m.name, path, m.size, m.mode, m.encrypted), m))
            zip_reader.expect_readable(volumes, m)
    total = sum(m.size for _, m in members)
    expect(total)
    local = isinstance(volumes.volumes[0], LocalVolume)
    block = LOCAL_BLOCK if local else REMOTE_BLOCK
    if local and total < _SMALL * len(members):
        at_once = 1

    def one(job: tuple[str, zip_reader.Member]) -> None:
        path, member = job
        if not folder.has(path, member.size, member.crc):
            folder.put(path, member.size, member.time, zip_reader.read(volumes, member, block))

    # In the archive's order, so that a disk is read from front to back.
    members.sort(key=lambda job: job[1].offset)
    for first in range(0, len(members), _BATCH):
        transfer.each(one, members[first : first + _BATCH], at_once)


def _tar(volumes: Volumes, folder: Folder, guard: Guard, wanted: Wanted, limits: Limits) -> None:
    for member, blocks in tar_reader.members(volumes, limits.bytes):
        path = None if member.isdir() else wanted(member.name)
        if path is None:
            continue
        if not member.isreg() or member.issparse():
            what = "a link" if member.issym() or member.islnk() else "no regular file"
            raise guard.refusal("unsafe_name", member.name, what)
        path = guard.admit(member.name, path, member.size)
        folder.put(path, member.size, int(member.mtime), blocks)


def _seven_zip(
    volumes: Volumes,
    folder: Folder,
    guard: Guard,
    wanted: Wanted,
    expect: Callable[[int], None],
    limits: Limits,
) -> None:
    from py7zr import exceptions, py7zr
    from py7zr.io import Py7zIO, WriterFactory

    class Sink(Py7zIO):
        """One member as py7zr writes it."""

        def __init__(self, output: Output) -> None:
            self._output, self._size = output, 0

        def write(self, s: bytes | bytearray) -> int:
            self._size += len(s)
            return self._output.write(s)

        def read(self, size: int | None = None) -> bytes:
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def flush(self) -> None: ...

        def size(self) -> int:
            return self._size

        def close(self) -> None:
            self._output.finish()

    class Sinks(WriterFactory):
        def create(self, filename: str) -> Py7zIO:
            output = folder.open(*admitted[filename])
            outputs.append(output)
            return Sink(output)

    root = folder.root.absolute()
    admitted: dict[str, tuple[str, int, int]] = {}  # by the path that py7zr makes of the name
    outputs: list[Output] = []
    # Silence would be unpacked in blocks of 128 MB, three at a time.
    py7zr.get_memory_limit = lambda: _SEVEN_ZIP_BLOCK  # pyright: ignore[reportPrivateImportUsage]
    try:
        with py7zr.SevenZipFile(
            io.BufferedReader(volumes, LOCAL_BLOCK), max_extract_size=limits.bytes
        ) as archive:
            targets: list[str] = []
            locked = archive.needs_password()
            for info in archive.list():
                path = None if info.is_directory else wanted(info.filename)
                if path is None:
                    continue
                if not info.is_file:
                    what = "a link" if info.is_symlink else "no regular file"
                    raise guard.refusal("unsafe_name", info.filename, what)
                size = info.uncompressed
                path = guard.admit(info.filename, path, size, encrypted=locked)
                time = int(info.creationtime.timestamp()) if info.creationtime else 0
                made = (root / PurePosixPath(info.filename)).as_posix()
                admitted[made] = (path, size, time)
                if info.crc32 is None or not folder.has(path, size, info.crc32):
                    targets.append(info.filename)
            expect(sum(size for _, size, _ in admitted.values()))
            if targets:
                archive.extract(path=root, targets=targets, factory=Sinks())
    except FetchError:
        raise
    except exceptions.PasswordRequired as error:
        raise FetchError("bad_archive", volumes.name, "encrypted") from error
    except exceptions.DecompressionBombError as error:
        raise FetchError("bomb", volumes.name, str(error)) from error
    except Exception as error:  # hostile bytes make py7zr raise anything
        if isinstance(error, OSError) and error.errno is not None:  # of this computer's disk
            raise
        raise FetchError("bad_archive", volumes.name, f"{type(error).__name__}: {error}") from error
    finally:
        for output in outputs:
            output.abandon()
    for path, size, time in admitted.values():
        if path not in folder.sums:  # an empty member is not always written
            folder.put(path, size, time, ())
