"""Every dataset from its publisher's packing to the same folder, end to end over a local server."""

import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from publishers import Publisher, publisher, tree
from shipping import PACK, ship, tarred, zipped
from worlds import write_small

from pipeline import manifest as manifests
from pipeline import roots, samples
from pipeline.fetch import remote
from pipeline.fetch.errors import FetchError
from pipeline.lineage import derived
from pipeline.manifest import Manifest, load_all
from pipeline.settings import Settings, SettingsError
from pipeline.sources import PublishedLists, RemoteFile, Unpacking
from pipeline.steps import archive, collect, inspection, layout, published, recordings, store

needs_zip = pytest.mark.skipif(shutil.which("zip") is None, reason="Info-ZIP's zip is absent")
DATASETS = [pytest.param(d, marks=needs_zip if d == "uk_covid19" else ()) for d in sorted(PACK)]
Make = Callable[..., Settings]


@pytest.fixture
def server() -> Iterator[Publisher]:
    with publisher() as running:
        yield running


@pytest.fixture
def online(settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Settings that download, with lock files and checksum lists in ``tmp_path``."""
    (tmp_path / "lists").mkdir()
    monkeypatch.setattr(manifests, "FOLDER", tmp_path / "lists")

    def make(dataset: str, **more: object) -> Settings:
        return settings(archives="download", datasets=dataset, **more)

    return make


def shipped(dataset: str, folder: Path, tmp_path: Path, server: Publisher) -> Manifest:
    work = tmp_path / "packing"
    work.mkdir()
    return ship(dataset, folder, work, server, tmp_path / "lists")


def sample_of(dataset: str, tmp_path: Path) -> Path:
    """A small sample archive; the folder that its publisher's names begin in."""
    folder = write_small(samples.sample(dataset).write, tmp_path / "source" / dataset)
    inner = list(folder.glob("the-circor-*"))
    return inner[0] if inner else folder


@pytest.mark.parametrize("dataset", DATASETS)
def test_what_a_publisher_ships_becomes_the_folder(
    dataset: str, tmp_path: Path, server: Publisher, online: Make
) -> None:
    folder = sample_of(dataset, tmp_path)
    manifest = shipped(dataset, folder, tmp_path, server)
    said: list[str] = []
    outcome = archive.obtain(manifest, online(dataset), said.append)
    got, sent = Path(outcome.facts["root"]), server.sent
    expected = {n: s for n, s in tree(folder).items() if not _left_out(dataset, n)}
    found = tree(got)
    for extra in ("SHA256SUMS.txt", *_cut_names(dataset, folder)):
        found.pop(extra, None)
        expected.pop(extra, None)
    assert found == expected
    assert manifest.licence.name in said[0] and manifest.attribution in said[0], "before any byte"
    assert archive.obtain(manifest, online(dataset)).skipped and server.sent == sent
    noted = json.loads(layout.Dataset(online(dataset).data_root, dataset).sources.read_text())
    assert noted and all(entry["sha256"] and entry["url"] for entry in noted)
    assert not list(got.parent.glob(".archive*")), "nothing half made is left"


def _left_out(dataset: str, name: str) -> bool:
    """Not part of what this publisher's archive holds."""
    if dataset == "circor":
        return not name.startswith(("training_data", "RECORDS"))
    return dataset == "sprsound" and not name.startswith(
        ("BioCAS", "Patient", "overlap", "README", "LICENSE")
    )


def _cut_names(dataset: str, folder: Path) -> list[str]:
    """Volumes that lie in the sample itself."""
    return [n for n in tree(folder) if ".tar.gz." in n] if dataset == "coswara" else []


REAL = ("icbhi", "circor", "coughvid", "sprsound", "coswara", "kauh")


@pytest.mark.parametrize("dataset", REAL)
def test_real_recordings_come_out_of_an_archive_as_out_of_their_folder(
    dataset: str, shared: Path, tmp_path: Path, server: Publisher, online: Make, settings: Make
) -> None:
    folder = shared / "real" / dataset
    manifest = shipped(dataset, folder, tmp_path, server)
    unpacked = online(dataset, data_root=tmp_path / "a")
    in_place = settings(archives=str(shared / "real"), datasets=dataset, data_root=tmp_path / "b")
    tables: list[list[dict[str, Any]]] = []
    for at in (unpacked, in_place):
        archive.obtain(manifest, at)
        recordings.prepare(manifest, at, lambda _: None)
        path = layout.Dataset(at.data_root, dataset).recordings
        rows = store.read_table(path).drop_columns(["part", "offset", "size"]).to_pylist()
        tables.append(rows)
    assert tables[0] == tables[1]
    assert tables[0] or dataset == "coughvid"


def test_circor_comes_file_by_file_where_there_is_no_zip(
    tmp_path: Path, server: Publisher, online: Make
) -> None:
    folder = sample_of("circor", tmp_path)
    manifest = shipped("circor", folder, tmp_path, server)
    name = next(f.name for f in manifest.files if f.name.endswith(".zip"))
    server.offer(name, status=404, faults=-1)
    said: list[str] = []
    got = Path(archive.obtain(manifest, online("circor"), said.append).facts["root"])
    assert any("one by one" in line for line in said)
    found = tree(got)
    del found["SHA256SUMS.txt"]
    assert found == {n: s for n, s in tree(folder).items() if not _left_out("circor", n)}


@pytest.mark.parametrize("zip_there", [True, False])
def test_circor_files_are_held_against_the_list(
    tmp_path: Path, server: Publisher, online: Make, zip_there: bool
) -> None:
    folder = sample_of("circor", tmp_path)
    manifest = shipped("circor", folder, tmp_path, server)
    wav = next(folder.rglob("*.wav")).relative_to(folder).as_posix()
    if zip_there:
        name = next(f.name for f in manifest.files if f.name.endswith(".zip"))
        (folder / wav).write_bytes(b"RIFF other")
        bad = zipped(folder, [n for n in tree(folder) if not _left_out("circor", n)])
        server.offer(name, bad)
        changed = [f.model_copy(update={"sha256": None, "bytes": None}) for f in manifest.files]
        manifest = manifest.model_copy(update={"files": changed})
    else:
        server.offer(f"files/{wav}", b"RIFF other")
        manifest = manifest.model_copy(
            update={"files": [f for f in manifest.files if not f.name.endswith(".zip")]}
        )
    with pytest.raises(FetchError, match=wav) as caught:
        archive.obtain(manifest, online("circor"))
    assert caught.value.code == "hash_mismatch"


@needs_zip
def test_an_edition_fetches_only_the_members_that_its_lists_name(
    tmp_path: Path, server: Publisher, online: Make
) -> None:
    folder = sample_of("uk_covid19", tmp_path)
    manifest = shipped("uk_covid19", folder, tmp_path, server)
    sounds = sorted(p.name for p in (folder / "audio").iterdir())
    names = sounds[3:40:6]
    lists = _lists(server, tmp_path, {"datasets/covidUK/a_files_downsample.npy": np.array(names)})
    manifest = manifest.model_copy(update={"published": lists})
    server.sent = 0
    at = online("uk_covid19", editions="uk_covid19=published")
    facts = archive.obtain(manifest, at).facts
    root = Path(facts["root"])
    assert sorted(p.name for p in (root / "audio").iterdir()) == names
    assert all(
        (root / "audio" / n).read_bytes() == (folder / "audio" / n).read_bytes() for n in names
    )
    assert (root / "audio_metadata.csv").is_file()
    packed = sum(f.bytes or 0 for f in manifest.files if f.name.startswith("covid_data"))
    assert server.sent < packed / 2, "the rest of the archive stays where it is"
    whole = online("uk_covid19", data_root=tmp_path / "whole")
    everything = Path(archive.obtain(manifest, whole).facts["root"])
    assert len(list((everything / "audio").iterdir())) == len(sounds)
    for how in server.paths.values():
        how.ranges = False
    other = online("uk_covid19", editions="uk_covid19=published", data_root=tmp_path / "c")
    with pytest.raises(FetchError, match="choose the edition that fetches whole files"):
        archive.obtain(manifest, other)


def _lists(server: Publisher, tmp_path: Path, arrays: dict[str, Any]) -> PublishedLists:
    files: dict[str, str] = {}
    for path, values in arrays.items():
        out = io.BytesIO()
        np.save(out, values, allow_pickle=True)
        server.offer(f"lists/{path}", out.getvalue())
        files[path] = hashlib.sha256(out.getvalue()).hexdigest()
    return PublishedLists(base=f"{server.base}/lists/", licence="MIT", files=files)


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("unpickled"),))


