"""A model behind any URL that speaks OpenAI's chat protocol: hosted, or a server of one's own."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from pipeline.rewriter_address import EndpointAddress
from pipeline.rewriting import Answer, RewriteError, replies
from pipeline.rewriting.pace import Pace

AT_ONCE = 4  # requests under way
ATTEMPTS = 6
LONGEST_WAIT = 600.0  # seconds; a server that asks for more is asked again by a person
TIMEOUT = (10, 120)  # seconds to connect, and between two packets
LONGEST_ANSWER = 240.0  # seconds until an answer must be complete
# The same question twice has the same answer, as far as the server can do that.
OPTIONS: Mapping[str, Any] = {"temperature": 0, "max_tokens": 400}
_SELF = ("localhost", "127.0.0.1", "::1")
# A later attempt may succeed.
TRANSIENT = frozenset(
    {"cut", "garbled", "server_error", "too_many_requests", "too_slow", "unreachable"}
)


class Endpoint:
    """See ``build``; ``pause`` waits between attempts, and by default ends early on a stop."""

    revision = "as served"  # an endpoint may change a model behind its name; answers say more

    def __init__(
        self,
        address: EndpointAddress,
        key: str | None,
        pace: Pace | None = None,
        at_once: int = AT_ONCE,
        pause: Callable[[float], None] | None = None,
        per_minute: float = 60,
    ):
        self.name = f"{address.url}#{address.model}"
        self.options: Mapping[str, Any] = OPTIONS
        self._address, self._at_once = address, at_once
        self._auth = _Bearer(key)
        self._stop = threading.Event()
        self._pause = pause or self._wait
        self._pace = pace or Pace(per_minute, sleep=self._wait)
        self._local = threading.local()

    def rewrite(self, prompts: Sequence[str]) -> Iterator[tuple[int, Answer]]:
        """Answers as they come, at most ``at_once`` requests under way. See ``Rewriter``."""
        self._stop.clear()
        todo = iter(enumerate(prompts))
        running: dict[Future[Answer], int] = {}
        failure: RewriteError | None = None
        with ThreadPoolExecutor(self._at_once) as pool:
            try:
                while True:
                    while failure is None and len(running) < self._at_once:
                        if (job := next(todo, None)) is None:
                            break
                        running[pool.submit(self._answer, job[1])] = job[0]
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        index = running.pop(future)
                        try:
                            answer = future.result()
                        except RewriteError as error:  # what others have begun is still of use
                            failure = failure or error
                            self._stop.set()
                        else:
                            yield index, answer
            finally:
                self._stop.set()
        if failure:
            raise failure

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise RewriteError("stopped", self.name)

    def _answer(self, prompt: str) -> Answer:
        for attempt in range(1, ATTEMPTS + 1):
            self._pace.take()
            try:
                return self._attempt(prompt)
            except RewriteError as error:
                patience = error.wait
                if error.code not in TRANSIENT or attempt == ATTEMPTS:
                    raise
                if patience is not None and patience > LONGEST_WAIT:
                    raise
            if patience is None:  # some at once must not come back at once
                self._pause(min(60.0, 0.5 * 2**attempt) * (1 + 0.1 * random.random()))
            else:
                self._pace.hold(patience)  # it is meant for all of us
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, prompt: str) -> Answer:
        body = {
            "model": self._address.model,
            "messages": [{"role": "user", "content": prompt}],
            **self.options,
        }
        try:
            response = self._session().post(
                f"{self._address.url}/chat/completions",
                json=body,
                auth=self._auth,
                timeout=TIMEOUT,
                stream=True,
                allow_redirects=False,  # the key is for this server
            )
            with closing(response):
                content = self._content(response)
        except requests.exceptions.ConnectTimeout as error:
            raise RewriteError("unreachable", self.name, _short(error)) from error
        except requests.exceptions.Timeout as error:
            raise RewriteError("too_slow", self.name, _short(error)) from error
        except requests.exceptions.ChunkedEncodingError as error:
            raise RewriteError("cut", self.name, _short(error)) from error
        except requests.exceptions.ConnectionError as error:
            cut = "aborted" in str(error) or "reset" in str(error)
            raise RewriteError("cut" if cut else "unreachable", self.name, _short(error)) from error
        except requests.exceptions.RequestException as error:
            raise RewriteError("server_error", self.name, _short(error)) from error
        kind = response.headers.get("Content-Type", "")
        where = response.headers.get("Location", "")
        patience = _patience(response.headers.get("Retry-After"))
        return replies.read(self.name, response.status_code, kind, content, patience, where)

    def _content(self, response: requests.Response) -> bytes:
        """The body; a server that drips or never ends is not waited for."""
        content, until = b"", time.monotonic() + LONGEST_ANSWER
        for block in response.iter_content(1 << 14):
            content += block
            if len(content) > replies.LARGEST:
                raise RewriteError("too_long", self.name, f"over {replies.LARGEST} bytes")
            if time.monotonic() > until:
                raise RewriteError("too_slow", self.name, f"over {LONGEST_ANSWER:g} s")
        return content

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):  # not meant to be shared between threads
            self._local.session = requests.Session()
            self._local.session.headers["User-Agent"] = "acula (research data pipeline)"
        return self._local.session


class _Bearer(AuthBase):
    """The key. Given as ``auth``, since requests puts a .netrc entry over a header."""

    def __init__(self, key: str | None):
        self._key = key

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            r.headers["Authorization"] = f"Bearer {self._key}"
        return r


def build(address: EndpointAddress, key_variable: str | None, per_minute: float) -> Endpoint:
    """A rewriter behind a URL.

    Args:
        address: URL and model.
        key_variable: Name of the environment variable that holds the key; None sends none.
        per_minute: Requests in a minute, repeated ones included.

    Raises:
        RewriteError: The variable is not set, or the key would go over the network in the clear.
    """
    key = None
    if key_variable is not None:
        key = os.environ.get(key_variable, "").strip()
        if not key:
            raise RewriteError("no_key", address.url, key_variable)
        parts = urlsplit(address.url)
        if parts.scheme == "http" and parts.hostname not in _SELF:
            raise RewriteError("plain_http", address.url)
    return Endpoint(address, key, per_minute=per_minute)


def _patience(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for; it holds a number or a date."""
    try:
        return None if header is None else Retry().parse_retry_after(header)
    except InvalidHeader:
        return None


def _short(error: Exception) -> str:
    return str(error).rpartition("(Caused by ")[2][:200]
