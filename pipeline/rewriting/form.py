"""An answer's form: cleaned, and refused where it cannot be a report. What it says is not read."""

import re
import unicodedata

LONGEST_SOURCE = 4000  # characters; templates write a few hundred
FEWEST_WORDS, MOST_WORDS = 15, 90  # what the prompt asks for

# Why an answer is not used. The key is what tables and counts show.
REFUSALS = {
    "chatter": "it begins with words about the task",
    "cut_off": "it was cut at the longest that is allowed, or has no end",
    "empty": "it is empty",
    "markup": "it has a list, a title or another mark-up",
    "not_ascii": "it has characters beyond ASCII",
    "not_asked": "the report is longer than a model is asked to rewrite",
    "paragraphs": "it has several paragraphs",
    "too_long": "it has too many words",
    "too_short": "it has too few words",
    "unchanged": "it is the report itself",
    "withheld": "the model or its filter would not answer",
}

# What typesetting models write where ASCII has a character for it.
_TYPOGRAPHY = {
    0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2010: "-", 0x2011: "-", 0x2012: "-",
    0x2013: "-", 0x2014: "-", 0x2212: "-", 0x2026: "...", 0x00A0: " ", 0x202F: " ", 0x2009: " ",
}  # fmt: skip
_THINKING = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_CHATTER = re.compile(
    r"(sure|certainly|of course|okay|ok|here is|here's|here are|as an ai|i am|i'm|i can"
    r"|rewritten|the rewritten|report|the report)\b[^.]{0,60}[:!]"
    r"|i (cannot|can't|am sorry)|sorry\b",
    re.IGNORECASE,
)
_MARKS = re.compile(r"[*#`_|~{}\[\]<>\\]|\A[-+] |(?<=\n)\s*([-+]|\d+[.)]) ")


def plain(text: str) -> str:
    """One line without control characters: what is sent, and the form of what is kept."""
    visible = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text)
    return " ".join(visible.split())


def cleaned(text: str) -> str:
    """An answer as a report: reasoning, quotation marks around it and typography are taken off."""
    text = plain(_trimmed(text))
    quoted = len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1]
    return text[1:-1].strip() if quoted else text


def refusal(text: str, finish: str, source: str) -> str | None:
    """Why an answer to a report's text cannot be used, or None.

    Args:
        text: As it came.
        finish: See ``Answer``.
        source: The report's own text.
    """
    if finish == "withheld":
        return "withheld"
    body, said = _trimmed(text), cleaned(text)
    if finish == "length":
        return "cut_off"
    if not said:
        return "empty"
    if re.search(r"\n\s*\n", body):
        return "paragraphs"
    if _CHATTER.match(said):
        return "chatter"
    if any(found.group() not in source for found in _MARKS.finditer(body)):
        return "markup"
    if not said.isascii():
        return "not_ascii"
    words, asked = len(said.split()), len(source.split())
    if words < min(FEWEST_WORDS, asked):  # the strict text of a report may be one short sentence
        return "too_short"
    if words > max(MOST_WORDS, asked):
        return "too_long"
    if said[-1] not in ".!":
        return "cut_off"
    if said == source:
        return "unchanged"
    return None


def _trimmed(text: str) -> str:
    return _THINKING.sub("", text).translate(_TYPOGRAPHY).strip()