def test_object_arrays_are_read_from_pinned_bytes_only(
    tmp_path: Path, server: Publisher, online: Make
) -> None:
    names = np.array(["a", None, "b"], dtype=object)
    lists = _lists(server, tmp_path, {"x.npy": names})
    manifest = load_all()["coughvid"].model_copy(update={"published": lists})
    at = online("coughvid")
    assert published.fetch(manifest, at) == {"x.npy": ["a", None, "b"]}
    _lists(server, tmp_path, {"x.npy": np.array([_Bomb()], dtype=object)})
    with pytest.raises(FetchError, match="sha256"):
        published.fetch(manifest, at.model_copy(update={"data_root": tmp_path / "other"}))
    there = layout.Dataset(at.data_root, "coughvid").published / "x.npy"
    there.write_bytes(b"\x93NUMPY tampered")
    with pytest.raises(FetchError, match="pinned"):
        published.read(there, lists.files["x.npy"])
    assert not Path("unpickled").exists()


def test_the_pinned_lists_of_every_manifest_load(shared: Path, settings: Make) -> None:
    """Bytes beside the project are the pinned ones, and agree with the known counts."""
    root = shared / "reference" / "opera_splits"
    counts: dict[str, int] = {}
    for manifest in load_all().values():
        for path, sha256 in manifest.published.files.items() if manifest.published else ():
            if path.endswith(".npy") and (root / path).is_file():
                counts[path] = len(published.read(root / path, sha256))
    assert counts["datasets/coughvid/coughvid__train_uuids.npy"] == 5843
    assert counts["feature/kauh_eval/train_test.npy"] == 234
    assert counts["feature/copd_eval/labels.npy"] == 504
    wanted = load_all()["uk_covid19"].editions["published"].members_of
    assert sum(n for p, n in counts.items() if fnmatchcase(p, wanted[0])) == 5000


