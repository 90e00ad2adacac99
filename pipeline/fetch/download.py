"""One file from the first of its sources that has it: resumed, hashed as it arrives, verified."""

import hashlib
import json
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from pipeline.fetch import remote, sniff
from pipeline.fetch.errors import TRANSIENT, FetchError, shown
from pipeline.fetch.journal import Journal
from pipeline.sources import RemoteFile

ATTEMPTS = 6  # in a row without a single new byte
LONGEST_WAIT = 600.0  # seconds; a server that asks for more is asked again by a person
_SPARE = 64 << 20  # bytes left free beside what is fetched


@dataclass(frozen=True, kw_only=True)
class Got:
    """A verified file: what lineage says of it."""

    name: str
    bytes: int
    sha256: str
    url: str
    at: str


@dataclass(frozen=True, kw_only=True)
class Want:
    """A file to fetch.

    Attributes:
        file: As the manifest has it; its checksums are the expected ones.
        urls: Sources in the order to try them.
        target: Where it goes.
        locked: Expected sha256 and size of the first download, where nothing is published.
        begins: It begins its format (not so the last volume of a spanned zip).
        patient: A source that fails is tried again, as often and as long as a server may need.
    """

    file: RemoteFile
    urls: Sequence[str]
    target: Path
    locked: tuple[int, str] | None = None
    begins: bool = True
    patient: bool = True

    @property
    def checked(self) -> bool:
        """Something is known that the bytes must agree with."""
        return bool(self.file.sha256 or self.file.md5 or self.file.git or self.locked)


def download(
    want: Want,
    written: Callable[[int], None] = lambda _: None,
    wait: Callable[[float], None] = time.sleep,
    tell: Callable[[str], None] = lambda _: None,
) -> Got:
    """Make ``want.target`` the verified file; goes on where an earlier run stopped.

    A file that is already there with the record of its verification is left as it is; one
    without a record (put there by hand) is hashed and verified.

    Args:
        want: What, from where and to where.
        written: Hears the size of each block that arrived.
        wait: Waits that many seconds between attempts.
        tell: Hears why there is a wait.

    Raises:
        FetchError: No source could give it; says why for each.
    """
    want.target.parent.mkdir(parents=True, exist_ok=True)
    if (known := _already(want)) is not None:
        written(known.bytes)
        return known
    journal = Journal(want.target)
    written(journal.size)
    failures: list[FetchError] = []
    sources = list(want.urls)
    while sources:
        url, resumed = sources.pop(0), journal.size > 0
        try:
            _from(url, want, journal, written, wait, tell)
            return _finish(want, journal, url)
        except FetchError as error:
            if error.code == "disk_full":
                raise
            wrong = error.code in ("hash_mismatch", "changed_upstream", "size_mismatch")
            # Bytes that another source began are kept when this one is refused beforehand.
            if wrong and (not journal.size or journal.source.get("url") == url):
                written(-journal.size)
                journal.forget()
                if resumed:  # the old bytes may be to blame: once more, all from this source
                    sources.insert(0, url)
                    continue
            failures.append(error)
            if sources and error.code != "not_found":
                tell(f"{error}. Trying the next source")
    if len(failures) == 1:
        raise failures[0]
    every = "; ".join(f"{e.what}: {e.code} {e.detail}".strip() for e in failures)
    raise FetchError(failures[-1].code, want.file.name, f"no source has it: {every}")


def _from(
    url: str,
    want: Want,
    journal: Journal,
    written: Callable[[int], None],
    wait: Callable[[float], None],
    tell: Callable[[str], None],
) -> None:
    """Fetch what is missing from one source; transient failures are tried again."""
    attempt, most = 0, journal.size
    while True:
        size = journal.size
        if want.checked and size and size == journal.source.get("total"):
            return  # killed between the last byte and the verification
        try:
            _attempt(url, want, journal, written)
            return
        except FetchError as error:
            # A server that sends the same piece again and again makes no progress.
            attempt = 0 if journal.size > most else attempt + 1
            most = max(most, journal.size)
            patience = error.wait if error.wait is not None else min(60.0, 0.5 * 2**attempt)
            spent = attempt >= (ATTEMPTS if want.patient else 1)
            if error.code not in TRANSIENT or spent or patience > LONGEST_WAIT:
                raise
            tell(f"{want.file.name}: {error.code} {error.detail}; again in {patience:.1f} s")
        wait(patience * (1 + 0.1 * random.random()))  # many clients must not come back at once


