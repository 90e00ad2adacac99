"""Unpacking: damaged archives and missing volumes never pass as complete."""

import gzip
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import hostile
import pytest
from hostile import OF, TIME, Entry
from unpacking import CONTENT, KINDS, MEMBERS, Bench, checksum, info_zip, parts_of, run
from worlds import SHARED, needs

from pipeline.fetch import zip_reader
from pipeline.fetch.errors import FetchError
from pipeline.fetch.guard import Limits
from pipeline.fetch.volumes import grouped

SPLIT_ZIP = SHARED / "real" / "surrogates" / "uk_covid19" / "SURROGATE_split_zip"
pytestmark = pytest.mark.usefixtures("elsewhere")

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
    checksum(mangle(tar, at, at + 512), at)
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
    run("zip", "-q", "-r", "-s", "64k", "../a.zip", ".", cwd=folder / "tree")
    return folder


def _tree(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


@info_zip
def test_zip_split_by_info_zip(split: Path, bench: Bench) -> None:
    parts = parts_of(split)
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
    parts = parts_of(split)
    if forced:
        run("zip", "-q", "-r", "-fz", "-s", "64k", str(tmp_path / "a.zip"), ".",
             cwd=split / "tree")  # fmt: skip
        parts = parts_of(tmp_path)
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