def test_a_mirror_comes_first_and_needs_no_network(
    tmp_path: Path, server: Publisher, online: Make
) -> None:
    folder = sample_of("kauh", tmp_path)
    manifest = shipped("kauh", folder, tmp_path, server)
    mirror = tmp_path / "mirror" / "kauh"
    mirror.mkdir(parents=True)
    for file in manifest.files:
        (mirror / file.name).write_bytes(server.paths[file.urls[0].split("/")[-1]].read(0, 1 << 30))
    for at in (str(mirror.parent), mirror.parent.as_uri()):
        target = tmp_path / f"data{len(at)}"
        outcome = archive.obtain(manifest, online("kauh", mirror=at, data_root=target))
        assert tree(Path(outcome.facts["root"])) == tree(folder)
    assert not server.asked


def test_a_folder_may_be_called_like_a_protocol(online: Make) -> None:
    (url,) = online("kauh", mirror="http_mirror").mirrored("kauh", "a b.xlsx")
    assert url == "http_mirror/kauh/a b.xlsx"


@pytest.mark.parametrize("archives", ["", "download,mmlung", "download,mmlung="])
def test_no_source_is_not_the_folder_one_is_in(archives: str, settings: Make) -> None:
    with pytest.raises(SettingsError, match="nor an existing folder"):
        settings(archives=archives)


def test_first_checksums_are_locked_for_the_next_person(
    tmp_path: Path, server: Publisher, online: Make
) -> None:
    folder = sample_of("zchsound", tmp_path)
    manifest = shipped("zchsound", folder, tmp_path, server)
    archive.obtain(manifest, online("zchsound"))
    lock = tmp_path / "lists" / "zchsound.lock"
    entry = json.loads(lock.read_text())["files"]["ZCHSound.zip"]
    assert entry["bytes"] == manifest.files[0].bytes and entry["url"] == manifest.files[0].urls[0]
    next(folder.rglob("*.wav")).write_bytes(b"RIFF other")
    server.offer("ZCHSound.zip", zipped(folder, list(tree(folder))))
    changed = [f.model_copy(update={"bytes": None}) for f in manifest.files]
    other = manifest.model_copy(update={"files": changed})
    with pytest.raises(FetchError, match="lock file") as caught:
        archive.obtain(other, online("zchsound", data_root=tmp_path / "next"))
    assert caught.value.code == "changed_upstream"


