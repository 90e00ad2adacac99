"""Reports in other words by a language model, kept only where the findings stay the same.

Off unless the setting ``rewriter`` names a model. A rewriter is asked once per text and prompt;
what it answered is kept for ever, and whether an answer is used is decided anew each time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipeline.rewriter_address import EndpointAddress, parse
from pipeline.settings import Settings

# A report has two texts; the second leaves out the labels and what gives them away.
REGIMES = ("full", "strict")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model made of one prompt.

    Attributes:
        text: As it came.
        revision: Of the model that answered, as exactly as it is known.
        finish: ``stop``, ``length`` (cut at the longest allowed) or ``withheld`` (by a filter).
    """

    text: str
    revision: str
    finish: str = "stop"


class Rewriter(Protocol):
    """A language model that answers prompts.

    Attributes:
        name: URL and model, Hub id, or a folder's name.
        revision: Commit or hash of the weights; ``as served`` where only answers tell.
        options: What decides the decoding. Equal (name, revision, options) count as one model:
            a prompt that it answered is not asked again.
    """

    name: str
    revision: str
    options: Mapping[str, Any]

    def rewrite(self, prompts: Sequence[str]) -> Iterator[tuple[int, Answer]]:
        """Answers, each with the index of its prompt, as they are finished.

        An iterator, not a list: each answer can be written down before the next one is there.

        Raises:
            RewriteError: A prompt could not be answered; those already answered were yielded.
        """
        ...


MEANINGS = {
    "bad_cache": "the file of answers cannot be read or written",
    "bad_request": "the endpoint does not accept the request. Its words say why; a model that "
    "refuses temperature 0 or max_tokens cannot be used, since rewrites must be repeatable",
    "cut": "the connection broke again and again",
    "forbidden": "the endpoint refuses access: the key is missing, wrong or has no right to "
    "this model. ACULA_REWRITER_KEY_VARIABLE names the variable that holds the key",
    "garbled": "the endpoint's answers are no JSON as OpenAI's protocol has it",
    "html_page": "there is a web page at this URL, no endpoint. It usually ends in /v1",
    "lost": "the answer that a report was made from is not in the file of answers",
    "moved": "the endpoint redirects; name the new URL, since keys are not sent elsewhere",
    "no_credit": "the account behind the key has no credit left",
    "no_key": "the variable that should hold the key is not set",
    "no_such_model": "the endpoint has no such model, or no /chat/completions at this URL",
    "other_model": "the folder holds another model than the one asked for",
    "plain_http": "a key is sent over https or to this computer only",
    "server_error": "the server failed again and again",
    "stopped": "rewriting was stopped",
    "too_long": "the answer is far longer than any report",
    "too_many_requests": "the server asks to wait longer than this run may; lower "
    "ACULA_REWRITES_PER_MINUTE",
    "too_slow": "no answer came in time",
    "unreachable": "the endpoint cannot be reached",
}


class RewriteError(ValueError):
    """A rewriter that cannot be used or does not answer: ``code`` is one of MEANINGS.

    Nothing that was answered before is lost: the same command goes on from there.

    Args:
        code: Why.
        what: Model, file or URL that it is about.
        detail: What was seen.
        wait: Seconds that the server asked to wait, if it did.
    """

    def __init__(self, code: str, what: str, detail: str = "", wait: float | None = None) -> None:
        super().__init__(f"{what}: {MEANINGS[code]}" + (f" ({detail})" if detail else ""))
        self.code, self.what, self.detail, self.wait = code, what, detail, wait


def build(settings: Settings) -> Rewriter | None:
    """The rewriter that the settings name; None when rewriting is off, and nothing is imported.

    Raises:
        RewriteError: The key's variable is not set, or a folder holds another model.
        HubError: The Hub has no such model, guards it, or cannot be reached.
    """
    address = parse(settings.rewriter)
    if address is None:
        return None
    if isinstance(address, EndpointAddress):
        from pipeline.rewriting import endpoint

        return endpoint.build(address, settings.rewriter_key_variable, settings.rewrites_per_minute)
    from pipeline.rewriting import local

    return local.build(address)


def answers_in(data_root: Path) -> Path:
    """Where the answers of all models are kept."""
    return data_root / "rewrites" / "answers.sqlite"
