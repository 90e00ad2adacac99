"""What killed processes leave behind, and a disk that takes no more."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.steps import disk, store

WRITER = """
import sys, time
from pathlib import Path
from pipeline.steps import store
target = Path(sys.argv[1])
with store.finished(target / "table") as one, store.finished(target / "folder") as other:
    one.write_text("half")
    other.mkdir()
    (other / "piece").write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""


def strays(folder: Path) -> list[str]:
    return sorted(p.name.partition(".unfinished-")[0] for p in folder.glob(".*unfinished*"))


def write(folder: Path) -> None:
    """What any later run does there, in a process of its own."""
    disk.sweep.cache_clear()
    store.write_json(folder / "other.json", {})


def test_what_a_killed_process_left_goes_with_the_next_and_the_living_are_spared(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout and writer.stdout.readline() == "begun\n"
        write(tmp_path)
        assert strays(tmp_path) == [".folder", ".table"], "its owner lives"
        writer.send_signal(signal.SIGKILL)
        while "Z" not in Path(f"/proc/{writer.pid}/stat").read_text().rpartition(")")[2].split():
            time.sleep(0.01)
        write(tmp_path)  # dead, if nobody has asked for its status yet
    assert strays(tmp_path) == []
    assert [p.name for p in tmp_path.iterdir()] == ["other.json"]


def test_a_number_that_was_given_again_is_not_the_same_process(tmp_path: Path) -> None:
    mine = disk.beside(tmp_path / "mine")
    mine.write_text("half")
    before = mine.with_name(f"{mine.name.rpartition('-')[0]}-1")  # began when the computer did
    before.write_text("half")
    write(tmp_path)
    assert mine.exists() and not before.exists()


@pytest.mark.parametrize("name", [".a.unfinished-1", ".a.unfinished-0123abcd-1-1"])
def test_processes_elsewhere_are_spared_for_a_day(tmp_path: Path, name: str) -> None:
    """Their numbers say nothing here, so only time does."""
    folder = tmp_path / name
    folder.mkdir()
    piece = folder / "piece"
    piece.write_text("half")
    long_ago = time.time() - disk.FORSAKEN - 60
    os.utime(folder, (long_ago, long_ago))
    write(tmp_path)
    assert piece.exists(), "it has been written to"
    os.utime(piece, (long_ago, long_ago))
    os.utime(folder, (long_ago, long_ago))
    write(tmp_path)
    assert not folder.exists()


def test_a_full_disk_is_one_sentence_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = pa.schema([pa.field("a", pa.string())])
    target = tmp_path / "table.parquet"
    store.write_table(target, [{"a": "old"}], schema)
    really = store.pq.write_table

    def full(table: pa.Table, path: Path, **how: object) -> None:
        path.symlink_to("/dev/full")  # answers every write as a full disk does
        really(table, path, **how)

    monkeypatch.setattr(store.pq, "write_table", full)
    with pytest.raises(disk.CannotWrite) as caught:
        store.write_table(target, [{"a": "new"}], schema)
    assert str(caught.value).startswith(f"{tmp_path}: the disk is full (")
    assert "ACULA_DATA_ROOT" in str(caught.value) and "Errno" not in str(caught.value)
    assert store.read_table(target).to_pylist() == [{"a": "old"}] and not strays(tmp_path)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EROFS, "read-only. Mount it"),
        (errno.EACCES, "may not read or write"),
        (errno.EDQUOT, "quota"),
    ],
)
def test_a_disk_that_may_not_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    root = tmp_path / "data" / "icbhi"
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(disk.CannotWrite, match=said) as caught:
        store.write_json(root / "a.json", {})
    assert str(caught.value).startswith(f"{root}: ")

    def work() -> tuple[str, dict[str, object]]:
        (root / "scratch").mkdir()
        return "", {}

    with pytest.raises(disk.CannotWrite, match=said) as caught:
        store.cached(root / "a.json", {}, [], work)
    assert str(caught.value).startswith(f"{root / 'scratch'}: ")


def test_other_errors_are_not_blamed_on_the_data_root(tmp_path: Path) -> None:
    for error in (
        PermissionError(errno.EACCES, "denied", "/archives/icbhi/a.wav"),
        PermissionError(errno.EACCES, "denied"),
        IsADirectoryError(errno.EISDIR, "is a directory", str(tmp_path / "x")),
    ):
        with pytest.raises(type(error)) as caught, disk.explained(tmp_path):
            raise error
        assert caught.value is error