def test_archives_packed_anew_may_differ_in_bytes_but_not_in_content(
    tmp_path: Path, server: Publisher, online: Make
) -> None:
    folder = sample_of("sprsound", tmp_path)
    manifest = shipped("sprsound", folder, tmp_path, server)
    free = [f.model_copy(update={"bytes": None}) for f in manifest.files]
    manifest = manifest.model_copy(update={"files": free})
    archive.obtain(manifest, online("sprsound"))
    names = list(tree(folder))
    server.offer("SPRSound.tar.gz", tarred(folder, reversed(names), "SPRSound-other/"))
    archive.obtain(manifest, online("sprsound", data_root=tmp_path / "next"))
    next(folder.rglob("*.wav")).write_bytes(b"RIFF other")
    server.offer("SPRSound.tar.gz", tarred(folder, names, "SPRSound-874/"))
    with pytest.raises(FetchError, match="content") as caught:
        archive.obtain(manifest, online("sprsound", data_root=tmp_path / "last"))
    assert caught.value.code == "changed_upstream"


def test_requests_and_agreements_are_explained(
    online: Make, settings: Make, tmp_path: Path
) -> None:
    mmlung = load_all()["mmlung"]
    with pytest.raises(FetchError, match="ACULA_AGREED=mmlung"):
        archive.obtain(mmlung, online("mmlung"))
    with pytest.raises(FetchError, match=r"mtm1g19@soton\.ac\.uk") as caught:
        archive.obtain(mmlung, online("mmlung", agreed="mmlung"))
    assert caught.value.code == "on_request"
    folder = sample_of("mmlung", tmp_path)
    at = settings(archives=f"download,mmlung={folder}", datasets="mmlung", agreed="mmlung")
    assert archive.obtain(mmlung, at).facts["root"] == str(folder.resolve())


