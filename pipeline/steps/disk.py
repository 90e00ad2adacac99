"""What a killed process leaves half written, and a disk that takes no more."""

import errno
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

# A process of another computer or container cannot be asked whether it lives; one that has
# not touched its file for so long does not.
FORSAKEN = 24 * 3600.0  # seconds
_MARK = ".unfinished-"
_ADVICE = {
    errno.ENOSPC: "the disk is full ({free}). Free some room",
    errno.EDQUOT: "the quota of this user is used up. Free some room",
    errno.EROFS: "the disk is mounted read-only. Mount it for writing",
    errno.EACCES: "this user may not read or write there. Change its owner or permissions",
    errno.EPERM: "this user may not read or write there. Change its owner or permissions",
}
_OF_A_PATH = (errno.EACCES, errno.EPERM)  # these may as well be about something else


class CannotWrite(OSError):
    """The data root takes no more: says where, why and what to do."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of a disk that cannot be written, at or below a path, into ``CannotWrite``."""
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0)
        about = Path(os.fsdecode(error.filename)) if error.filename else None
        inside = about is not None and about.is_relative_to(path)
        if advice is None or (error.errno in _OF_A_PATH and not inside):
            raise
        raise CannotWrite(
            f"{about if about and inside else path}: {advice.format(free=_free(path))}, or set "
            "ACULA_DATA_ROOT to another folder. Then run the same command again: what is "
            "finished is kept"
        ) from error


def _free(path: Path) -> str:
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return f"{shutil.disk_usage(there).free / 1e6:.0f} MB free"


def beside(path: Path) -> Path:
    """A temporary name in the same folder, which tells whose it is."""
    return path.parent / f".{path.name}{_MARK}{_place()}-{os.getpid()}-{_began(os.getpid())}"


@contextmanager
def finished(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block succeeds.

    Works for a file or a folder that the block creates. On any error the temporary is
    removed, and whatever stood at ``path`` before is untouched. What a killed process left
    behind goes when a later one writes into the same folder.

    Raises:
        CannotWrite: The disk is full or may not be written; says what to do.
    """
    with explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        temporary = beside(path)
        remove(temporary)
        try:
            yield temporary
            if temporary.is_dir() and path.exists():
                remove(path)
            temporary.replace(path)
        finally:
            remove(temporary)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``path``, which goes at the end of the block.

    What a killed process left behind goes as with ``finished``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    folder = beside(path)
    remove(folder)
    folder.mkdir()
    try:
        yield folder
    finally:
        remove(folder)


@cache
def sweep(folder: Path) -> None:
    """Remove what dead processes left unfinished in a folder; once per process and folder."""
    for path in folder.glob(f".*{_MARK}*"):
        # Another process may remove it, too, or it is of another user; it stops nobody.
        with suppress(OSError):
            if _is_left(path):
                remove(path)


def remove(path: Path) -> None:
    """A file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_left(path: Path) -> bool:
    place, _, process = path.name.rpartition(_MARK)[2].partition("-")
    pid, _, began = process.partition("-")
    if place == _place() and pid.isdecimal():
        return not _lives(int(pid), began)
    last = max(p.lstat().st_mtime for p in (path, *path.rglob("*")))
    return time.time() - last > FORSAKEN


@cache
def _place() -> str:
    """Where process numbers mean the same: one computer since it was started, one container."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    known = [platform.node(), boot.read_text() if boot.is_file() else ""]
    known.append(str(namespace.readlink()) if namespace.is_symlink() else "")
    return hashlib.sha256("\0".join(known).encode()).hexdigest()[:8]


def _lives(pid: int, began: str) -> bool:
    if Path("/proc/self/stat").exists():
        return bool(began) and _began(pid) == began
    try:  # no /proc, so a number that was given again counts as alive
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _began(pid: int) -> str:
    """When a process began, in ticks since the computer did; empty where it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *fields = text.rpartition(")")[2].split()  # its name may hold spaces and brackets
    return "" if state in "ZX" else fields[18]
