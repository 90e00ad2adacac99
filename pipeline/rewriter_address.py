"""``none``, ``https://host/v1#model`` or ``local:model@revision`` -> the model that rewrites."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from acula_model import hub

VALID = (
    "`none`, `https://host/v1#model` (an endpoint that speaks OpenAI's protocol), "
    "`local:owner/name@commit` (a model of the Hugging Face Hub) or `local:/folder`"
)


@dataclass(frozen=True)
class EndpointAddress:
    """A model behind an OpenAI-compatible URL, which ends before ``/chat/completions``."""

    url: str
    model: str


@dataclass(frozen=True)
class LocalAddress:
    """A model of transformers that runs here.

    Attributes:
        model: Folder, or Hub id.
        revision: Of a Hub id: commit, tag or branch. Of a folder: the hash that its content
            must have, or None to take what is there.
    """

    model: str
    revision: str | None = None


def parse(text: str) -> EndpointAddress | LocalAddress | None:
    """What a setting names; None for ``none``.

    Raises:
        ValueError: It names nothing; says what is valid.
    """
    kind, _, rest = text.partition(":")
    if text == "none":
        return None
    if kind in ("http", "https"):
        return _endpoint(text)
    if kind == "local":
        return _local(rest)
    raise ValueError(f"{text!r} is no rewriter; valid: {VALID}")


def _endpoint(text: str) -> EndpointAddress:
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query:  # it is written into tables, so nothing secret
        raise ValueError(
            "a rewriter's URL holds neither a password nor a query; a key is read from the "
            "variable that rewriter_key_variable names"
        )
    if not parts.hostname or not parts.fragment:
        raise ValueError(f"{text!r} lacks a host or, after `#`, a model; valid: {VALID}")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return EndpointAddress(f"{parts.scheme}://{parts.netloc}{path}", parts.fragment)


def _local(text: str) -> LocalAddress:
    if Path(text).is_dir() and text:
        return LocalAddress(text)
    model, _, revision = text.rpartition("@")
    if model and revision and Path(model).is_dir():
        return LocalAddress(model, revision)
    known = hub.parse(text)
    if known is None or known.file:
        raise ValueError(f"`local:{text}` is neither a folder nor a Hub id; valid: {VALID}")
    if known.revision is None:
        raise ValueError(
            f"`local:{text}` needs a revision, since a model on the Hub may change: "
            f"`local:{text}@<commit>`"
        )
    return LocalAddress(known.repo, known.revision)
