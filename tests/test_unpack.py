"""Unpacking: hostile archives are refused by name, damaged ones never pass, others are exact."""

import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import hostile
import py7zr
import pytest
from hostile import OF, TIME, Entry
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import SHARED, needs

from pipeline.fetch import guard, zip_reader
from pipeline.fetch.errors import FetchError
from pipeline.fetch.guard import Limits, safe_name
from pipeline.fetch.unpack import unpack
from pipeline.fetch.volumes import LocalVolume, Volumes, grouped
from pipeline.fetch.writer import Folder

KINDS = list(OF)
SPLIT_ZIP = SHARED / "real" / "surrogates" / "uk_covid19" / "SURROGATE_split_zip"
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


@pytest.fixture(autouse=True)
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


# Hostile members


UNSAFE = [
    "../victim",
    "/abs",
    "//server/x",
    r"\\server\x",
    r"C:\x",
    "C:x",
    "a/../../victim",
    "a/.. /../victim",
    "a/.../x",
    "..\\victim",
    "a\x1b[2Jb",
    "a\nb",
    "a\x00b",
    "a\u202egpj.exe",
    "a:stream",
    "nul",
    "d/COM1.wav",
    "x.unfinished",
    "n" * 256,
    "d/" * 600 + "x",
]


@pytest.mark.parametrize(
    ("kind", "name"),
    # A zero ends a name in a 7z, so none can hold it.
    [(kind, name) for kind in KINDS for name in UNSAFE if kind != "7z" or "\0" not in name],
    ids=lambda value: ascii(value)[:20],
)
def test_name_that_could_write_elsewhere_is_refused(bench: Bench, kind: str, name: str) -> None:
    error = bench.refused("unsafe_name", kind, OF[kind]([("good", b"1"), (name, b"2")]))
    seen = name.replace("\\", "/") if kind == "7z" else name
    assert repr(seen) in str(error)
    assert "\x1b" not in str(error)
    assert bench.inside() == ({"good": b"1"} if kind == "tar.gz" else {})


def test_absolute_name_of_a_file_that_is_there(bench: Bench) -> None:
    name = str(bench.target.parent / "victim")
    for kind in KINDS:
        bench.refused("unsafe_name", kind, OF[kind]([(name, b"2")]), said=name)


def test_name_that_is_not_unicode(bench: Bench) -> None:
    bench.refused("unsafe_name", "tar.gz", hostile.tar_gz_of([("a\udcff", b"2")]), said="udcff")


@pytest.mark.parametrize(
    "names",
    [
        ("d/a.wav", "d/a.wav"),
        ("d/a.wav", "d//./a.wav"),
        ("d/a.wav", "D/A.wav"),
        ("straße", "STRASSE"),
        (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")),
        ("a", "a. "),
        ("a", "a/b"),
        ("a/b/c", "A"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("kind", KINDS)
def test_name_that_would_hide_another_is_refused(
    bench: Bench, kind: str, names: tuple[str, str]
) -> None:
    archive = OF[kind]([(names[0], b"1"), (names[1], b"2")])
    bench.refused("unsafe_name", kind, archive, said=repr(names[1]))
    assert bench.inside() == ({names[0]: b"1"} if kind == "tar.gz" else {})


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"6", b"S", b"V"])
def test_link_device_or_pipe_in_a_tar(bench: Bench, kind: bytes) -> None:
    tar = hostile.tar_of([("d/x", b"")], kind, link="../victim")
    bench.refused("unsafe_name", "tar.gz", gzip.compress(tar), said="'d/x'")
    assert bench.inside() == {}


def test_file_written_through_a_link_in_a_tar(bench: Bench) -> None:
    link = hostile.tar_of([("d", b"")], tarfile.SYMTYPE, link="../folder")[:512]
    bench.refused("unsafe_name", "tar.gz", gzip.compress(link + hostile.tar_of([("d/x", b"1")])))


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o010666, 0o140777, 0o060600, 0o040755])
def test_link_device_or_pipe_in_a_zip(bench: Bench, mode: int) -> None:
    archive = hostile.zip_with(Entry(name="good"), Entry(name="x", data=b"../victim", mode=mode))
    bench.refused("unsafe_name", "zip", archive, said="'x'")
    assert bench.inside() == {}


