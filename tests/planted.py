"""Errors to plant: each returns the changed sentence, or None where the sentence has no place."""

import random
import re
from collections.abc import Callable
from typing import Any

from pipeline.manifest import Manifest

Values = dict[str, Any]
Plant = Callable[[random.Random, Manifest, Values, str, tuple[str, ...]], str | None]
_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_NUMBER = re.compile(rf"(?<![\w.-])\d+(?:\.\d+)?(?![\w.]*[a-z])|\b(?:{'|'.join(_NUMBERS)})\b", re.I)
_NAMES = re.compile(r"(?:Expert|SARS-CoV-|Littmann|out of|first|second) ?$")
_SEXES = {"female": "male", "male": "female", "boy": "girl", "girl": "boy"}
_POSITIVE = r"\b(crackles|wheezes|rhonchi|stridor|asthma|adventitious|atrial|patent|COVID-19)\b"
_DENIED = re.compile(r"\b(no|not|neither|other than|nor|without|whether|could)\b", re.I)
INVENTED = (
    "The patient has pneumonia.",
    "Squawks are heard.",
    "No rales were heard.",
    "Mild mitral regurgitation is suspected.",
    "The patient has diabetes.",
    "Findings suggest heart failure.",
    "There is cyanosis.",
    "Breath sounds are diminished.",
)


def another_word(
    draw: random.Random, manifest: Manifest, values: Values, text: str, claimed: tuple[str, ...]
) -> str | None:
    """A code word by another word of the same finding."""
    places: list[tuple[re.Pattern[str], list[str]]] = []
    for name in claimed:
        words, value = manifest.findings[name].words, values.get(name)
        said = [words[c] for c in (value if isinstance(value, tuple) else (value,)) if c in words]
        others = [w for w in words.values() if w not in said]
        for word in said if others else ():
            whole = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])", re.I)
            if whole.search(text):
                places.append((whole, others))
    if not places:
        return None
    whole, others = draw.choice(places)
    other = draw.choice(others)
    return whole.sub(lambda _: other, text, count=1)


def no_dropped(
    draw: random.Random, manifest: Manifest, values: Values, text: str, claimed: tuple[str, ...]
) -> str | None:
    return re.sub(r"\b(no|not|neither|never|without) ?", "", text, count=1, flags=re.I)


def no_added(
    draw: random.Random, manifest: Manifest, values: Values, text: str, claimed: tuple[str, ...]
) -> str | None:
    place = re.search(_POSITIVE, text, re.I)
    if place is None or _DENIED.search(text[: place.start()]):
        return None
    return f"{text[: place.start()]}no {text[place.start() :]}"


def another_number(
    draw: random.Random, manifest: Manifest, values: Values, text: str, claimed: tuple[str, ...]
) -> str | None:
    places = [m for m in _NUMBER.finditer(text) if not _NAMES.search(text[: m.start()])]
    if not places:
        return None
    place = draw.choice(places)
    said = place[0].lower()
    if said in _NUMBERS:
        new = _NUMBERS[_NUMBERS.index(said) - 1]
    else:
        decimals = len(said.partition(".")[2])
        new = f"{float(said) + draw.choice([-1, 1, 2]) * 10.0**-decimals:.{decimals}f}"
    return text[: place.start()] + new + text[place.end() :]


def other_side(
    draw: random.Random, manifest: Manifest, values: Values, text: str, claimed: tuple[str, ...]
) -> str | None:
    turned = {"left": "right", "right": "left"}
    return re.sub(r"\b(left|right)\b", lambda m: turned[m[0]], text)


def other_sex(
    draw: random.Random, manifest: Manifest, values: Values, text: str, claimed: tuple[str, ...]
) -> str | None:
    return re.sub(rf"\b({'|'.join(_SEXES)})\b", lambda m: _SEXES[m[0]], text)


def other_certainty(
    draw: random.Random, manifest: Manifest, values: Values, text: str, claimed: tuple[str, ...]
) -> str | None:
    """What is known becomes unknown, and what is unknown known."""
    if "murmur" in claimed:
        if values["murmur"] == "Unknown":
            return draw.choice(["No murmur was heard.", "A murmur was heard at this site."])
        return "Whether there is a murmur could not be determined."
    for known, unknown in (("positive", "unknown or void"), ("dry", "dry or wet unclear")):
        for old, new in ((unknown, known), (known, unknown)):
            if re.search(rf"\b{old}\b", text):
                return re.sub(rf"\b{old}\b", new, text, count=1)
    return None


PLANTS: dict[str, Plant] = {
    f.__name__: f
    for f in (
        another_word, no_dropped, no_added, another_number, other_side, other_sex, other_certainty
    )
}  # fmt: skip
