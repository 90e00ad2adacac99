"""Downloads: resumed, verified, and every fault of a server explained with what to do."""

import hashlib
import json
import random
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from publishers import Publisher, publisher

from pipeline.fetch import download as module
from pipeline.fetch import journal, remote, transfer, volumes
from pipeline.fetch.download import Got, Want, download, git_blob
from pipeline.fetch.errors import MEANINGS, FetchError
from pipeline.fetch.meter import Meter
from pipeline.fetch.volumes import RemoteVolume, Volumes
from pipeline.sources import RemoteFile

DATA = random.Random(1).randbytes(3 << 20)
ZIP = b"PK\x03\x04" + DATA
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server() -> Iterator[Publisher]:
    with publisher() as running:
        yield running


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "BLOCK", 256 << 10)


def want(tmp_path: Path, *urls: str, name: str = "a.bin", **known: Any) -> Want:
    locked = known.pop("locked", None)
    file = RemoteFile.model_validate({"name": name, "urls": urls, **known})
    return Want(file=file, urls=urls, target=tmp_path / name, locked=locked)


class Waits(list[float]):
    """Stands in for sleeping and remembers how long."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def fails(code: str, wanted: Want, *said: str, waits: Waits | None = None) -> FetchError:
    """The download fails for this reason, says what to do, and leaves no finished file."""
    with pytest.raises(FetchError) as caught:
        download(wanted, wait=waits if waits is not None else Waits())
    assert caught.value.code == code, caught.value
    for words in (*said, MEANINGS[code][:20]):
        assert words in str(caught.value)
    assert not wanted.target.exists()
    return caught.value


def interrupted(wanted: Want) -> int:
    """Begin a download that is stopped where the server cuts it; returns the bytes on disk."""

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(wanted, wait=stop)
    return wanted.target.with_name(f"{wanted.target.name}.part").stat().st_size


def test_a_file_is_fetched_once(tmp_path: Path, server: Publisher) -> None:
    url = server.offer("a.bin", DATA)
    counted: list[int] = []
    got = download(want(tmp_path, url, bytes=len(DATA), sha256=SHA256), counted.append)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert (got.sha256, got.bytes, got.url) == (SHA256, len(DATA), url)
    assert sum(counted) == len(DATA)
    again = download(want(tmp_path, url, bytes=len(DATA), sha256=SHA256))
    assert again == got and len(server.asked) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "a.bin.got.json"]


def test_a_cut_is_resumed_where_it_happened(tmp_path: Path, server: Publisher) -> None:
    url = server.offer("a.bin", DATA, cut=1_000_000, faults=2)
    download(want(tmp_path, url, sha256=SHA256), wait=Waits())
    assert [start for _, start in server.asked] == [0, 1_000_000, 2_000_000]
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_a_server_without_ranges_starts_over(tmp_path: Path, server: Publisher) -> None:
    url = server.offer("a.bin", DATA, ranges=False, cut=1_000_000, faults=1)
    counted: list[int] = []
    download(want(tmp_path, url, sha256=SHA256), counted.append, wait=Waits())
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert sum(counted) == len(DATA), "what is fetched again is not counted twice"


def test_without_a_checksum_bytes_of_two_versions_never_meet(
    tmp_path: Path, server: Publisher
) -> None:
    url = server.offer("a.bin", DATA, etag='"1"', cut=1_000_000, faults=1)
    interrupted(want(tmp_path, url))
    other = DATA[::-1]
    server.offer("a.bin", other, etag='"2"')
    download(want(tmp_path, url))
    assert (tmp_path / "a.bin").read_bytes() == other


def test_a_weak_validator_is_compared_here(tmp_path: Path, server: Publisher) -> None:
    """A server cannot be asked to compare it, and sends the rest of the other version."""
    url = server.offer("a.bin", DATA, etag='W/"1"', cut=1_000_000, faults=1)
    interrupted(want(tmp_path, url))
    server.offer("a.bin", DATA[::-1], etag='W/"2"')
    download(want(tmp_path, url), wait=Waits())
    assert (tmp_path / "a.bin").read_bytes() == DATA[::-1]


@pytest.mark.parametrize("checked", [True, False])
def test_a_second_source_goes_on_only_where_a_checksum_will_tell(
    tmp_path: Path, server: Publisher, checked: bool
) -> None:
    first = server.offer("first", DATA, cut=1_000_000, faults=1)
    second = server.offer("second", DATA)
    wanted = want(tmp_path, first, second, **({"sha256": SHA256} if checked else {}))
    interrupted(wanted)
    server.offer("first", status=404, faults=-1)
    assert download(wanted).url == second
    assert server.asked[-1] == ("second", 1_000_000 if checked else 0)
    assert wanted.target.read_bytes() == DATA


def test_bytes_of_a_bad_source_do_not_spoil_a_good_one(tmp_path: Path, server: Publisher) -> None:
    bad = server.offer("bad", DATA[::-1], cut=1_000_000, faults=1)
    good = server.offer("good", DATA)
    wanted = want(tmp_path, bad, sha256=SHA256)
    interrupted(wanted)
    download(want(tmp_path, good, sha256=SHA256))
    assert [s for p, s in server.asked if p == "good"] == [1_000_000, 0]
    assert wanted.target.read_bytes() == DATA


def test_a_reboot_costs_only_what_the_disk_had_not_stored(
    tmp_path: Path, server: Publisher
) -> None:
    url = server.offer("a.bin", DATA, cut=2_000_000, faults=1)
    wanted = want(tmp_path, url, sha256=SHA256)
    interrupted(wanted)
    part = tmp_path / "a.bin.part"
    with part.open("r+b") as file:  # the tail was never written: the file system gives zeros
        file.seek(1_300_000)
        file.write(bytes(part.stat().st_size - 1_300_000))
    download(wanted)
    resumed = server.asked[-1][1]
    assert 1_300_000 - remote.BLOCK <= resumed <= 1_300_000
    assert wanted.target.read_bytes() == DATA


def test_a_damaged_log_is_no_danger(tmp_path: Path, server: Publisher) -> None:
    url = server.offer("a.bin", DATA, cut=2_000_000, faults=1)
    wanted = want(tmp_path, url, sha256=SHA256)
    for text in ("", "{", "{}\n12", "{}\n99999999 aa\nnot a line\n"):
        server.paths["a.bin"].faults = 1
        interrupted(wanted)
        (tmp_path / "a.bin.part.log").write_text(text)
    download(wanted)
    assert wanted.target.read_bytes() == DATA


def test_patience_grows_and_a_stated_wait_is_kept(tmp_path: Path, server: Publisher) -> None:
    waits = Waits()
    url = server.offer("a", DATA, status=503, faults=3)
    told: list[str] = []
    download(want(tmp_path, url), wait=waits, tell=told.append)
    assert len(told) == 3 and "HTTP 503; again in " in told[0]
    assert len(waits) == 3 and waits == sorted(waits) and waits[2] > 2 * waits[0]
    for said, least in (("7", 7.0), (_http_date(30), 25.0)):
        waits = Waits()
        server.offer("a", DATA, status=429, faults=1, headers={"Retry-After": said})
        (tmp_path / "a.bin").unlink()
        (tmp_path / "a.bin.got.json").unlink()
        download(want(tmp_path, url), wait=waits)
        assert len(waits) == 1 and least <= waits[0] <= least * 1.3 + 1


def _http_date(seconds: int) -> str:
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")


@pytest.mark.parametrize(
    ("manners", "code", "said"),
    [
        ({"status": 403, "faults": -1}, "forbidden", "HTTP 403"),
        ({"status": 404, "faults": -1}, "not_found", "HTTP 404"),
        ({"status": 500, "faults": -1}, "server_error", "HTTP 500"),
        ({"status": 429, "faults": -1}, "too_many_requests", "HTTP 429"),
        (
            {"status": 429, "faults": -1, "headers": {"Retry-After": "86400"}},
            "too_many_requests",
            "asks to wait longer",
        ),
        ({"cut": 0, "faults": -1}, "cut", "goes on"),
        (
            {"data": b"<!DOCTYPE html><title>Sign in</title>", "content_type": "text/html"},
            "html_page",
            "Sign in",
        ),
        ({"data": b"\n <html><body>sorry"}, "html_page", "web page"),
        (
            {"data": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"},
            "lfs_pointer",
            "git lfs pull",
        ),
        ({"data": b"Rar!" + DATA}, "wrong_format", "Rar!"),
        ({"data": ZIP[:-1]}, "size_mismatch", f"expected {len(ZIP)}"),
        ({"data": ZIP[:-1] + b"x"}, "hash_mismatch", "sha256"),
        ({"data": ZIP[:1000], "length": len(ZIP)}, "cut", "goes on"),
        ({"data": ZIP[:1000], "length": len(ZIP), "stall": 1.0}, "cut", "timed out"),
    ],
)
def test_each_fault_is_explained(
    tmp_path: Path,
    server: Publisher,
    monkeypatch: pytest.MonkeyPatch,
    manners: dict[str, Any],
    code: str,
    said: str,
) -> None:
    monkeypatch.setattr(remote, "TIMEOUT", (1, 0.2))
    good = hashlib.sha256(ZIP).hexdigest()
    url = server.offer("a.zip", **{"data": ZIP, **manners})
    wanted = want(tmp_path, url, name="a.zip", bytes=len(ZIP), sha256=good)
    error = fails(code, wanted, said)
    assert url in str(error) or "a.zip" in str(error)
    server.offer("a.zip", ZIP)
    download(wanted)  # nothing that is left behind stands in the way
    assert wanted.target.read_bytes() == ZIP


def test_md5_and_git_names_are_held_against_the_bytes(tmp_path: Path, server: Publisher) -> None:
    url = server.offer("a.bin", b"hello\n")
    # what `git hash-object` and md5sum say of these six bytes
    blob, md5 = "ce013625030ba8dba906f756967f9e9ca394464a", "b1946ac92492d2347c6235b4d2611184"
    download(want(tmp_path, url, git=blob, md5=md5))
    assert git_blob(tmp_path / "a.bin") == blob
    for wrong in ({"git": "0" * 40}, {"md5": "0" * 32}):
        fails("hash_mismatch", want(tmp_path / "b", url, **wrong), next(iter(wrong)))


def test_a_change_upstream_is_an_error(tmp_path: Path, server: Publisher) -> None:
    url = server.offer("a.bin", DATA[::-1])
    fails("changed_upstream", want(tmp_path, url, locked=(len(DATA), SHA256)), "lock file")
    server.offer("a.bin", DATA[:-1])
    fails("changed_upstream", want(tmp_path, url, locked=(len(DATA), SHA256)), "first")


def test_a_file_put_there_by_hand_is_verified(tmp_path: Path, server: Publisher) -> None:
    wanted = want(tmp_path, f"{server.base}/a.bin", bytes=len(DATA), sha256=SHA256)
    wanted.target.write_bytes(DATA)
    assert download(wanted).url == "put here by hand" and not server.asked
    (tmp_path / "a.bin.got.json").unlink()
    wanted.target.write_bytes(DATA[::-1])
    with pytest.raises(FetchError, match="not the published ones"):
        download(wanted)
    assert wanted.target.exists(), "a person's file is theirs to remove"


def test_a_damaged_file_is_noticed_and_a_new_checksum_too(
    tmp_path: Path, server: Publisher
) -> None:
    url = server.offer("a.bin", DATA)
    download(want(tmp_path, url))
    server.offer("a.bin", DATA[::-1])
    other = hashlib.sha256(DATA[::-1]).hexdigest()
    download(want(tmp_path, url, sha256=other))
    assert (tmp_path / "a.bin").read_bytes() == DATA[::-1]


@pytest.mark.parametrize("kind", ["md5", "git"])
def test_a_kept_file_is_held_against_a_changed_checksum(
    tmp_path: Path, server: Publisher, kind: str
) -> None:
    def known(data: bytes) -> dict[str, str]:
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return {kind: blob if kind == "git" else hashlib.md5(data).hexdigest()}

    for data in (b"one", b"two", b"two"):
        download(want(tmp_path, server.offer("a.bin", data), **known(data)))
        assert (tmp_path / "a.bin").read_bytes() == data
    assert len(server.asked) == 2


def test_a_record_that_a_reboot_left_empty_is_made_anew(tmp_path: Path, server: Publisher) -> None:
    wanted = want(tmp_path, server.offer("a.bin", DATA), sha256=SHA256)
    download(wanted)
    (tmp_path / "a.bin.got.json").write_text("")
    assert download(wanted).sha256 == SHA256 and len(server.asked) == 1


def test_room_is_asked_for_before_the_first_byte(
    tmp_path: Path, server: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.offer("a.bin", DATA)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    fails("disk_full", want(tmp_path, url, sha256=SHA256), "ACULA_DATA_ROOT")
    assert not list(tmp_path.glob("*.part"))


def test_a_redirect_to_another_port_is_followed_and_resumed(
    tmp_path: Path, server: Publisher
) -> None:
    with publisher() as storage:
        signed = storage.offer("signed?token=1", DATA, cut=1_000_000, faults=1)
        url = server.offer("api/file_downloaded", redirect=signed)
        got = download(want(tmp_path, url, sha256=SHA256), wait=Waits())
        assert got.url == url, "what is recorded is the lasting address"
        assert [s for _, s in storage.asked] == [0, 1_000_000]
        assert len(server.asked) == 2, "a signed address expires: it is asked for anew"
    assert (tmp_path / "a.bin").read_bytes() == DATA


def _tls(authority: trustme.CA, **validity: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", **validity).configure_cert(context)
    return context


def test_certificates_are_checked_and_another_source_is_used(
    tmp_path: Path, server: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    pem = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(pem))
    expired = _tls(authority, not_after=datetime.now(UTC) - timedelta(days=1))
    with publisher(expired) as old, publisher(_tls(authority)) as good:
        strange = good.offer("a.bin", DATA)
        fails("certificate", want(tmp_path, strange), "never ignored")  # unknown authority
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
        fails("certificate", want(tmp_path, old.offer("a.bin", DATA)), "expired")
        got = download(want(tmp_path, f"{old.base}/a.bin", strange, sha256=SHA256))
        assert got.url == strange


def test_all_sources_failing_names_each(tmp_path: Path, server: Publisher) -> None:
    gone = f"{server.base}/gone"
    page = server.offer("page", b"<html>", content_type="text/html")
    closed = "http://127.0.0.1:1/a"
    error = fails("unreachable", want(tmp_path, gone, page, closed), "no source has it")
    for words in (gone, "not_found", "page", "html_page", closed, "unreachable"):
        assert words in str(error)


def test_folders_and_other_urls_are_sources(tmp_path: Path) -> None:
    import fsspec

    (tmp_path / "there").mkdir()
    local = tmp_path / "there" / "a.bin"
    local.write_bytes(DATA)
    fsspec.filesystem("memory").pipe("/mirror/a.bin", DATA)
    for number, url in enumerate((str(local), local.as_uri(), "memory://mirror/a.bin")):
        wanted = want(tmp_path / str(number), url, sha256=SHA256)
        assert download(wanted).url == url
    fails("not_found", want(tmp_path, str(tmp_path / "nowhere" / "a.bin")))
    fails("no_driver", want(tmp_path, "gopher://example.org/a.bin"), "gopher")


def test_a_mirror_that_cannot_be_read_is_said_and_passed_over(
    tmp_path: Path, server: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.local import LocalFileOpener

    def broken(*_: Any) -> bytes:
        raise OSError(5, "Input/output error")

    (tmp_path / "mirror.bin").write_bytes(DATA)
    monkeypatch.setattr(LocalFileOpener, "read", broken)
    url, told = server.offer("a.bin", DATA), list[str]()
    wanted = want(tmp_path, "gopher://host/a.bin", str(tmp_path / "mirror.bin"), url)
    assert download(wanted, wait=Waits(), tell=told.append).url == url
    assert "no driver" in told[0] and "Input/output error" in told[-1]
    assert "too little room" not in "".join(told)


def test_credentials_of_a_mirror_are_neither_kept_nor_printed(
    tmp_path: Path, server: Publisher
) -> None:
    server.offer("a@b.bin", DATA)
    url = f"{server.base}/a@b.bin"
    with_key = url.replace("://", "://me:secret@")
    assert download(want(tmp_path, with_key)).url == url
    assert "secret" not in (tmp_path / "a.bin.got.json").read_text()
    error = fails("not_found", want(tmp_path / "b", with_key + "c"))
    assert "secret" not in f"{error} {error.what}"


def test_a_resumed_copy_from_a_folder(tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(DATA)
    wanted = want(tmp_path / "b", str(source), sha256=SHA256)

    def stop(count: int) -> None:
        if count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(wanted, stop)
    begun = (tmp_path / "b" / "a.bin.part").stat().st_size
    counted: list[int] = []
    download(wanted, counted.append)
    assert counted[0] == begun > 0 and wanted.target.read_bytes() == DATA


def test_several_at_a_time_within_a_limit(tmp_path: Path, server: Publisher) -> None:
    wants = [
        want(tmp_path, server.offer(f"{n}", bytes([n]) * 200_000, pause=0.01), name=f"{n}.bin")
        for n in range(12)
    ]
    got = transfer.fetch(wants, lambda _: None, at_once=4)
    assert [g.name for g in got] == [w.file.name for w in wants]
    assert all(w.target.read_bytes() == bytes([n]) * 200_000 for n, w in enumerate(wants))


def test_a_failure_stops_the_others_and_is_the_one_reported(
    tmp_path: Path, server: Publisher
) -> None:
    slow = [
        want(tmp_path, server.offer(f"{n}", DATA, pause=0.05), name=f"{n}.bin", sha256=SHA256)
        for n in range(3)
    ]
    gone = want(tmp_path, server.offer("gone", status=404, faults=-1), name="gone.bin")
    with pytest.raises(FetchError) as caught:
        transfer.fetch([*slow, gone], lambda _: None, at_once=4)
    assert caught.value.code == "not_found"
    assert not any(w.target.exists() for w in slow)
    for w in slow:
        server.paths[w.target.stem].pause = 0
    transfer.fetch(slow, lambda _: None)
    assert {start for _, start in server.asked[-3:]} != {0}, "they go on where they stopped"


def test_an_interrupt_reaches_every_thread(
    tmp_path: Path, server: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        while len(server.asked) < 2:
            time.sleep(0.01)
        raise KeyboardInterrupt

    wants = [
        want(tmp_path, server.offer(f"{n}", DATA, pause=0.1), name=f"{n}.bin", sha256=SHA256)
        for n in range(2)
    ]
    monkeypatch.setattr(transfer, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        transfer.fetch(wants, lambda _: None)
    assert all(w.target.with_name(f"{w.target.name}.part").stat().st_size for w in wants)
    assert not any(w.target.exists() for w in wants), "they stop where they are"


def test_a_range_is_asked_for_again_when_the_server_says(
    server: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = Waits()
    monkeypatch.setattr(volumes, "time", SimpleNamespace(sleep=waits))
    volume = RemoteVolume(server.offer("v", DATA))
    busy: dict[str, Any] = {"status": 429, "headers": {"Retry-After": "60"}}
    server.offer("v", DATA, faults=2, **busy)
    assert volume.read_at(5, 10) == DATA[5:15] and waits == [60, 60]
    server.offer("v", DATA, faults=-1, **busy)
    with pytest.raises(FetchError, match="asks to wait"):
        volume.read_at(5, 10)


def test_ranges_of_volumes_that_lie_on_a_server(server: Publisher) -> None:
    pieces = [DATA[:1_000_000], DATA[1_000_000:1_000_001], DATA[1_000_001:]]
    joined = Volumes([RemoteVolume(server.offer(f"v{n}", p)) for n, p in enumerate(pieces)])
    assert joined.size == len(DATA)
    draw = random.Random(2)
    for _ in range(40):
        at, count = draw.randrange(len(DATA)), draw.randrange(300_000)
        assert joined.read_at(at, count) == DATA[at : at + count]
    with pytest.raises(FetchError, match="does not send parts"):
        RemoteVolume(server.offer("plain", DATA, ranges=False))
    server.paths["v2"].ranges = False
    with pytest.raises(FetchError, match="does not send parts"):
        joined.read_at(2_000_000, 10)


def test_progress_tells_rate_and_time_left() -> None:
    lines: list[str] = []
    meter = Meter("icbhi", 1000, lambda m: lines.append(m.line), interval=0)
    meter.add(250)
    assert lines and lines[0].startswith("icbhi: 250 bytes of 1 kB (25 %), ")
    meter._marks.clear()
    meter._marks.append((time.monotonic() - 10, 0))
    assert "25 bytes/s, 30 s left" in meter.line
    assert Meter("a", None, print).line.startswith("a: 0 bytes, ")


def test_the_record_is_json_of_what_was_got(tmp_path: Path, server: Publisher) -> None:
    got = download(want(tmp_path, server.offer("a.bin", DATA)))
    note = json.loads((tmp_path / "a.bin.got.json").read_text())
    assert note.pop("mtime_ns") == (tmp_path / "a.bin").stat().st_mtime_ns
    assert Got(**note) == got and got.bytes == len(DATA)


def test_a_mirror_with_another_file_does_not_cost_what_the_publisher_sent(
    tmp_path: Path, server: Publisher
) -> None:
    good = server.offer("good", DATA, cut=1_000_000, faults=1)
    other = server.offer("other", DATA[:-1])
    interrupted(want(tmp_path, good, bytes=len(DATA), sha256=SHA256))
    download(want(tmp_path, other, good, bytes=len(DATA), sha256=SHA256), wait=Waits())
    assert [s for p, s in server.asked if p == "good"] == [0, 1_000_000]
