"""A data root at a URL: computers share it, and faults of one or of the store change no byte."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TinyIcbhi
from s3_server import BUCKET, S3, serve
from worlds import digest

from pipeline import lineage, roots
from pipeline.settings import Settings
from pipeline.steps import layout, marks, objects, parts, remote, shards, store
from pipeline.steps.objects import StoreError

Outcomes = dict[str, store.Outcome]


@pytest.fixture(autouse=True)
def unbound() -> Iterator[None]:
    """No folder of a test belongs to a store afterwards."""
    yield
    for folder in list(roots._ROOTS):
        roots.bind(folder, None)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several parts and shards of the sixteen recordings."""
    monkeypatch.setattr("pipeline.steps.parts.RECORDINGS_PER_PART", 4)
    monkeypatch.setattr(shards, "PAIRS_PER_SHARD", 4)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """The folder that stands for a store; its parent is everybody's."""
    return tmp_path / "shared" / "corpus"


@pytest.fixture
def run(
    small: None,
    tmp_path: Path,
    shared: Path,
    settings: Callable[..., Settings],
    materialise: Callable[..., Outcomes],
) -> Callable[..., Outcomes]:
    """Run the steps on a computer of this name, whose data root is ``shared`` unless told."""

    def steps(name: str, root: str = "", **overrides: object) -> Outcomes:
        folder = tmp_path / name
        settings(data_root=root or f"file://{shared}", work_folder=folder)
        return materialise(data_root=folder, **overrides)

    return steps


def tables_and_tars(folder: Path) -> dict[str, str]:
    """Everything that steps make of sound and metadata."""
    files = (p for p in folder.rglob("*") if p.suffix in (".parquet", ".tar"))
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
        if "archive" not in p.parts
    }


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def keys(index: Path) -> list[str]:
    return store.read_table(index)["pair_id"].to_pylist()


