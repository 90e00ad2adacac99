"""Publishers' servers, played on this computer with their faults, and their ways of packing."""

import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Behaviour:
    """How a server answers for one path; every field but ``data`` is a fault or a manner.

    Attributes:
        data: The file, or a path to it.
        ranges: Answer Range requests with 206.
        etag: Validator to send; None sends none.
        cut: Close the connection after so many bytes of a body, as often as ``faults`` says.
        status: Answer this status, as often as ``faults`` says.
        headers: Further headers of a faulty answer.
        faults: How many answers are faulty; -1 means all.
        redirect: Answer 302 to this URL.
        length: Send this Content-Length whatever the body is; -1 sends none (chunked).
        pause: Seconds between two packets of 64 kB.
        stall: Seconds without a byte before the connection is closed.
        content_type: Of the body.
    """

    data: bytes | Path = b""
    ranges: bool = True
    etag: str | None = None
    cut: int | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    faults: int = 0
    redirect: str | None = None
    length: int | None = None
    pause: float = 0.0
    stall: float = 0.0
    content_type: str = "application/octet-stream"

    def size(self) -> int:
        return len(self.data) if isinstance(self.data, bytes) else self.data.stat().st_size

    def read(self, start: int, stop: int) -> bytes:
        if isinstance(self.data, bytes):
            return self.data[start:stop]
        with self.data.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed or refused our certificate is what the tests are about."""


@dataclass
class Publisher:
    """A running server: what it offers and what it was asked."""

    base: str
    paths: dict[str, Behaviour] = field(default_factory=dict[str, Behaviour])
    asked: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    sent: int = 0

    def offer(self, path: str, data: bytes | Path = b"", **manners: Any) -> str:
        """Serve something; returns its URL."""
        self.paths[path] = Behaviour(data=data, **manners)
        return f"{self.base}/{path}"


def _handler(publisher: Publisher) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            said = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            publisher.asked.append((path, int(said[1]) if said else 0))
            how = publisher.paths.get(path)
            if how is None:
                self._plain(404, b"<html><title>Not found</title></html>")
            elif how.redirect:
                self.send_response(302)
                self.send_header("Location", how.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif how.status and how.faults:
                how.faults -= 1
                time.sleep(how.stall)
                self._plain(how.status, b"no", how.headers)
            else:
                self._file(how, said)

        def _plain(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _file(self, how: Behaviour, said: re.Match[str] | None) -> None:
            size = how.size()
            condition = self.headers.get("If-Range")
            ranged = bool(said and how.ranges and condition in (None, how.etag))
            start = int(said[1]) if said and ranged else 0
            stop = min(int(said[2]) + 1, size) if said and ranged and said[2] else size
            if ranged and start >= size:
                self._plain(416, b"too far", {"Content-Range": f"bytes */{size}"})
                return
            self.send_response(206 if ranged else 200)
            if ranged:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            if how.etag:
                self.send_header("ETag", how.etag)
            self.send_header("Content-Type", how.content_type)
            if how.length != -1:
                self.send_header("Content-Length", str(how.length or stop - start))
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            cut = None
            if how.cut is not None and how.faults:
                how.faults -= 1
                cut = how.cut
            self._body(how, start, stop, cut)
            if how.stall:
                time.sleep(how.stall)
            self.close_connection |= how.length is not None

        def _body(self, how: Behaviour, start: int, stop: int, cut: int | None) -> None:
            end = stop if cut is None else min(stop, start + cut)
            step = 1 << 16 if how.pause else 1 << 20
            for at in range(start, end, step):
                block = how.read(at, min(end, at + step))
                self.wfile.write(block)
                publisher.sent += len(block)
                if how.pause:
                    time.sleep(how.pause)
            if cut is not None:
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()

    return Handler


@contextmanager
def publisher(context: ssl.SSLContext | None = None) -> Iterator[Publisher]:
    """A server on a free port, with TLS where a context is given."""
    server = _Server(("127.0.0.1", 0), BaseHTTPRequestHandler)
    scheme = "https" if context else "http"
    host = "localhost" if context else "127.0.0.1"
    running = Publisher(f"{scheme}://{host}:{server.server_address[1]}")
    server.RequestHandlerClass = _handler(running)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def tree(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file."""
    return {
        p.relative_to(folder).as_posix(): sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


Offer = Callable[..., str]
