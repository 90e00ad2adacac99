"""A Hugging Face Hub of folders on this computer: enough of its answers for downloads."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GATED = "clinic/gated"


@contextmanager
def serve(repositories: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Serve folders as repositories with one commit, on branch main; yields address and requests.

    ``GATED`` answers as a repository whose terms have not been accepted.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def _answer(self, body: bool) -> None:
            path = unquote(self.path.partition("?")[0]).removeprefix("/")
            asked.append(f"{self.command} {path}")
            api = path.startswith("api/models/")
            repo = "/".join(path.removeprefix("api/models/").split("/")[:2])
            if repo == GATED:
                self._send(403, b"", {"X-Error-Code": "GatedRepo"})
            elif repo not in repositories:
                self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
            elif api:
                self._api(repositories[repo], repo, path)
            else:
                self._file(repositories[repo], path, body)

        def _api(self, folder: Path, repo: str, path: str) -> None:
            files = sorted(p for p in folder.rglob("*") if p.is_file())
            names = [(p.relative_to(folder).as_posix(), p) for p in files]
            if "/tree/" in path:
                found: object = [
                    {"type": "file", "path": n, "size": p.stat().st_size, "oid": _etag(p)}
                    for n, p in names
                ]
            else:
                siblings = [{"rfilename": n} for n, _ in names]
                found = {"id": repo, "sha": COMMIT, "siblings": siblings}
            headers = {"Content-Type": "application/json", "X-Repo-Commit": COMMIT}
            self._send(200, json.dumps(found).encode(), headers)

        def _file(self, folder: Path, path: str, body: bool) -> None:
            _, _, _, revision, *rest = path.split("/")
            file = folder.joinpath(*rest)
            commit = {"X-Repo-Commit": COMMIT}
            if revision not in ("main", COMMIT):
                self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            elif not file.is_file():
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"} | commit)
            else:
                self._send(200, file.read_bytes(), {"ETag": f'"{_etag(file)}"'} | commit, body)

        def _send(
            self, status: int, content: bytes, headers: dict[str, str], body: bool = True
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body and self.command == "GET":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