def test_a_second_computer_redoes_nothing_and_fetches_no_sound(
    run: Callable[..., Outcomes], tmp_path: Path, shared: Path
) -> None:
    run("alone", root=str(tmp_path / "alone"))
    first = run("one")
    assert tables_and_tars(shared) == tables_and_tars(tmp_path / "alone")
    assert not any(o.skipped for o in first.values())
    second = run("two")
    assert all(o.skipped for o in second.values())
    assert {n: o.facts for n, o in second.items()} == {n: o.facts for n, o in first.items()}
    here = tmp_path / "two"
    assert not list(here.rglob("*.tar")) and not list(here.rglob("*.parquet"))
    pair = store.read_table(layout.Corpus(here).table("pairs")).to_pylist()[0]
    chain = lineage.trace(here, pair["pair_id"])
    assert {link.name for link in chain.links} >= {"archive", "audio", "report", "shard"}
    assert not list(here.rglob("*.tar"))
    # What one sound is made of comes alone; what shards are made of, as a whole.
    folder = layout.Dataset(here, "icbhi").parts
    flac = parts.read_flac(folder, pair["part"], pair["offset"], pair["size"])
    assert flac[:4] == b"fLaC" and not list(here.rglob("*.tar"))
    remote.need(layout.Corpus(here).shards)
    assert {n for n in names(here) if n.endswith(".tar")} == {
        n for n in names(shared) if n.startswith("shards/")
    }
    # What neither names is work that was interrupted; of shards, nothing is heard but the named.
    for name in ("icbhi/parts/begun.tar", "shards/train/begun.tar"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(b"of a run that was killed")
    remote._store.cache_clear()
    (here / "icbhi/recordings.json").unlink()
    assert run("two")["recordings"].skipped and (here / "icbhi/parts/begun.tar").exists()
    remote.need(layout.Corpus(here).shards)
    assert not (here / "shards/train/begun.tar").exists()
    stamps = {n.removeprefix("stamps/") for n in names(shared) if n.startswith("stamps/")}
    assert stamps == {"icbhi/archive.json", "icbhi/recordings.json", "icbhi/reports.json",
                      "subjects.json", "pairs.json", "shards.json"}  # fmt: skip
    assert not any("archive/" in n or "/." in n for n in names(shared))


def test_an_edited_row_redoes_on_another_computer_just_what_it_must(
    run: Callable[..., Outcomes], tmp_path: Path, shared: Path, tiny_archive: TinyIcbhi
) -> None:
    run("one")
    before = {n for n in names(shared) if n.endswith(".tar")}
    patient, *rest = tiny_archive.people["102"]
    tiny_archive.people["102"] = (str(int(patient) + 30), *rest)
    tiny_archive.save()
    second = run("two")
    assert second["recordings"].facts["parts_made"] == 0
    assert {n for n in before if "parts/" in n} <= names(shared)
    run("alone", root=str(tmp_path / "alone"))
    assert tables_and_tars(shared) == tables_and_tars(tmp_path / "alone")
    # The first computer takes over what the second made, and what it has itself no more.
    pairs = layout.Corpus(tmp_path / "one").table("pairs")
    old = pairs.read_bytes()
    assert all(o.skipped for o in run("one").values())
    remote.need(pairs, layout.Corpus(tmp_path / "one").shards)
    assert pairs.read_bytes() != old
    assert tables_and_tars(tmp_path / "one").items() <= tables_and_tars(shared).items()


def test_a_changed_shard_fetches_the_parts_of_its_pairs_and_replaces_itself(
    run: Callable[..., Outcomes], tmp_path: Path, shared: Path
) -> None:
    run("one")
    before = {n for n in names(shared) if n.startswith("shards/")}
    (victim, *_) = store.read_table(layout.Corpus(tmp_path / "one").table("pairs")).to_pylist()
    doubtful = {"exclude_marks": True, "marks": tmp_path / "marks.jsonl"}
    mark = marks.Mark(pair_id=victim["pair_id"], recording_id=victim["recording_id"], doubtful=True)
    marks.add(tmp_path / "marks.jsonl", mark)
    written = run("two", **doubtful)["shards"].facts
    assert written["shards_written"] == 1 < written["shards"]
    after = {n for n in names(shared) if n.startswith("shards/")}
    assert len(before - after) == len(after - before) == 1
    all_parts = len(list((shared / "icbhi/parts").glob("*.tar")))
    assert 0 < len(list((tmp_path / "two/icbhi/parts").glob("*.tar"))) < all_parts
    run("alone", root=str(tmp_path / "alone"), **doubtful)
    assert tables_and_tars(shared) == tables_and_tars(tmp_path / "alone")


def test_a_work_folder_with_a_part_of_the_data_is_not_taken_for_the_whole(
    run: Callable[..., Outcomes], tmp_path: Path, shared: Path
) -> None:
    run("one")
    run("two")
    here = tmp_path / "two"
    some = next(iter(sorted((shared / "shards").rglob("*.tar"))))
    remote.need(here / some.relative_to(shared), layout.Corpus(here).shard_index)
    alone = run("two", root=str(here))  # the same folder, and the store is not named any more
    assert not alone["shards"].skipped
    assert tables_and_tars(here) == tables_and_tars(shared)
    moved = run("two", root=f"file://{tmp_path}/elsewhere")  # all of it, and nothing is done again
    assert all(o.skipped for o in moved.values())
    assert tables_and_tars(tmp_path / "elsewhere") == tables_and_tars(shared)


def test_what_did_not_arrive_leaves_no_stamp_and_is_sent_by_the_next_run(
    run: Callable[..., Outcomes], tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sent = objects.Objects.send, list[str]()

    def failing(self: objects.Objects, name: str, *rest: Any) -> Any:
        sent.append(name)
        if len(sent) == 5:
            raise OSError("the line is dead")
        return real(self, name, *rest)

    monkeypatch.setattr(objects.Objects, "send", failing)
    with pytest.raises(StoreError, match=r"the line is dead.*run the same command again"):
        run("one")
    assert not (shared / "stamps/icbhi/recordings.json").exists()
    # A driver that cannot write all or nothing leaves halves.
    half = next(p for p in sorted((shared / "icbhi/parts").iterdir()))
    half.write_bytes(half.read_bytes()[:100])
    second = run("one")
    assert second["recordings"].skipped  # nothing is decoded twice
    run("alone", root=str(tmp_path / "alone"))
    assert tables_and_tars(shared) == tables_and_tars(tmp_path / "alone")


def test_an_upload_that_arrives_altered_is_an_error(
    run: Callable[..., Outcomes], shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.local import LocalFileSystem

    def altered(self: LocalFileSystem, source: str, target: str, **_: object) -> None:
        content = bytearray(Path(source).read_bytes())
        content[-1] ^= 1
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).write_bytes(content)

    monkeypatch.setattr(LocalFileSystem, "put_file", altered)
    with pytest.raises(StoreError, match="did not arrive as it was sent"):
        run("one")
    assert not (shared / "stamps/icbhi/recordings.json").exists()


def test_a_stamp_that_cannot_be_read_is_not_taken_for_none(
    run: Callable[..., Outcomes], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("one")

    def refused(*_: object, **__: object) -> bytes:
        raise PermissionError("denied")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.cat_file", refused)
    with pytest.raises(StoreError, match=r"denied. Probably this account may not do that"):
        run("two")


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_a_damaged_object_is_noticed_and_the_advice_mends_it(
    run: Callable[..., Outcomes], tmp_path: Path, shared: Path, damage: str
) -> None:
    run("one")
    wanted = tables_and_tars(shared)
    victim = shared / "pairs.parquet"
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.unlink() if damage == "gone" else victim.write_bytes(content)
    run("two")
    pairs = layout.Corpus(tmp_path / "two").table("pairs")
    said = r"pairs\.parquet is (damaged|gone): .* Delete file://(\S+) and run the command again"
    with pytest.raises(StoreError, match=said) as caught:
        store.read_table(pairs)
    assert not pairs.exists()
    stamp = Path(str(caught.value).partition("Delete file://")[2].partition(" ")[0])
    stamp.unlink()
    outcomes = run("two")
    assert not outcomes["pairs"].skipped and outcomes["recordings"].skipped
    assert tables_and_tars(shared) == wanted


def test_two_computers_at_once_leave_one_corpus(
    run: Callable[..., Outcomes], tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("alone", root=str(tmp_path / "alone"))
    real, met = objects.Objects.write, list[str]()

    def meeting(self: objects.Objects, name: str, content: bytes) -> None:
        """The other computer does everything just before the first stamps are written."""
        met.append(name)
        if len(met) == 3:
            remote._store.cache_clear()
            run("two")
            roots.bind(tmp_path / "one", f"file://{shared}")
        real(self, name, content)

    monkeypatch.setattr(objects.Objects, "write", meeting)
    run("one")
    assert tables_and_tars(shared) == tables_and_tars(tmp_path / "alone")
    third = run("three")
    assert all(o.skipped for o in third.values())
    remote.need(layout.Corpus(tmp_path / "three").shards)


def test_a_sample_archive_is_written_on_a_second_computer_only_for_a_step_that_reads_it(
    tmp_path: Path, shared: Path, settings: Callable[..., Settings], icbhi: Any
) -> None:
    from pipeline.steps import archive, recordings

    def on(name: str, **more: object) -> tuple[store.Outcome, store.Outcome]:
        at = settings(data_root=f"file://{shared}", work_folder=tmp_path / name,
                      datasets="icbhi", sample_scale=0.1, **more)  # fmt: skip
        return archive.obtain(icbhi, at), recordings.prepare(icbhi, at, lambda _: None)

    on("one")
    wanted = tables_and_tars(shared)
    assert all(o.skipped for o in on("two"))
    assert not (tmp_path / "two/icbhi/archive").exists()
    (shared / "stamps/icbhi/recordings.json").unlink()
    obtained, prepared = on("three")
    assert obtained.skipped and not prepared.skipped
    assert digest(tmp_path / "three/icbhi/archive") == digest(tmp_path / "one/icbhi/archive")
    assert tables_and_tars(shared) == wanted


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gs://bucket/x", r"needs a driver .*gcsfs for gs://"),
        ("nowhere://bucket/x", r"Protocol not known.*Correct ACULA_DATA_ROOT"),
    ],
)
def test_an_address_that_nothing_reads_is_one_sentence(
    run: Callable[..., Outcomes], url: str, said: str
) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        run("one", root=url)
    assert "\n" not in str(caught.value)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # each server has another address
    with serve(monkeypatch) as server:
        yield server
    s3fs.S3FileSystem.clear_instance_cache()


def test_s3_says_what_is_missing(
    run: Callable[..., Outcomes], s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match=r"s3://nobodys/x: .*no such bucket: create it"):
        run("one", root="s3://nobodys/x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError, match=r"no credentials: set AWS_ACCESS_KEY_ID"):
        run("two", root=f"s3://{BUCKET}/x")


@pytest.mark.slow
def test_an_s3_that_fails_every_tenth_request_ends_with_the_same_bytes(
    run: Callable[..., Outcomes], s3: S3, tmp_path: Path
) -> None:
    run("alone", root=str(tmp_path / "alone"))
    s3.fail_every = 10
    run("one", root=f"s3://{BUCKET}/acula/corpus")
    assert all(o.skipped for o in run("two", root=f"s3://{BUCKET}/acula/corpus").values())
    there = layout.Corpus(tmp_path / "two")
    remote.need(there.shards, there.dataset("icbhi").parts, there.table("pairs"), there.shard_index)
    assert s3.failed > 5
    s3.fail_every = 0
    wanted = tables_and_tars(tmp_path / "alone")
    found = {n.removeprefix("acula/corpus/"): c for n, c in s3.content().items()}
    sent = {n: hashlib.sha256(c).hexdigest() for n, c in found.items() if "stamps/" not in n}
    assert sent == wanted
    assert tables_and_tars(tmp_path / "two").items() <= wanted.items()
    for name, text in found.items():
        if name.startswith("stamps/"):
            place = Path(name.removeprefix("stamps/")).parent
            assert {(place / f).as_posix() for f in json.loads(text)["files"]} <= sent.keys()


STEPS = """
import sys
from pipeline import settings as configuration
from pipeline.manifest import load_all
from pipeline.steps import archive, pairs, parts, recordings, report_table, shards, subjects
parts.RECORDINGS_PER_PART = shards.PAIRS_PER_SHARD = 4
known = {"icbhi": load_all()["icbhi"]}
at = configuration.load()
quiet = lambda _: None
archive.obtain(known["icbhi"], at)
recordings.prepare(known["icbhi"], at, quiet)
report_table.make(known["icbhi"], at)
subjects.decide(at, known)
pairs.join(at)
shards.write(at, known, quiet)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_sends_is_made_whole_by_the_next(
    run: Callable[..., Outcomes],
    s3: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_archive: TinyIcbhi,
) -> None:
    run("alone", root=str(tmp_path / "alone"))
    monkeypatch.setenv("ACULA_DATA_ROOT", f"s3://{BUCKET}/corpus")
    monkeypatch.setenv("ACULA_ARCHIVES", str(tiny_archive.root.parent))
    monkeypatch.setenv("ACULA_DATASETS", "icbhi")
    monkeypatch.setenv("ACULA_WORKERS", "1")
    killed = 0
    # A part of the sound, a table that others read, the last stamp.
    for number, victim in enumerate(("parts/", "pairs.parquet", "stamps/shards.json")):
        monkeypatch.setenv("ACULA_WORK_FOLDER", str(tmp_path / f"work{number // 2}"))
        process = subprocess.Popen([sys.executable, "-c", STEPS], stderr=subprocess.PIPE)

        def kill(method: str, path: str, process: Any = process, victim: str = victim) -> None:
            if method == "PUT" and victim in path:
                process.kill()

        s3.watch = kill
        process.communicate(timeout=300)
        killed += process.returncode == -9
    assert killed == 3
    s3.watch = lambda method, path: None
    subprocess.run([sys.executable, "-c", STEPS], check=True, timeout=300)
    found = {n.removeprefix("corpus/"): c for n, c in s3.content().items() if "stamps/" not in n}
    sent = {n: hashlib.sha256(c).hexdigest() for n, c in found.items()}
    assert sent == tables_and_tars(tmp_path / "alone")
    run("reader", root=f"s3://{BUCKET}/corpus")
    ids = keys(layout.Corpus(tmp_path / "reader").shard_index)
    assert len(ids) == len(set(ids)) == 16
