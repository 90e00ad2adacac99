"""Folders to unpack into, with things beside them that must stay as they are."""

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import OF

from pipeline.fetch.errors import FetchError
from pipeline.fetch.unpack import unpack
from pipeline.fetch.volumes import LocalVolume, Volumes, grouped
from pipeline.fetch.writer import Folder

KINDS = list(OF)
info_zip = pytest.mark.skipif(not shutil.which("zip"), reason="Info-ZIP's `zip` is not installed")
MEMBERS = [
    (f"root-1/d{n % 3}/é {n}.wav", random.Random(n).randbytes(1500 * n) + bytes(900 * n))
    for n in range(6)
]
CONTENT = dict(MEMBERS)


class Bench:
    """A folder to unpack into, and beside it things that must stay as they are."""

    def __init__(self, root: Path) -> None:
        self.root, self.target = root, root / "outside" / "target"
        self.target.parent.mkdir()
        (self.target.parent / "victim").write_text("untouched")
        (self.target.parent / "folder").mkdir()

    def volumes(self, *parts: bytes | Path) -> Volumes:
        (self.root / "parts").mkdir(exist_ok=True)
        paths = [self.root / "parts" / f"volume.{n}" for n in range(len(parts))]
        for n, (path, part) in enumerate(zip(paths, parts, strict=True)):
            if isinstance(part, Path):
                paths[n] = part
            else:
                path.write_bytes(part)
        return Volumes([LocalVolume(p) for p in paths])

    def unpack(self, kind: str, *parts: bytes | Path, **options: Any) -> Folder:
        return unpack(kind, self.volumes(*parts), self.target, **options)

    def around(self) -> dict[Path, Any]:
        """Everything outside the target."""
        own = (self.target, self.root / "parts")
        stats = {p: p.lstat() for p in self.root.rglob("*") if not {p, *p.parents} & {*own}}
        return {
            p: (s.st_ino, s.st_mode, 0 if p.is_dir() else (s.st_nlink, s.st_size, s.st_mtime_ns))
            for p, s in stats.items()
        }

    def inside(self) -> dict[str, bytes]:
        files = [p for p in self.target.rglob("*") if not p.is_dir()]
        assert all(p.is_file() and not p.is_symlink() for p in files)
        return {p.relative_to(self.target).as_posix(): p.read_bytes() for p in files}

    def refused(
        self, code: str, kind: str, *parts: bytes | Path, said: str = "", **options: Any
    ) -> FetchError:
        """Refused for this reason, in these words, and nothing outside was touched."""
        before = self.around()
        with pytest.raises(FetchError) as caught:
            self.unpack(kind, *parts, **options)
        assert caught.value.code == code, caught.value
        assert said in str(caught.value)
        assert self.around() == before
        return caught.value


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path must not reach anything either."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def fast(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Bench]:
    """A new bench each time, for many archives in one test."""
    return lambda: Bench(tmp_path_factory.mktemp("bench"))


def run(*command: str, cwd: Path, **options: Any) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, timeout=120, **options)


def parts_of(folder: Path) -> list[Path]:
    names = [p.name for p in folder.glob("a.z*")]
    return [folder / name for group in grouped(names).values() for name in group]


def checksum(tar: bytearray, at: int) -> None:
    """Make the checksum of the header there agree."""
    tar[at + 148 : at + 156] = b" " * 8
    tar[at + 148 : at + 156] = b"%06o\0 " % sum(tar[at : at + 512])
