"""A finding of the manifest -> the phrases by which it and its values can be called."""

from collections.abc import Iterable

from pipeline.audit import terms
from pipeline.audit.scan import lemmas
from pipeline.manifest import FindingSpec

Phrase = tuple[str, ...]
_ARTICLES = ("a", "the", "some")


def lemmas_of(text: str) -> str:
    """A label as a key of the tables."""
    phrase = " ".join(lemmas(text))
    for tail in terms.LABEL_TAILS:
        phrase = phrase.removesuffix(f" {tail}")
    return phrase


def countable(spec: FindingSpec) -> bool:
    return spec.unit == "1" and "probability" not in spec.label


def states(spec: FindingSpec) -> dict[str, str]:
    """Words that say present, absent or unknown and nothing else."""
    if spec.kind != "code" or "present" not in spec.words.values():
        return {}
    return {
        word: "absent" if c in spec.absent else "unknown" if c in spec.unknown else "present"
        for c, word in spec.words.items()
    }


def word_phrases(spec: FindingSpec) -> Iterable[tuple[Phrase, str]]:
    for word in dict.fromkeys(spec.words.values()):
        phrase = lemmas(word)
        if phrase[0] in _ARTICLES:
            phrase = phrase[1:]
        if " ".join(phrase) not in terms.NEVER_ALONE:
            yield phrase, word
        if phrase[-1] in terms.HEADS and len(phrase) > 1:
            yield phrase[:-1], word


def topic_phrases(name: str, spec: FindingSpec, state: bool) -> Iterable[Phrase]:
    """Phrases for what a finding counts, flags or says to be absent."""
    label = lemmas_of(spec.label)
    if spec.kind == "flag" or state or (spec.kind == "number" and countable(spec)):
        yield lemmas(label)
        for also in terms.TOPICS.get(label, ()):
            yield lemmas(also)
        for frame in terms.LABEL_FRAMES:
            if label.startswith(f"{frame} "):
                yield lemmas(label.removeprefix(f"{frame} "))
        spelt = lemmas_of(name.replace("_", " "))
        for tail in terms.NAME_TAILS:
            spelt = spelt.removesuffix(f" {tail}")
        yield lemmas(spelt)
    for code in spec.absent:
        phrase = lemmas(spec.words[code])
        if phrase[0] == "no" and "cough" not in phrase:
            yield phrase[1:]
