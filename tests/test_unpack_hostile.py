"""Unpacking: hostile archives are refused by name before anything else is touched."""

import gzip
import io
import tarfile
import unicodedata
import zipfile

import hostile
import py7zr
import pytest
from hostile import OF, Entry
from unpacking import KINDS, MEMBERS, Bench, checksum, info_zip, run

from pipeline.fetch import guard
from pipeline.fetch.guard import Limits

pytestmark = pytest.mark.usefixtures("elsewhere")

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
    checksum(header, 0)
    for keep in ("*", "y"):
        archive = gzip.compress(bytes(header) + bytes(2048))
        bench.refused("bad_archive", "tar.gz", archive, keep=[keep])


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
    run("zip", "-q", "-P", "p", "a.zip", "x", cwd=bench.root)
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
