"""An endpoint of OpenAI's chat protocol, with the faults that such servers have."""

import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "small-writer"


@dataclass(kw_only=True)
class Reply:
    """One reply; ``said`` is the model's text, ``body`` takes the place of the whole JSON.

    Attributes:
        cut: Close the connection in the middle of the body.
        stall: Wait for ``Chat.released`` first.
    """

    said: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    kind: str = "application/json"
    finish: str = "stop"
    cut: bool = False
    stall: bool = False


@dataclass
class Chat:
    """A running server: what it says, and what it was asked.

    Attributes:
        url: Ends in /v1.
        write: A report -> the model's text.
        queue: Replies that come before any of ``write``.
        seen: Called for each request.
        asked: How often each report came in.
        requests: Headers and body of each.
    """

    url: str
    write: Callable[[str], str]
    queue: deque[Reply] = field(default_factory=deque[Reply])
    seen: Callable[[], None] = lambda: None
    asked: Counter[str] = field(default_factory=Counter[str])
    requests: list[tuple[dict[str, str], Any]] = field(default_factory=list[Any])
    released: threading.Event = field(default_factory=threading.Event)
    under_way: int = 0
    most_under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply_to(self, headers: dict[str, str], body: dict[str, Any]) -> Reply:
        report = body["messages"][0]["content"].split("-----")[1].strip()
        with self.lock:
            self.seen()
            self.asked[report] += 1
            self.requests.append((headers, body))
            return self.queue.popleft() if self.queue else Reply(said=self.write(report))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is what a test is about."""


def _handler(chat: Chat) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None: ...

        def do_POST(self) -> None:
            with chat.lock:
                chat.under_way += 1
                chat.most_under_way = max(chat.most_under_way, chat.under_way)
            try:
                self._reply()
            finally:
                with chat.lock:
                    chat.under_way -= 1

        def _reply(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                reply = Reply(status=404, body=b"<html>no</html>", kind="text/html")
            else:
                reply = chat.reply_to(dict(self.headers), body)
            if reply.stall:
                chat.released.wait(20)
            message = {"role": "assistant", "content": reply.said}
            content = reply.body
            if content is None:
                choice = {"index": 0, "message": message, "finish_reason": reply.finish}
                said = {"model": f"{MODEL}-2026", "system_fingerprint": "fp1", "choices": [choice]}
                content = json.dumps(said).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if reply.cut else content)
            self.close_connection = reply.cut

    return Handler


@contextmanager
def served(write: Callable[[str], str]) -> Iterator[Chat]:
    """A running endpoint on a free port."""
    chat = Chat("", write)
    server = _Server(("127.0.0.1", 0), _handler(chat))
    chat.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield chat
    finally:
        chat.released.set()
        server.shutdown()
        server.server_close()
