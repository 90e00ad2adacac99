"""A URL read from an offset: https by requests, everything else (file, s3, memory) by fsspec."""

import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.fetch.errors import FetchError

BLOCK = 1 << 20
TIMEOUT = (20, 60)  # seconds to connect, and between two packets
BRIEF = (3, 10)  # the same, for what one does well without
_local = threading.local()


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Bytes of a URL from ``start`` to its end.

    Attributes:
        start: Where the bytes begin; 0 although more was asked for when the server has no Range.
        ranged: The source sends parts of a file.
        total: Size of the whole file, if the server says so.
        validator: What the server calls this version of the file (ETag), if it does.
        content_type: As the server has it.
        chunks: The bytes, in blocks of at most ``BLOCK``.
    """

    start: int
    ranged: bool
    total: int | None
    validator: str | None
    content_type: str
    chunks: Iterator[bytes]


@contextmanager
def open_at(
    url: str,
    start: int = 0,
    stop: int | None = None,
    validator: str | None = None,
    timeout: tuple[float, float] | None = None,
) -> Iterator[Stream]:
    """Open a URL at a byte offset.

    Args:
        url: Any that requests or an installed fsspec driver reads.
        start: First byte wanted.
        stop: First byte not wanted any more; None reads to the end.
        validator: ETag of the version that the bytes before ``start`` came from; a changed
            file is then sent whole.
        timeout: Seconds to connect, and between two packets, where they are not ``TIMEOUT``.

    Raises:
        FetchError: The source refuses, fails or cannot be reached.
    """
    web = url.startswith(("http://", "https://"))
    with (
        _web(url, start, stop, validator, timeout or TIMEOUT)
        if web
        else _fsspec(url, start, stop, validator)
    ) as stream:
        yield stream


def _session() -> Any:
    import requests

    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.headers["User-Agent"] = "acula (research data pipeline)"
    return _local.session


@contextmanager
def _web(
    url: str, start: int, stop: int | None, validator: str | None, timeout: tuple[float, float]
) -> Iterator[Stream]:
    import requests
    from urllib3.exceptions import HTTPError

    # Compressed transfer would make sizes and offsets those of another file.
    headers = {"Accept-Encoding": "identity"}
    if start or stop is not None:
        headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        if validator and not validator.startswith("W/"):
            headers["If-Range"] = validator
    try:
        # Redirects are followed anew on each attempt: signed addresses expire.
        response = _session().get(url, headers=headers, stream=True, timeout=timeout)
    except requests.exceptions.SSLError as error:
        raise FetchError("certificate", url, _short(error)) from error
    except requests.exceptions.RequestException as error:
        raise FetchError("unreachable", url, _short(error)) from error
    with closing(response):
        _refuse(url, response)
        begin, total = _extent(url, start, response)

        def chunks() -> Iterator[bytes]:
            if response.status_code == 416:
                return  # its body is a message
            try:
                yield from response.raw.stream(BLOCK, decode_content=False)
            except (HTTPError, OSError) as error:
                raise FetchError("cut", url, _short(error)) from error

        yield Stream(
            start=begin,
            ranged=response.status_code == 206,
            total=total,
            validator=response.headers.get("ETag"),
            content_type=response.headers.get("Content-Type", ""),
            chunks=chunks(),
        )


def _refuse(url: str, response: Any) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        return
    detail = f"HTTP {status}"
    if status in (401, 403, 451):
        raise FetchError("forbidden", url, detail)
    if status in (404, 410):
        raise FetchError("not_found", url, detail)
    code = "too_many_requests" if status == 429 else "server_error"
    raise FetchError(code, url, detail, _wait(response.headers.get("Retry-After")))


def _wait(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for; it holds a number or a date."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    try:
        return None if header is None else Retry().parse_retry_after(header)
    except InvalidHeader:
        return None


def _extent(url: str, start: int, response: Any) -> tuple[int, int | None]:
    """Where the body begins, and the size of the whole file."""
    range_ = re.match(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
    total = int(range_[2]) if range_ and range_[2] != "*" else None
    if response.status_code == 416:  # nothing after ``start``
        return start, total
    if response.status_code == 206:
        if not range_ or int(range_[1] or 0) != start:
            header = response.headers.get("Content-Range")
            raise FetchError("server_error", url, f"asked for byte {start}, was sent {header}")
        return start, total
    length = response.headers.get("Content-Length")
    return 0, int(length) if length else None


def _short(error: Exception) -> str:
    return str(error).rpartition("(Caused by ")[2][:200]


@contextmanager
def _fsspec(url: str, start: int, stop: int | None, validator: str | None) -> Iterator[Stream]:
    import fsspec

    try:
        system, path = fsspec.url_to_fs(url)
        info = system.info(path)
        file = system.open(path, "rb")
    except ImportError as error:
        raise FetchError("no_driver", url, str(error)) from error
    except FileNotFoundError as error:
        raise FetchError("not_found", url) from error
    except ValueError as error:  # an unknown scheme
        raise FetchError("no_driver", url, str(error)) from error
    except PermissionError as error:
        raise FetchError("forbidden", url, _short(error)) from error
    except OSError as error:
        raise FetchError("unreachable", url, _short(error)) from error
    version = str(info.get("ETag") or info.get("mtime") or "") or None
    begin = start if validator in (None, version) else 0

    def chunks() -> Iterator[bytes]:
        left = None if stop is None else stop - begin
        try:
            file.seek(begin)
            while block := file.read(BLOCK if left is None else min(BLOCK, left)):
                left = None if left is None else left - len(block)
                yield block
        except OSError as error:  # of the source: not to be taken for one of this disk
            raise FetchError("cut", url, _short(error)) from error

    with closing(file):
        yield Stream(
            start=begin,
            ranged=True,
            total=info["size"],
            validator=version,
            content_type="",
            chunks=chunks(),
        )
