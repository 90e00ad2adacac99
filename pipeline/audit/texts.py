"""What is wrong with a text whatever it says, and what many texts are like together."""

import re
from collections.abc import Iterator

from pipeline.audit.check import Defect
from pipeline.records import unit_hash

_WORD = re.compile(r"[a-z0-9]+(?:['/.-][a-z0-9]+)*")
# Typographic marks and letters of names are fine; what mends, hides or replaces text is not.
_GARBAGE = re.compile(
    r"[^\x20-\x7e\u00a0-\u024f\u2010-\u2015\u2018-\u201f\u2026\u2032\u2033\u00b0\u2264\u2265]"
    r"|\u00ad|\u00c3.|\u00e2\u20ac|\u00ef\u00bf|&[a-z]+;|\{\{|\}\}|\{%"
    r"|\bNone\b(?! (?:of|was|were|\w+ed|found|heard)\b)|\bnan\b"
)
# Without one of these nothing above is found; looked for first, since it takes a tenth of the time.
_PERHAPS_GARBAGE = ("&", "{", "}", "None", "nan")
_EMPTY = re.compile(r"[\s.,;:!?-]*")
_DANGLING = re.compile(
    r"(?:\b(?:a|an|the|and|or|of|with|at|in|by|is|was|were|about|no|to)|[,:;(-])\s*[.!?]$", re.I
)


def defects(text: str) -> Iterator[Defect]:
    """Empty, cut off, or spoilt."""
    if _EMPTY.fullmatch(text):
        yield Defect("empty", "no words", text)
        return
    if not text.rstrip().endswith((".", "!", "?")):
        yield Defect("truncated", f"ends in {text[-20:]!r}", text)
    elif dangling := _DANGLING.search(text, _last_words(text)):
        yield Defect("truncated", f"ends in {dangling[0]!r}", text)
    if text.count("(") != text.count(")"):
        yield Defect("truncated", "a bracket without its other half", text)
    plain = text.isascii() and text.isprintable()
    if plain and not any(sign in text for sign in _PERHAPS_GARBAGE):
        return
    if garbage := _GARBAGE.search(text):
        yield Defect("garbage", repr(garbage[0]), text)


def _last_words(text: str) -> int:
    """Where the last two words begin, with the space before them."""
    before, *last = text.rsplit(None, 2)
    return len(before) if len(last) == 2 else 0


def words(text: str) -> list[str]:
    """Words in lower case, for length and vocabulary."""
    return _WORD.findall(text.lower())


def fingerprint(text: str) -> int:
    """53 bits that stand for a text: counting distinct texts must not keep them."""
    return int(unit_hash(text) * 2**53)