def _attempt(url: str, want: Want, journal: Journal, written: Callable[[int], None]) -> None:
    """One request. Bytes of another source or version are kept only if a checksum will tell."""
    same = journal.source.get("url") == url
    if journal.size and not want.checked and not (same and journal.source.get("validator")):
        written(-journal.size)
        journal.forget()
    validator = journal.source.get("validator") if same else None
    timeout = remote.TIMEOUT if want.patient else remote.BRIEF
    with remote.open_at(url, journal.size, validator=validator, timeout=timeout) as stream:
        if journal.size and not same:  # refuse another file before giving up what is here
            _expect_size(url, want, stream.total)
        known = journal.source  # a server may ignore the condition; a weak validator is none
        changed = bool(known) and (
            (stream.total is not None and known.get("total") not in (None, stream.total))
            or (not want.checked and stream.validator != known.get("validator"))
        )
        if stream.start < journal.size or changed:
            written(-journal.size)  # no Range, or another version of the file
            journal.forget()
            if stream.start:
                raise FetchError("cut", url, "the file changed between two requests")
        chunks = stream.chunks
        if stream.start == 0:
            first = next(chunks, b"")
            sniff.check(want.file.name, first[: sniff.HEAD], stream.content_type, want.begins)
            chunks = chain([first], chunks)
        _expect_size(url, want, stream.total)
        _expect_room(want, (stream.total or want.file.bytes or 0) - journal.size)
        source = {"url": url, "validator": stream.validator, "total": stream.total}
        try:
            journal.append(source, chunks, written)
        except OSError as error:
            raise FetchError("disk_full", str(want.target), str(error)) from error
        if stream.total is not None and journal.size < stream.total:
            raise FetchError("cut", url, f"{journal.size} of {stream.total} bytes")
    _expect_size(url, want, journal.size)


def _expect_size(url: str, want: Want, size: int | None) -> None:
    if want.file.bytes is not None and size is not None and size != want.file.bytes:
        raise FetchError("size_mismatch", url, f"{size} bytes, expected {want.file.bytes}")
    if want.locked and size is not None and size != want.locked[0]:
        raise FetchError("changed_upstream", url, f"{size} bytes, first {want.locked[0]}")


def _expect_room(want: Want, needed: int) -> None:
    free = shutil.disk_usage(want.target.parent).free
    if needed + _SPARE > free:
        detail = f"{needed / 1e9:.2f} GB to fetch, {free / 1e9:.2f} GB free"
        raise FetchError("disk_full", str(want.target.parent), detail)


def _finish(want: Want, journal: Journal, url: str) -> Got:
    sha256 = journal.sha256
    _verify(want, journal.part, sha256, url)
    size = journal.size
    journal.finish(want.target)
    return _record(want, size, sha256, url)


def _verify(want: Want, path: Path, sha256: str, where: str) -> None:
    file = want.file
    if file.sha256 and sha256 != file.sha256:
        raise FetchError("hash_mismatch", where, f"sha256 {sha256}, expected {file.sha256}")
    if file.md5 and (md5 := _digest(path, "md5")) != file.md5:
        raise FetchError("hash_mismatch", where, f"md5 {md5}, expected {file.md5}")
    if file.git and (blob := git_blob(path)) != file.git:
        raise FetchError("hash_mismatch", where, f"git blob {blob}, expected {file.git}")
    if want.locked and sha256 != want.locked[1]:
        raise FetchError("changed_upstream", where, f"sha256 {sha256}, first {want.locked[1]}")


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def git_blob(path: Path) -> str:
    """Git's name of a file's content: sha1 of ``blob <size>``, a zero byte and the bytes."""
    hasher = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def _record_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.got.json")


def _record(want: Want, size: int, sha256: str, url: str) -> Got:
    got = Got(
        name=want.file.name,
        bytes=size,
        sha256=sha256,
        url=shown(url),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    path = _record_path(want.target)
    note = asdict(got) | {"mtime_ns": want.target.stat().st_mtime_ns}
    path.with_suffix(".tmp").write_text(json.dumps(note))
    path.with_suffix(".tmp").replace(path)
    return got


def _already(want: Want) -> Got | None:
    """The record of a finished file, once its bytes agree with what is expected today."""
    if not want.target.is_file():
        return None
    stat, path = want.target.stat(), _record_path(want.target)
    text = path.read_text() if path.is_file() else ""  # a reboot may leave an empty one
    known = json.loads(text or "{}")
    unchanged = known.pop("mtime_ns", None) == stat.st_mtime_ns and known["bytes"] == stat.st_size
    sha256 = known["sha256"] if unchanged else _digest(want.target, "sha256")
    try:
        sniff_head(want)
        _expect_size(str(want.target), want, stat.st_size)
        _verify(want, want.target, sha256, str(want.target))
    except FetchError:
        if unchanged:  # what is expected has changed since: fetch anew
            want.target.unlink()
            path.unlink()
            return None
        raise  # a person put it there: theirs to remove
    return Got(**known) if unchanged else _record(want, stat.st_size, sha256, "put here by hand")


def sniff_head(want: Want) -> None:
    """Check the first bytes of a file that is already there."""
    with want.target.open("rb") as file:
        sniff.check(want.file.name, file.read(sniff.HEAD), begins=want.begins)