def test_link_in_a_7z(bench: Bench) -> None:
    (bench.root / "x").symlink_to("outside/victim")
    with py7zr.SevenZipFile(bench.root / "a.7z", "w") as archive:
        archive.write(bench.root / "x", "x")
    bench.refused("unsafe_name", "7z", bench.root / "a.7z", said="'x'")
    assert bench.inside() == {}


# Bombs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limits", ["ratio", "total", "members"])
def test_bomb(bench: Bench, kind: str, limits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FREE_OF_RATIO", 0)
    archive = OF[kind]([("a", b"1"), ("b", b"2"), ("zeros", bytes(3 << 20))])
    options = {
        "ratio": {},
        "total": {"limits": Limits(bytes=3 << 20)},
        "members": {"limits": Limits(bytes=1 << 30, members=2)},
    }
    bench.refused("bomb", kind, archive, said="" if kind == "tar.gz" else "'zeros'",
                  **options[limits])  # fmt: skip
    assert "zeros" not in bench.inside()


@pytest.mark.parametrize("kind", ["tar.gz", "7z"])
def test_bomb_among_members_that_nobody_wants(bench: Bench, kind: str) -> None:
    archive = OF[kind]([("zeros", bytes(3 << 20)), ("b", b"2")])
    bench.refused("bomb", kind, archive, keep=["b"], limits=Limits(bytes=1 << 20))
    assert bench.inside() == {}


def test_member_longer_than_it_states(bench: Bench) -> None:
    for data, method in ((bytes(9 << 20), 8), (b"12345", 0)):
        archive = hostile.zip_with(Entry(name="x", data=data, method=method, size=4))
        bench.refused("bomb", "zip", archive, said="'x'")
        assert bench.inside() == {}


@pytest.mark.parametrize("offset", [0, 20], ids=["whole", "in part"])
def test_entries_that_share_bytes(bench: Bench, offset: int) -> None:
    kernel = Entry(name="a", data=bytes(1 << 20))
    archive = hostile.zip_with(kernel, Entry(name="b", data=b"", offset=offset))
    bench.refused("bad_archive", "zip", archive, said="overlaps")
    assert bench.inside() == {}


def test_header_of_a_tar_that_would_fill_the_memory(bench: Bench) -> None:
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
        header = tarfile.TarInfo("x")
        header.type, header.size = kind, 1 << 33
        archive = gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
        bench.refused("bad_archive", "tar.gz", archive, said="header of 8589934592 bytes")


@pytest.mark.parametrize("size", [-512, -1])
def test_negative_size_in_a_tar(bench: Bench, size: int) -> None:
    header = bytearray(tarfile.TarInfo("x").tobuf())
    header[124:136] = (size % 256**12).to_bytes(12, "big")  # base 256, as large sizes are
    _checksum(header, 0)
    for keep in ("*", "y"):
        archive = gzip.compress(bytes(header) + bytes(2048))
        bench.refused("bad_archive", "tar.gz", archive, keep=[keep])


def _checksum(tar: bytearray, at: int) -> None:
    """Make the checksum of the header there agree."""
    tar[at + 148 : at + 156] = b" " * 8
    tar[at + 148 : at + 156] = b"%06o\0 " % sum(tar[at : at + 512])


# Archives that are not read


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_kind(bench: Bench, kind: str) -> None:
    others = [other for other in KINDS if other != kind]
    for data in (*(OF[other](MEMBERS) for other in others), b"", b"<!doctype html>", bytes(4096)):
        bench.refused("bad_archive", kind, data)
    assert bench.inside() == {}


def test_encrypted(bench: Bench) -> None:
    flagged = hostile.zip_with(Entry(name="good"), Entry(name="x", flags=0x801))
    bench.refused("bad_archive", "zip", flagged, said="'x'").detail.index("encrypted")
    for hidden in (False, True):
        out = io.BytesIO()
        with py7zr.SevenZipFile(out, "w", password="p", header_encryption=hidden) as archive:
            archive.writestr(b"1", "x")
        error = bench.refused("bad_archive", "7z", out.getvalue(), said="" if hidden else "'x'")
        assert "encrypted" in error.detail
    assert bench.inside() == {}


@info_zip
def test_encrypted_by_info_zip(bench: Bench) -> None:
    (bench.root / "x").write_bytes(b"secret" * 99)
    _run("zip", "-q", "-P", "p", "a.zip", "x", cwd=bench.root)
    bench.refused("bad_archive", "zip", bench.root / "a.zip", said="'x'").detail.index("encrypted")


@pytest.mark.parametrize(
    ("method", "called"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA"), (9, "64")]
)
def test_method_that_is_not_read_says_what_to_do(bench: Bench, method: int, called: str) -> None:
    if method == 9:
        data = hostile.zip_with(Entry(name="good"), Entry(name="x", method=9))
    else:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("good", b"1")
            archive.writestr("x", b"2" * 999, method)
        data = out.getvalue()
    error = bench.refused("bad_archive", "zip", data, said="'x'")
    assert called in error.detail and "unpack it with 7-Zip" in error.detail
    assert bench.inside() == {}


# Damaged archives


@pytest.mark.parametrize("kind", KINDS)
def test_half_an_archive(fast: Callable[[], Bench], kind: str) -> None:
    whole = OF[kind](MEMBERS)
    lengths = random.Random(1).sample(range(len(whole)), 25)
    for length in (1, 22, 512, *lengths, len(whole) - 8, len(whole) - 1):
        bench = fast()
        bench.refused("bad_archive", kind, whole[:length])
        inside = bench.inside()
        assert all(CONTENT[name] == data for name, data in inside.items())
        assert kind == "tar.gz" or not inside or kind == "7z"


def test_tar_that_was_cut_before_it_was_packed(fast: Callable[[], Bench]) -> None:
    whole = hostile.tar_of(MEMBERS)
    ends = [len(whole) - 1024, len(whole) - 1024 - 512, 0, 100]
    for length in (*ends, *(512 * n for n in range(1, len(whole) // 512 - 2, 9))):
        fast().refused("bad_archive", "tar.gz", gzip.compress(whole[:length]))


def test_damaged_header_in_a_tar_is_not_its_end(bench: Bench) -> None:
    tar = bytearray(hostile.tar_of(MEMBERS))
    tar[tar.index("root-1/d0/é 3".encode()) + 1] ^= 1
    bench.refused("bad_archive", "tar.gz", gzip.compress(bytes(tar)))
    last = bytearray(hostile.tar_of([("a", b"1"), ("b", b"")]))
    last[1024] ^= 1
    bench.refused("bad_archive", "tar.gz", gzip.compress(bytes(last)), said="damaged header")


def test_anything_after_the_end_of_a_tar_is_not_ignored(bench: Bench) -> None:
    two = hostile.tar_of(MEMBERS[:2]) + hostile.tar_of(MEMBERS[2:])
    bench.refused("bad_archive", "tar.gz", gzip.compress(two), said="after its end")
    assert len(bench.unpack("tar.gz", gzip.compress(hostile.tar_of(MEMBERS) + bytes(9999))).sums)


@pytest.mark.parametrize("kind", KINDS)
def test_one_wrong_byte_never_changes_what_comes_out(fast: Callable[[], Bench], kind: str) -> None:
    """Refused, or (a byte of no consequence) exactly the same."""
    whole, chance, refused = OF[kind](MEMBERS[:4]), random.Random(2), 0
    bench = fast()
    # Data in the first half of the positions, the directory or the last block in the second.
    places = [chance.randrange(len(whole)) for _ in range(60)]
    places += [len(whole) - 1 - chance.randrange(min(400, len(whole))) for _ in range(60)]
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << chance.randrange(8)
        shutil.rmtree(bench.target, ignore_errors=True)
        before = bench.around()
        try:
            bench.unpack(kind, bytes(data))
        except FetchError:
            refused += 1
        else:
            assert bench.inside() == dict(MEMBERS[:4])
        assert bench.around() == before
    assert refused > 60


@pytest.mark.parametrize("kind", KINDS)
def test_any_list_of_members_is_read_or_refused(fast: Callable[[], Bench], kind: str) -> None:
    """Checksums agree, but what they cover makes no sense: no other error, nothing outside."""
    chance, bench = random.Random(3), fast()
    for _ in range(150):
        data = _mangled(kind, chance)
        before = bench.around()
        try:
            bench.unpack(kind, data, limits=Limits(bytes=1 << 22))
        except FetchError as error:
            assert error.code in ("bad_archive", "unsafe_name", "bomb")
        assert bench.around() == before


def _mangled(kind: str, chance: random.Random) -> bytes:
    members = [("a/b", b"123" * 50), ("c", b""), ("d", b"4" * 700)]

    def mangle(data: bytearray, start: int, stop: int) -> bytearray:
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(start, stop)] = chance.choice((0, 0xFF, chance.randrange(256)))
        return data

    if kind == "7z":
        whole = hostile.seven_of(members)
        fresh = bytearray(hostile.header(whole))
        return hostile.with_header(whole, bytes(mangle(fresh, 0, len(fresh))))
    if kind == "zip":
        whole = bytearray(hostile.zip_of(members))
        return bytes(mangle(whole, whole.index(b"PK\x01\x02"), len(whole)))
    tar = bytearray(hostile.tar_of(members))
    at = chance.choice((0, 1024, 1536))
    _checksum(mangle(tar, at, at + 512), at)
    return gzip.compress(bytes(tar))


def test_checksum_and_local_name_of_a_zip(bench: Bench) -> None:
    whole = hostile.zip_with(Entry(name="x", data=b"12345", method=0))
    wrong = whole.replace(b"12345", b"12346")
    bench.refused("bad_archive", "zip", wrong, said="wrong checksum")
    other = hostile.zip_with(Entry(name="x", local_name="y"))
    bench.refused("bad_archive", "zip", other, said="the local header says 'y'")
    full = hostile.zip_with(Entry(name="d/", data=b"hidden"))
    bench.refused("unsafe_name", "zip", full, said="'d/'")
    assert bench.inside() == {}


# Volumes


@pytest.mark.parametrize("kind", ["tar.gz", "7z"])
def test_volumes(fast: Callable[[], Bench], kind: str) -> None:
    whole = OF[kind](MEMBERS)
    third = len(whole) // 3
    parts = [whole[:third], whole[third : 2 * third], whole[2 * third :]]
    bench = fast()
    bench.unpack(kind, *parts)
    assert bench.inside() == CONTENT
    for wrong in ([0, 2, 1], [2, 0, 1], [0, 2], [0, 1], [1, 2], [0, 1, 1, 2]):
        fast().refused("bad_archive", kind, *(parts[n] for n in wrong))


def test_order_of_volumes() -> None:
    names = ["a.zip", "a.z100", "a.z02", "a.z01", "a.z11", "b.7z.010", "b.7z.009", "b.7z.1000"]
    names += ["c.tar.gz.ab", "c.tar.gz.aa", "d.zip", "e.csv"]
    assert grouped(names) == {
        "a.zip": ["a.z01", "a.z02", "a.z11", "a.z100", "a.zip"],
        "b.7z": ["b.7z.009", "b.7z.010", "b.7z.1000"],
        "c.tar.gz": ["c.tar.gz.aa", "c.tar.gz.ab"],
        "d.zip": ["d.zip"],
        "e.csv": ["e.csv"],
    }


def _run(*command: str, cwd: Path, **options: Any) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, timeout=120, **options)


def _parts(folder: Path) -> list[Path]:
    names = [p.name for p in folder.glob("a.z*")]
    return [folder / name for group in grouped(names).values() for name in group]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tree`` and, of it, ``a.z01`` ... ``a.zip`` as Info-ZIP cuts them."""
    folder = tmp_path_factory.mktemp("split")
    for n in range(12):
        path = folder / "tree" / f"d{n % 3}" / f"é {n}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(n).randbytes(40_000 if n else 150_000) + bytes(n * 1000))
        os.utime(path, (TIME, TIME))
    (folder / "tree" / "empty").touch()
    _run("zip", "-q", "-r", "-s", "64k", "../a.zip", ".", cwd=folder / "tree")
    return folder


def _tree(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


@info_zip
def test_zip_split_by_info_zip(split: Path, bench: Bench) -> None:
    parts = _parts(split)
    assert len(parts) > 5
    folder = bench.unpack("zip", *parts)
    assert bench.inside() == _tree(split / "tree")
    assert folder.sums.keys() == bench.inside().keys()
    assert folder.bytes == sum(map(len, bench.inside().values()))


@info_zip
@pytest.mark.parametrize("forced", ["", "-fz"], ids=["plain", "ZIP64"])
def test_volume_of_a_split_zip_missing_or_out_of_place(
    split: Path, fast: Callable[[], Bench], forced: str, tmp_path: Path
) -> None:
    parts = _parts(split)
    if forced:
        _run("zip", "-q", "-r", "-fz", "-s", "64k", str(tmp_path / "a.zip"), ".",
             cwd=split / "tree")  # fmt: skip
        parts = _parts(tmp_path)
        bench = fast()
        bench.unpack("zip", *parts)
        assert bench.inside() == _tree(split / "tree")
    for n in range(len(parts)):
        said = "are here" if n < len(parts) - 1 else "no directory"
        fast().refused("bad_archive", "zip", *parts[:n], *parts[n + 1 :], said=said)
    swapped = [parts[1], parts[0], *parts[2:]]
    doubled = [parts[0], parts[0], *parts[2:]]
    last_first = [parts[-1], *parts[:-1]]
    more = [parts[0], *parts]
    for wrong in (swapped, doubled, last_first, more):
        fast().refused("bad_archive", "zip", *wrong)


@needs(SPLIT_ZIP)
def test_the_layout_of_the_real_split_archive(bench: Bench) -> None:
    parts = [SPLIT_ZIP / "covid_data.z01", SPLIT_ZIP / "covid_data.zip"]
    assert grouped(["covid_data.zip", "covid_data.z01"]) == {
        "covid_data.zip": [p.name for p in parts]
    }
    listed = {
        m.name: m.size for m in zip_reader.directory(bench.volumes(*parts)) if not m.is_folder
    }
    bench.unpack("zip", *parts)
    assert {name: len(data) for name, data in bench.inside().items()} == listed
    assert len(listed) == 9
    assert sum(size == 44 for size in listed.values()) == 1  # a header without a sample
    assert all(data[:4] == b"RIFF" for data in bench.inside().values())


# What is unpacked, and how


@pytest.mark.parametrize("kind", KINDS)
def test_desktop_junk_and_what_is_kept(bench: Bench, kind: str) -> None:
    members = [
        ("data-1.0/data-1.0/a.wav", b"1"),
        ("data-1.0/data-1.0/d/b.wav", b"2"),
        ("data-1.0/data-1.0/d/b.txt", b"3"),
        ("data-1.0/.DS_Store", b"4"),
        ("__MACOSX/data-1.0/._a.wav", b"5"),
        ("data-1.0/d/._b.wav", b"6"),
    ]
    expected: list[int] = []
    archive = OF[kind](members)
    options = {"keep": ["*.wav"], "drop": "data-*", "expect": expected.append}
    assert bench.unpack(kind, archive, **options).sums.keys() == {"a.wav", "d/b.wav"}
    assert bench.inside() == {"a.wav": b"1", "d/b.wav": b"2"}
    assert expected == ([] if kind == "tar.gz" else [2])
    shutil.rmtree(bench.target)
    bench.unpack(kind, archive, drop="data-*", only=frozenset({"b.txt", "a.wa"}))
    assert bench.inside() == {"d/b.txt": b"3"}
    shutil.rmtree(bench.target)
    assert bench.unpack(kind, archive, keep=["none/*"]).sums == {}
    assert bench.inside() == {}


@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_same(fast: Callable[[], Bench], kind: str) -> None:
    archive, heard = OF[kind](MEMBERS), list[int]()
    first, second = fast(), fast()
    one = first.unpack(kind, archive, at_once=1, written=heard.append)
    two = second.unpack(kind, archive, at_once=4)
    assert one.sums == two.sums and one.bytes == two.bytes == sum(heard)
    assert first.inside() == second.inside() == CONTENT


@pytest.mark.parametrize("kind", KINDS)
def test_times_come_from_the_archive(bench: Bench, kind: str) -> None:
    archive = OF[kind]([("a", b"1"), ("b", b"")])
    bench.unpack(kind, archive)
    if kind == "7z":
        with py7zr.SevenZipFile(io.BytesIO(archive)) as seven:
            stated = {i.filename: int(i.creationtime.timestamp()) for i in seven.list()}
    else:
        stated = dict.fromkeys("ab", TIME if kind == "tar.gz" else _dos(archive))
    assert {n: int((bench.target / n).stat().st_mtime) for n in "ab"} == stated


def test_time_that_no_file_system_has(bench: Bench) -> None:
    endless = tarfile.TarInfo("x")
    endless.pax_headers = {"mtime": "inf"}
    archive = gzip.compress(endless.tobuf(tarfile.PAX_FORMAT) + bytes(1024))
    bench.refused("bad_archive", "tar.gz", archive)
    for time, kept in ((-(10**15), 0), (10**15, 0xFFFFFFFF)):
        far = tarfile.TarInfo("x")
        far.mtime = time
        bench.unpack("tar.gz", gzip.compress(far.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
        assert (bench.target / "x").stat().st_mtime == kept


@pytest.mark.parametrize(("data", "code"), [(b"12", "bad_archive"), (b"1234", "bomb")])
def test_folder_takes_exactly_what_is_stated(bench: Bench, data: bytes, code: str) -> None:
    folder = Folder(bench.target, lambda _: None)
    with pytest.raises(FetchError) as caught:
        folder.put("d/x", 3, TIME, [data[:1], data[1:]])
    assert caught.value.code == code and "d/x" in str(caught.value)
    assert bench.inside() == folder.sums == {}


def _dos(archive: bytes) -> int:
    from datetime import UTC, datetime

    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return int(datetime(*file.infolist()[0].date_time, tzinfo=UTC).timestamp())


@pytest.mark.parametrize("kind", ["zip", "7z"])
def test_interrupted_unpacking_goes_on(bench: Bench, kind: str) -> None:
    archive, heard = OF[kind](MEMBERS), list[int]()

    def written(size: int) -> None:
        heard.append(size)
        if sum(heard) > 15_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.unpack(kind, archive, written=written, at_once=1)
    before = {p: p.stat() for p in bench.target.rglob("*.wav")}
    assert 1 < len(before) < len(MEMBERS)
    assert len(bench.inside()) == len(before), "nothing half written"
    damaged = max(before, key=lambda p: before[p].st_size)
    damaged.write_bytes(bytes(before[damaged].st_size))
    folder = bench.unpack(kind, archive)
    assert bench.inside() == CONTENT
    assert folder.sums.keys() == CONTENT.keys()
    for path, stat in before.items():
        kept = path.stat().st_ino == stat.st_ino and path.stat().st_mtime_ns == stat.st_mtime_ns
        assert kept or path == damaged
    assert folder.bytes == sum(map(len, CONTENT.values()))


@pytest.mark.parametrize("kind", KINDS)
def test_folder_where_another_archive_left_a_file(bench: Bench, kind: str) -> None:
    for first, second in (("x", "x/y"), ("d/z", "d")):
        bench.unpack("zip", OF["zip"]([(first, b"1")]))
        bench.refused("unsafe_name", kind, OF[kind]([(second, b"2")]), said=str(bench.target))
    assert bench.inside() == {"x": b"1", "d/z": b"1"}


@pytest.mark.parametrize("kind", KINDS)
def test_full_disk_says_so(bench: Bench, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    bench.refused("disk_full", kind, OF[kind](MEMBERS), said=str(bench.target))
    assert bench.inside() == {}


# Properties


@settings(max_examples=500, deadline=None)
@given(st.text() | st.text("./\\ :aC", max_size=12) | st.text("./\\ ", min_size=1, max_size=6))
def test_safe_names_stay_inside(name: str) -> None:
    try:
        path = safe_name(name)
    except FetchError as error:
        assert error.code == "unsafe_name"
        return
    assert safe_name(path) == path
    assert PurePosixPath("/data").joinpath(path).is_relative_to("/data")
    windows = PureWindowsPath("D:/data").joinpath(path)
    assert windows.is_relative_to("D:/data") and not windows.is_reserved()
    for piece in (*PurePosixPath(path).parts, *PureWindowsPath(path).parts):
        assert piece.strip(". ")


_piece = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=8)
_data = st.binary(max_size=300) | st.integers(0, 3000).map(bytes)


@st.composite
def _members(draw: st.DrawFn) -> dict[str, bytes]:
    """Names that no rule refuses; the files of a folder ``f`` are never called ``d``."""
    found: dict[str, bytes] = {}
    folded = set[str]()
    for folders, name, data in draw(
        st.lists(st.tuples(st.integers(0, 2), _piece, _data), max_size=8)
    ):
        path = "d/" * folders + f"f{name}"
        try:
            plain = safe_name(path) == path and "\\" not in path
        except FetchError:
            continue
        key = unicodedata.normalize("NFKD", path).casefold().rstrip(". ")
        if plain and key not in folded:
            folded.add(key)
            found[path] = data
    return found


class _Unseekable(io.RawIOBase):
    """A stream: sizes and checksums then follow the bytes instead of coming before them."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        self.data += block
        return len(block)


@settings(max_examples=60, deadline=None)
@given(_members(), st.booleans(), st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
def test_zips_of_pythons_zipfile(members: dict[str, bytes], stream: bool, method: int) -> None:
    out: Any = _Unseekable() if stream else io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.comment = b"a comment"
    data = bytes(out.data) if stream else out.getvalue()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        _same("zip", data, {name: archive.read(name) for name in archive.namelist()})


@settings(max_examples=60, deadline=None)
@given(_members(), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_tars_of_pythons_tarfile(members: dict[str, bytes], form: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=form) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1e9 + 0.5
            tar.addfile(info, io.BytesIO(data))
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        files: list[Any] = [(m.name, tar.extractfile(m)) for m in tar]
        _same("tar.gz", out.getvalue(), {name: file.read() for name, file in files})


def _same(kind: str, data: bytes, content: dict[str, bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        bench.unpack(kind, data)
        assert bench.inside() == content


# The big ones

_CHILD = """
import json, resource, sys
from pathlib import Path
from pipeline.fetch.unpack import unpack
from pipeline.fetch.volumes import LocalVolume, Volumes
kind, target, only, *parts = sys.argv[1:]
folder = unpack(kind, Volumes([LocalVolume(Path(p)) for p in parts]), Path(target), at_once=4,
                only=frozenset(only.split(",")) if only else None)
status = Path("/proc/self/status")  # elsewhere the parent's peak counts, too
peak = (next(int(l.split()[1]) for l in status.read_text().splitlines() if "VmHWM" in l) / 1024
        if status.exists() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
print(json.dumps([peak, len(folder.sums), folder.bytes]))
"""


def _in_child(kind: str, target: Path, parts: list[Path], only: str = "") -> list[float]:
    """Peak memory in MB, members and bytes of an unpacking in a process of its own."""
    command = [sys.executable, "-c", _CHILD, kind, str(target), only, *map(str, parts)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder whose gigabytes do not wait for pytest to delete them."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@info_zip
def test_split_zip64_with_more_members_than_16_bits_count(scratch: Path) -> None:
    count, tree = 66_000, scratch / "tree"
    for n in range(count):
        if n % 1000 == 0:
            (tree / f"d{n // 1000}").mkdir(parents=True)
        (tree / f"d{n // 1000}" / f"{n}.txt").write_bytes(b"%d" % n * (n % 7))
    _run("zip", "-q", "-r", "-fz", "-s", "1m", "../a.zip", ".", cwd=tree)
    parts = _parts(scratch)
    assert len(parts) > 5
    size = sum(len(str(n)) * (n % 7) for n in range(count))
    peak, members, written = _in_child("zip", scratch / "out", parts)
    assert (members, written) == (count, size)
    assert peak < 300
    _run("diff", "-r", "tree", "out", cwd=scratch)
    peak, members, _ = _in_child("zip", scratch / "few", parts, only="7.txt,65999.txt,no.txt")
    assert members == 2 and peak < 300
    assert (scratch / "few" / "d65" / "65999.txt").read_bytes() == b"65999" * 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", ["zeros and noise", "zeros"])
def test_memory_of_a_large_member(scratch: Path, kind: str, content: str) -> None:
    size = 400 << 20
    noise = random.Random(1).randbytes(1 << 20 if "noise" in content else 0)
    block = bytes((8 << 20) - len(noise)) + noise
    with (scratch / "x").open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
    archive = scratch / "a"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
            made.write(scratch / "x", "x")
    elif kind == "tar.gz":
        with tarfile.open(archive, "w:gz", compresslevel=1) as made:
            made.add(scratch / "x", "x")
    else:
        filters = [{"id": py7zr.FILTER_LZMA2, "preset": 1}]
        with py7zr.SevenZipFile(archive, "w", filters=filters) as made:
            made.write(scratch / "x", "x")
    peak, members, written = _in_child(kind, scratch / "out", [archive])
    assert (members, written) == (1, size)
    assert peak < 300
    _run("cmp", "x", "out/x", cwd=scratch)
