"""Unpacking: what comes out is exactly what went in, interrupted or not, however large."""

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

import py7zr
import pytest
from hostile import OF, TIME
from hypothesis import given, settings
from hypothesis import strategies as st
from unpacking import CONTENT, KINDS, MEMBERS, Bench, info_zip, parts_of, run

from pipeline.fetch.errors import FetchError
from pipeline.fetch.guard import safe_name
from pipeline.fetch.writer import Folder

pytestmark = pytest.mark.usefixtures("elsewhere")

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
    run("zip", "-q", "-r", "-fz", "-s", "1m", "../a.zip", ".", cwd=tree)
    parts = parts_of(scratch)
    assert len(parts) > 5
    size = sum(len(str(n)) * (n % 7) for n in range(count))
    peak, members, written = _in_child("zip", scratch / "out", parts)
    assert (members, written) == (count, size)
    assert peak < 300
    run("diff", "-r", "tree", "out", cwd=scratch)
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
    run("cmp", "x", "out/x", cwd=scratch)
