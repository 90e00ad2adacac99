"""Files at a URL of fsspec: sent and fetched several at a time, each held against its checksum."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from acula_model.counting import Counted
from pipeline.steps import disk

AT_ONCE = 4  # files on their way; s3fs holds those below 100 MB in memory
File = tuple[int, str]  # bytes, sha256
Say = Callable[[str], None]
_DRIVERS = "pip install 'acula[s3]' for s3://, gcsfs for gs://, adlfs for abfs://"
_ADVICE = {
    "NoCredentialsError": "there are no credentials: set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or write them with `aws configure`",
    "FileNotFoundError": "there is no such bucket: create it, or correct ACULA_DATA_ROOT",
    "PermissionError": "this account may not do that: check its credentials and its permission "
    "to list, read, write and delete there",
}
_OTHERWISE = (
    "it cannot be reached: check the address and the network (for servers other than the "
    "provider's own, AWS_ENDPOINT_URL), then run the same command again: what has arrived is kept"
)


class StoreError(OSError):
    """The store cannot be reached or does not hold what it should; says what to do."""


class Objects:
    """What lies below a URL. Names are relative to it, with slashes.

    Raises:
        StoreError: The address is unknown or its driver is not installed.
    """

    def __init__(self, url: str):
        from fsspec.core import url_to_fs

        self.url = url
        options = {"auto_mkdir": True} if url.startswith(("file://", "local://")) else {}
        try:
            fs, base = url_to_fs(url, **options)
        except ImportError as error:
            raise StoreError(f"{url} needs a driver ({error}): {_DRIVERS}") from error
        except ValueError as error:
            raise StoreError(f"{url}: {error}. Correct ACULA_DATA_ROOT") from error
        self._fs: Any = fs
        self._base = f"{base.rstrip('/')}/"

    def find(self, name: str) -> dict[str, dict[str, Any]]:
        """What lies under a name, with what the driver knows of it: a file, or all of a folder."""
        self._fs.invalidate_cache()
        found = self._fs.find(self._base + name, detail=True)
        names = {path.removeprefix(self._base): about for path, about in found.items()}
        return {n: about for n, about in names.items() if within(n, name)}

    def texts(self, names: Sequence[str]) -> dict[str, bytes]:
        """Contents of small objects; without those that are gone since they were found."""
        if not names:
            return {}
        found = self._fs.cat([self._base + n for n in names], on_error="return")
        for content in found.values():
            if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise content
        texts = {n: found[self._base + n] for n in names}
        return {n: text for n, text in texts.items() if isinstance(text, bytes)}

    def write(self, name: str, content: bytes) -> None:
        """One small object."""
        self._fs.pipe_file(self._base + name, content)

    def piece(self, name: str, offset: int, size: int) -> bytes:
        """Bytes from the middle of an object."""
        return self._fs.cat_file(self._base + name, start=offset, end=offset + size)

    def remove(self, names: Sequence[str]) -> None:
        """Delete objects, those that are there."""
        if names:
            self._fs.rm([self._base + n for n in names])

    def send(self, name: str, path: Path, there: dict[str, Any] | None, known: File | None) -> File:
        """Send one file unless it lies there already.

        Args:
            name: Of the object.
            path: Of the file.
            there: What ``find`` knows of the object.
            known: What an earlier run recorded of it when it had arrived.

        Raises:
            StoreError: It did not arrive as it was sent.
        """
        size, sha256, md5 = _hashes(path)
        file = (size, sha256)
        if there and there["size"] == size and (known == file or _etag(there) == md5):
            return file
        self._fs.put_file(str(path), self._base + name)
        arrived = self._fs.info(self._base + name)
        if arrived["size"] == size and _etag(arrived) == md5:
            return file
        with self._fs.open(self._base + name, "rb") as back:  # no ETag, or none that is an MD5
            if hashlib.file_digest(back, "sha256").hexdigest() == sha256:
                return file
        raise StoreError(
            f"{self.url}/{name} did not arrive as it was sent: run the same command again"
        )

    def fetch(self, name: str, path: Path, file: File) -> str:
        """Fetch one file; returns what is wrong with it, or nothing."""
        try:
            self._fs.get_file(self._base + name, str(path))
        except FileNotFoundError:
            return "is gone"
        return "" if same(path, file) else "is damaged"

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of the driver into ``StoreError``."""
        try:
            yield
        except (StoreError, disk.CannotWrite):
            raise
        except Exception as error:  # each driver has kinds of its own
            kind = type(error).__name__
            said = " ".join(str(error).split()) or kind
            advice = _ADVICE.get(kind, _OTHERWISE)
            raise StoreError(f"{self.url}: {said.rstrip('.')}. Probably {advice}") from error


def each(
    work: Callable[[str], Any], names: Sequence[str], say: Say | None, line: str
) -> Iterator[Any]:
    """Do something with files, several at a time; the first error ends it.

    Args:
        work: Is given a name.
        names: Of the files.
        say: Hears how far it is.
        line: What it hears, as ``Counted`` has it.
    """
    counted = Counted(say or (lambda _: None), line, len(names))
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for future in as_completed([pool.submit(work, n) for n in names]):
            yield future.result()
            counted.add()
    finally:
        pool.shutdown(cancel_futures=True)


def within(name: str, top: str) -> bool:
    """Whether a file is ``top``, or lies in the folder of that name."""
    return name == top or name.startswith(f"{top}/")


def same(path: Path, file: File) -> bool:
    """Whether a file on disk has this size and sha256."""
    if path.stat().st_size != file[0]:
        return False
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file[1]


def _etag(about: dict[str, Any]) -> str:
    """S3's is the MD5 of an object that came in one piece and is not encrypted by a key of KMS."""
    return str(about.get("ETag", "")).strip('"')


def _hashes(path: Path) -> tuple[int, str, str]:
    """Bytes, sha256 and MD5 of a file, in one pass."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as content:
        while piece := content.read(1 << 20):
            sha256.update(piece)
            md5.update(piece)
            size += len(piece)
    return size, sha256.hexdigest(), md5.hexdigest()
