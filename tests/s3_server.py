"""An S3 server of this computer, in its own threads, which can be told to fail."""

import itertools
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
import requests
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "acula"


class _Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *arguments: object) -> None:
        """Say nothing."""


@dataclass
class S3:
    """Of one bucket, empty at first.

    Attributes:
        endpoint: Its address.
        fail_every: Each so manieth request fails; 0 for none.
        watch: Is told method and path of each request before it is answered.
        requests: The same, of all that came.
        failed: How many failed on purpose.
    """

    endpoint: str = ""
    fail_every: int = 0
    watch: Callable[[str, str], object] = lambda method, path: None
    requests: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    failed: int = 0

    def __post_init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._count = itertools.count(1)
        self._ways = itertools.cycle(("503 Slow Down", "500 Internal Server Error", "cut", "half"))

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        asked = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append(asked)
        self.watch(*asked)
        if not (self.fail_every and next(self._count) % self.fail_every == 0):
            return self._app(environ, start)
        self.failed += 1
        way = next(self._ways)
        if way == "half":
            return self._half(list(self._app(environ, start)), environ["werkzeug.socket"])
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if way == "cut":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionError(way)
        start(way, [("Content-Type", "application/xml")])
        return [b"<Error><Code>InternalError</Code><Message>on purpose</Message></Error>"]

    def _half(self, answer: list[bytes], connection: socket.socket) -> Iterator[bytes]:
        """The beginning of an answer, after which the connection ends."""
        whole = b"".join(answer)
        yield whole[: len(whole) // 2]
        connection.shutdown(socket.SHUT_RDWR)

    @property
    def client(self) -> Any:
        """Plain boto3, which shares no code with what is tested."""
        return boto3.client("s3", endpoint_url=self.endpoint)

    def content(self, prefix: str = "") -> dict[str, bytes]:
        """Every object below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        keys = [o["Key"] for page in pages for o in page.get("Contents", ())]
        get = self.client.get_object
        return {k: get(Bucket=BUCKET, Key=k)["Body"].read() for k in keys}


@contextmanager
def serve(patch: pytest.MonkeyPatch) -> Iterator[S3]:
    """A server, and an environment whose credentials it takes."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "testing")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3 = S3()
    server = make_server("127.0.0.1", 0, s3, threaded=True, request_handler=_Silent)
    s3.endpoint = f"http://127.0.0.1:{server.server_port}"
    patch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        requests.post(f"{s3.endpoint}/moto-api/reset", timeout=30)  # all servers share one memory
        s3.client.create_bucket(Bucket=BUCKET)
        yield s3
    finally:
        server.shutdown()
        thread.join()
