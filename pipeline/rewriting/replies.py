"""An endpoint's reply as it came over the wire -> an answer, or an error in plain words."""

import json
from typing import Any

from pipeline.rewriting import Answer, RewriteError
from pipeline.rewriting.form import plain

LARGEST = 1 << 18  # bytes of a reply; a report has some hundred
_STATUS = {
    401: "forbidden",
    403: "forbidden",
    402: "no_credit",
    404: "no_such_model",
    408: "too_slow",
    425: "server_error",
    429: "too_many_requests",
}
_FILTERS = ("content_filter", "content_policy_violation")


def read(
    name: str, status: int, kind: str, content: bytes, patience: float | None, moved_to: str
) -> Answer:
    """The answer in a reply.

    Args:
        name: Of the rewriter, for errors.
        status: Of HTTP.
        kind: Content-Type.
        content: The body.
        patience: Seconds that Retry-After asks for.
        moved_to: Location.

    Raises:
        RewriteError: There is none in it.
    """
    text = content.decode("utf-8", "replace")
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError):
        reply = None
    if 300 <= status < 400:
        raise RewriteError("moved", name, plain(moved_to)[:200])
    error: Any = reply.get("error") if isinstance(reply, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    if code in _FILTERS:  # about this text alone
        return Answer(text="", revision="unknown", finish="withheld")
    if status != 200 or error:
        detail = f"HTTP {status}" + (f": {_words(error)}" if error else "")
        if code == "insufficient_quota":  # also says 429, and waiting does not help
            raise RewriteError("no_credit", name, detail)
        transient = status >= 500 or status == 200
        fallback = "server_error" if transient else "bad_request"
        raise RewriteError(_STATUS.get(status, fallback), name, detail, patience)
    if reply is None:
        if "html" in kind.lower() or text.lstrip()[:1] == "<":
            raise RewriteError("html_page", name)
        raise RewriteError("garbled", name, plain(text)[:80])
    return _answer(name, reply)


def _answer(name: str, reply: Any) -> Answer:
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        said, refused = message.get("content"), message.get("refusal")
        finish, served = choice.get("finish_reason"), reply.get("model")
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise RewriteError("garbled", name, plain(str(reply))[:80]) from error
    if not isinstance(said, str | None):
        raise RewriteError("garbled", name, "the content is no text")
    parts = [p for p in (served, reply.get("system_fingerprint")) if isinstance(p, str) and p]
    if finish == "content_filter" or (refused and not said):
        finish = "withheld"
    return Answer(
        # A lone surrogate is valid in JSON and nowhere else.
        text=(said or "").encode("utf-8", "replace").decode(),
        revision=plain("/".join(parts)).encode("utf-8", "replace").decode()[:200] or "unknown",
        finish=finish if finish in ("length", "withheld") else "stop",
    )


def _words(error: Any) -> str:
    """What a server says about its error, short enough for one line."""
    said = error.get("message") if isinstance(error, dict) else error
    return plain(str(said))[:300]
