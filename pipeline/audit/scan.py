"""Text -> words in one form, and the longest known phrases among them."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

Role = Literal[
    "word", "topic", "number", "unit", "cue", "stage", "negation", "denial_after", "nothing",
    "unsure", "stop", "joiner", "starter", "verb", "here", "not_here", "elsewhere", "existential",
    "about", "below", "birth", "share", "group", "of", "in", "stranger", "advice", "context",
    "constant", "plain", "end", "mark", "unread",
]  # fmt: skip

_TOKEN = re.compile(r"\d+(?:\.\d+)?(?![a-z0-9/])|[a-z0-9]+(?:[/'][a-z0-9]+)*|[^\s]")
_DASHES = re.compile(r"(?<=\w)[-\u2010-\u2014](?=\w)|\s+[\u2013\u2014]\s+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_IRREGULAR = {
    "wheezing": "wheeze", "rhonchi": "rhonchus", "crackling": "crackle", "diarrhea": "diarrhoea",
    "women": "woman", "men": "man", "children": "child", "diagnoses": "diagnosis",
    "weighs": "weigh", "neonates": "neonate", "valves": "valve", "abnormalities": "abnormality",
    "cavities": "cavity", "babies": "baby", "girls": "girl", "boys": "boy", "an": "a",
    "kgs": "kg", "cms": "cm", "copds": "copd", "anomalies": "anomaly", "pathologies": "pathology",
    "crepitations": "crepitation", "dyspnoea": "dyspnea", "others": "other", "murmurs": "murmur",
}  # fmt: skip
_NOT_PLURAL = """sars was has does this less its his always yes as us is versus pulses"""
_SINGULAR = frozenset(_NOT_PLURAL.split())


@cache
def lemma(word: str) -> str:
    """One form for singular, plural and genitive, the same for manifests and texts."""
    word = word.removesuffix("'s")
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _SINGULAR or len(word) < 4 or word.endswith(("ss", "us", "is")):
        return word
    return word[:-1] if word.endswith("s") else word


def lemmas(text: str) -> tuple[str, ...]:
    """Words and marks of a text; a hyphen is a space."""
    return tuple(lemma(w) for w in _TOKEN.findall(_DASHES.sub(" ", text.lower())))


@dataclass(frozen=True)
class Entry:
    """What a phrase may mean. A phrase may be a word of several findings and announce others."""

    role: Role
    words: tuple[tuple[str, str], ...] = ()  # (finding, the manifest's word)
    topics: tuple[str, ...] = ()  # findings whose presence or absence is meant
    value: float = 0.0
    unit: str = ""
    cues: tuple[str, ...] = ()  # findings whose number follows
    labels: tuple[str, ...] = ()  # findings named by their label
    stage: tuple[float, float] | None = None
    contexts: frozenset[tuple[str, str]] = frozenset()
    denies: tuple[str, ...] = ()  # findings denied in passing: "other than asthma"


@dataclass(slots=True, eq=False)
class Mention:
    """A phrase where it stands, and what the sentence does to it."""

    entry: Entry
    text: str
    at: int
    role: Role
    denied: bool = False
    unsure: bool = False
    used: bool = False
    value: float = 0.0
    decimals: int = 0


class Phrases:
    """Phrases by their first word, the longest first."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, ...], Entry] = {}
        self._by_first: dict[str, list[tuple[tuple[str, ...], Entry]]] = {}

    def __contains__(self, phrase: tuple[str, ...]) -> bool:
        return phrase in self._entries

    def get(self, phrase: tuple[str, ...]) -> Entry | None:
        return self._entries.get(phrase)

    def put(self, phrase: tuple[str, ...], entry: Entry) -> None:
        """Add or replace; nothing is added for a phrase without words."""
        if phrase:
            self._entries[phrase] = entry

    def items(self) -> list[tuple[tuple[str, ...], Entry]]:
        return list(self._entries.items())

    def freeze(self) -> None:
        by_first: dict[str, list[tuple[tuple[str, ...], Entry]]] = {}
        for phrase, entry in self._entries.items():
            by_first.setdefault(phrase[0], []).append((phrase, entry))
        for candidates in by_first.values():
            candidates.sort(key=lambda c: -len(c[0]))
        self._by_first = by_first

    def scan(self, text: str) -> list[Mention]:
        """The phrases of a text from left to right; what no phrase covers is unread."""
        tokens = lemmas(text)
        found: list[Mention] = []
        at, end = 0, len(tokens)
        while at < end:
            token = tokens[at]
            for phrase, entry in self._by_first.get(token, ()):
                width = len(phrase)
                if width == 1 or tokens[at : at + width] == phrase:
                    found.append(
                        Mention(entry, " ".join(phrase), len(found), entry.role, value=entry.value)
                    )
                    at += width
                    break
            else:
                found.append(_loose(token, len(found)))
                at += 1
        return found


_DIGITS, _END, _MARK, _UNREAD = Entry("number"), Entry("end"), Entry("mark"), Entry("unread")


def _loose(token: str, at: int) -> Mention:
    if _NUMBER.fullmatch(token):
        decimals = len(token.partition(".")[2])
        return Mention(_DIGITS, token, at, "number", value=float(token), decimals=decimals)
    if token in ";.":
        return Mention(_END, token, at, "end")
    if token in ":()\"'":
        return Mention(_MARK, token, at, "mark")
    return Mention(_UNREAD, token, at, "unread")