def test_room_is_asked_for_before_anything_is_fetched(
    tmp_path: Path, server: Publisher, online: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = shipped("kauh", sample_of("kauh", tmp_path), tmp_path, server)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(collect.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(FetchError, match="too little room") as caught:
        archive.obtain(manifest, online("kauh"))
    assert caught.value.code == "disk_full" and not server.asked


def test_room_that_an_interrupted_run_has_taken_is_not_asked_for_again(
    tmp_path: Path, server: Publisher, online: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = shipped("kauh", sample_of("kauh", tmp_path), tmp_path, server)
    manifest = manifest.model_copy(update={"unpacked_bytes": 100_000_000})
    at = online("kauh")
    staging = layout.Dataset(at.data_root, "kauh").folder / ".archive.unpacking-0"
    staging.mkdir(parents=True)
    usage = type("Usage", (), {"free": 90_000_000})
    monkeypatch.setattr(collect.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(FetchError, match="too little room"):
        archive.obtain(manifest, at)
    with (staging / "half").open("wb") as half:
        half.truncate(80_000_000)
    assert archive.obtain(manifest, at).facts["files"]


def test_a_damaged_first_download_is_not_locked(
    tmp_path: Path, server: Publisher, online: Make
) -> None:
    manifest = shipped("kauh", sample_of("kauh", tmp_path), tmp_path, server)
    free = [f.model_copy(update={"bytes": None, "sha256": None}) for f in manifest.files]
    manifest, at = manifest.model_copy(update={"files": free}), online("kauh")
    name = next(f.name for f in free if f.name.endswith(".zip"))
    data = server.paths[name].read(0, 1 << 30)
    server.offer(name, data[:-100], length=-1)
    with pytest.raises(FetchError, match="once it is deleted"):
        archive.obtain(manifest, at)
    server.offer(name, data)
    (layout.Dataset(at.data_root, "kauh").downloads / name).unlink()
    archive.obtain(manifest, at)
    lock = json.loads((tmp_path / "lists" / "kauh.lock").read_text())
    assert lock["files"][name]["bytes"] == len(data)


def test_a_sample_never_replaces_a_download(
    tmp_path: Path, server: Publisher, online: Make, settings: Make
) -> None:
    manifest = shipped("kauh", sample_of("kauh", tmp_path), tmp_path, server)
    at, sample = online("kauh"), settings(archives="sample", datasets="kauh", sample_scale=0.1)
    root = Path(archive.obtain(manifest, at).facts["root"])
    before = tree(root)
    with pytest.raises(archive.ArchiveError, match=r"ACULA_ARCHIVES=download .*kauh=download"):
        archive.obtain(manifest, sample)
    assert tree(root) == before and archive.obtain(manifest, at).skipped
    shutil.rmtree(root)
    assert not archive.obtain(manifest, sample).skipped
    assert archive.obtain(manifest, sample).skipped


def test_two_runs_take_turns(tmp_path: Path, server: Publisher, online: Make) -> None:
    manifest = shipped("kauh", sample_of("kauh", tmp_path), tmp_path, server)
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(archive.obtain, manifest, online("kauh"), said.append) for _ in "ab"]
    assert sorted(run.result().skipped for run in both) == [False, True]
    assert any("waiting" in line for line in said)
    assert len(server.asked) == len(manifest.files)


def test_a_layout_that_moved_is_said(tmp_path: Path, server: Publisher, online: Make) -> None:
    folder = sample_of("sprsound", tmp_path)
    manifest = shipped("sprsound", folder, tmp_path, server)
    names = [n for n in tree(folder) if n.startswith("BioCAS")]
    data = tarred(folder, names, "SPRSound-874/elsewhere/")
    server.offer("SPRSound.tar.gz", data)
    moved = [f.model_copy(update={"bytes": len(data)}) for f in manifest.files]
    with pytest.raises(FetchError, match="layout has moved"):
        archive.obtain(manifest.model_copy(update={"files": moved}), online("sprsound"))


def test_another_edition_is_not_said_to_be_here(
    tmp_path: Path, server: Publisher, online: Make
) -> None:
    manifest = shipped("coughvid", sample_of("coughvid", tmp_path), tmp_path, server)
    archive.obtain(manifest, online("coughvid"))
    assert not inspection.state(manifest, online("coughvid")).missing
    other = inspection.state(manifest, online("coughvid", editions="coughvid=v3"))
    assert other.missing == "public_dataset_v3.zip" and "get coughvid" in other.to_do


def test_packed_files_can_be_given_up(tmp_path: Path, server: Publisher, online: Make) -> None:
    folder = sample_of("kauh", tmp_path)
    manifest = shipped("kauh", folder, tmp_path, server)
    at = online("kauh", keep_downloads=False)
    outcome = archive.obtain(manifest, at)
    assert not layout.Dataset(at.data_root, "kauh").downloads.exists()
    assert tree(Path(outcome.facts["root"])) == tree(folder)
    assert archive.obtain(manifest, at).skipped


# Imports once, then forks a child for each line it reads, so that a kill costs no start-up.
_GET = """
import os, sys
from pathlib import Path
import requests
from pipeline.fetch import journal
from pipeline.manifest import Manifest
from pipeline.settings import load
from pipeline.steps import archive
journal.BLOCK = 64 << 10
manifest = Manifest.model_validate_json(Path(sys.argv[1]).read_text())
settings = load(archives="download", datasets="kauh", data_root=sys.argv[2], locks=sys.argv[3])
for _ in sys.stdin:
    pid = os.fork()
    if not pid:
        archive.obtain(manifest, settings)
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.mark.slow
def test_fifty_kills_change_nothing(tmp_path: Path, server: Publisher, online: Make) -> None:
    """SIGKILL at random points of downloading and unpacking loses less than a block of bytes."""
    folder = tmp_path / "source" / "a"
    folder.mkdir(parents=True)
    draw = random.Random(5)
    for n in range(60):
        (folder / f"{n}.wav").write_bytes(b"RIFF" + draw.randbytes(100_000))
    packed = {f"{n}.zip": zipped(folder, list(tree(folder)), f"{n}/") for n in range(3)}
    offers = {n: server.offer(n, d, pause=0.004, etag='"1"') for n, d in packed.items()}
    values = json.loads(load_all()["kauh"].model_dump_json(by_alias=True)) | {
        "published": None,
        "tasks": {},
        "files": [
            {"name": n, "urls": [u], "sha256": hashlib.sha256(packed[n]).hexdigest()}
            for n, u in offers.items()
        ],
        "unpack": [{"from": "*.zip", "format": "zip"}],
    }
    path, data = tmp_path / "manifest.json", tmp_path / "data"
    path.write_text(json.dumps(values))
    command = [sys.executable, "-c", _GET, str(path), str(data), str(tmp_path / "lists")]
    kills, finished, reach = 0, 0, 0.15  # s; grows until a run gets done, on a busy computer too
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdin and run.stdout
        while True:
            on_disk = {p.name: p.stat().st_size for p in data.rglob("*.part")}
            asked = len(server.asked)
            print(file=run.stdin, flush=True)
            pid = int(run.stdout.readline())
            if kills < 50:
                time.sleep(draw.random() * reach)
                with suppress(ProcessLookupError):  # it was faster
                    os.kill(pid, signal.SIGKILL)
            ended = int(run.stdout.readline())
            kills += ended == -signal.SIGKILL
            finished += ended == 0
            reach = 0.15 if ended == 0 else 1.1 * reach
            assert ended in (0, -signal.SIGKILL)
            for name, start in server.asked[asked:]:
                known = on_disk.get(f"{name}.part", 0)
                assert start >= known - (64 << 10) - remote.BLOCK, "fetched twice"
            if ended == 0 and kills >= 50:
                break
            if ended == 0:  # unpack once more, to be killed at it
                shutil.rmtree(data / "kauh" / "archive")
                (data / "kauh" / "archive.json").unlink()
        run.stdin.close()
    assert finished > 1
    assert tree(data / "kauh" / "archive") == {
        f"{n}/{p}": s for n in range(3) for p, s in tree(folder).items()
    }
    assert sum(len(d) for d in packed.values()) <= server.sent


def test_notes_addresses_and_a_moved_data_root_fetch_nothing_anew(
    tmp_path: Path, server: Publisher, online: Make
) -> None:
    folder = sample_of("kauh", tmp_path)
    manifest = shipped("kauh", folder, tmp_path, server)
    at = online("kauh", keep_downloads=False)
    archive.obtain(manifest, at)
    server.asked.clear()
    told = [f.model_copy(update={"note": "!", "urls": ["http://x/y"]}) for f in manifest.files]
    moved = at.model_copy(update={"data_root": tmp_path / "moved"})
    at.data_root.rename(moved.data_root)
    outcome = archive.obtain(manifest.model_copy(update={"files": told}), moved)
    assert outcome.skipped and not server.asked
    assert Path(outcome.facts["root"]) == (tmp_path / "moved" / "kauh" / "archive").resolve()
    recordings.prepare(manifest, moved, lambda _: None)


def test_with_a_store_another_computer_downloads_only_for_a_step_that_reads_the_archive(
    tmp_path: Path, server: Publisher, online: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roots, "_ROOTS", {})
    manifest = shipped("kauh", sample_of("kauh", tmp_path), tmp_path, server)

    def on(name: str) -> tuple[store.Outcome, int, store.Outcome]:
        at = online("kauh", data_root=f"file://{tmp_path}/store", work_folder=tmp_path / name)
        server.asked.clear()
        got = archive.obtain(manifest, at)
        return got, len(server.asked), recordings.prepare(manifest, at, lambda _: None)

    assert on("one")[1]
    made = (tmp_path / "store/kauh/recordings.parquet").read_bytes()
    got, asked, prepared = on("two")
    assert got.skipped and prepared.skipped and not asked
    here = layout.Dataset(tmp_path / "two", "kauh")
    assert not here.archive.exists() and derived.sums_of(here)
    (tmp_path / "store/stamps/kauh/recordings.json").unlink()
    got, asked, prepared = on("three")
    assert got.skipped and not asked and not prepared.skipped and server.asked
    assert (tmp_path / "store/kauh/recordings.parquet").read_bytes() == made
    assert prepared.facts["parts_made"]


def test_a_lock_folder_that_cannot_be_written_is_said_before_anything_is_fetched(
    tmp_path: Path, server: Publisher, online: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = shipped("kauh", sample_of("kauh", tmp_path), tmp_path, server)
    monkeypatch.setattr(collect.os, "access", lambda *_: False)
    with pytest.raises(FetchError, match="ACULA_LOCKS"):
        archive.obtain(manifest, online("kauh"))
    assert not server.asked


def test_two_archives_of_a_dataset_may_not_overwrite_each_other(
    tmp_path: Path, server: Publisher, online: Make
) -> None:
    packed: dict[str, bytes] = {}
    for name, data in (("a.zip", b"one"), ("b.zip", b"another")):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archived:
            archived.writestr("AudioFiles/x.wav", data)
        packed[name] = out.getvalue()
    files = [
        RemoteFile.model_validate({"name": n, "urls": [server.offer(n, d)]})
        for n, d in packed.items()
    ]
    steps = [Unpacking.model_validate({"from": "*.zip", "format": "zip"})]
    manifest = load_all()["kauh"].model_copy(update={"files": files, "unpack": steps})
    with pytest.raises(FetchError, match=r"AudioFiles/x\.wav with other bytes"):
        archive.obtain(manifest, online("kauh"))
    assert not layout.Dataset(online("kauh").data_root, "kauh").archive.exists()
