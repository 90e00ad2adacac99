"""Manifest -> the phrases by which a text can mean its findings, compiled once per dataset."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.audit import english, naming, terms
from pipeline.audit.scan import Entry, Phrases, Role, lemmas
from pipeline.manifest import FindingSpec, Manifest

Phrase = tuple[str, ...]


@dataclass(frozen=True)
class Lexicon:
    """Phrases and what is known about the findings they mean."""

    manifest: Manifest
    phrases: Phrases
    labels: Mapping[str, str]  # finding -> label, in one form
    contexts: Mapping[str, Mapping[str, str]]  # finding -> family -> context
    counts: frozenset[str]
    states: Mapping[str, Mapping[str, str]]  # finding -> word -> present, absent, unknown
    locals: Mapping[str, str]  # finding of the visit -> the same at this site
    ages: frozenset[str]
    groups: Mapping[str, tuple[str, ...]]  # noun -> counts that add up to it


def compile_lexicon(manifest: Manifest, others: Iterable[Manifest] = ()) -> Lexicon:
    """``others``: manifests whose words are inventions in a report of this dataset."""
    labels = {name: " ".join(lemmas(s.label)) for name, s in manifest.findings.items()}
    states = {n: s for n, spec in manifest.findings.items() if (s := naming.states(spec))}
    locals_ = {
        whole: local
        for whole, label in labels.items()
        for local, other in labels.items()
        if other == f"{label} at this site"
    }
    counts = {n for n, s in manifest.findings.items() if s.kind == "number" and naming.countable(s)}
    words: dict[Phrase, list[tuple[str, str]]] = {}
    topics: dict[Phrase, list[str]] = {}
    named: dict[Phrase, list[str]] = {}
    for name, spec in manifest.findings.items():
        if name in locals_.values():
            continue  # read from the topic and from "here"
        named.setdefault(lemmas(spec.label.partition(",")[0]), []).append(name)
        for also in terms.TOPICS.get(naming.lemmas_of(spec.label.partition(",")[0]), ()):
            named.setdefault(lemmas(also), []).append(name)
        for phrase, word in naming.word_phrases(spec) if name not in states else ():
            _add(words, phrase, (name, word))
        for phrase in naming.topic_phrases(name, spec, name in states):
            _add(topics, phrase, name)
    phrases = Phrases()
    _english(phrases, manifest)
    # "fever" alone is not "fever or muscle pain": the parts of a flag are no words of the dataset.
    named_in = (labels[n] for n, s in manifest.findings.items() if s.kind != "flag")
    own = {token for label in named_in for token in label.split()}
    _strangers(phrases, manifest, others, own)
    _cues(phrases, manifest, labels)
    _synonyms(words, {n: s for n, s in manifest.findings.items() if n not in locals_.values()})
    for phrase in {*words, *topics, *named}:
        _merge(phrases, phrase, words.get(phrase, []), topics.get(phrase, []), named.get(phrase))
    _of_several(phrases, topics, {label: n for n, label in labels.items()})
    groups = {
        noun: found
        for noun in terms.GROUPS
        if len(found := tuple(n for n in counts if noun in labels[n])) > 1
    }
    for noun in groups:
        phrases.put(lemmas(noun), replace(_old(phrases, lemmas(noun)), role="group", unit=noun))
    contexts = _contexts(phrases, labels)
    phrases.freeze()
    ages = {n for n, s in manifest.findings.items() if s.kind == "number" and s.unit in terms.DAYS}
    return Lexicon(
        manifest=manifest,
        phrases=phrases,
        labels=labels,
        contexts=contexts,
        counts=frozenset(counts),
        states=states,
        locals=locals_,
        ages=frozenset(ages),
        groups=groups,
    )


def _english(phrases: Phrases, manifest: Manifest) -> None:
    """Words of English; what is put later wins, and the manifest's words come last of all."""
    tables_of: tuple[tuple[Role, Iterable[str]], ...] = (
        ("plain", english.PLAIN),
        ("advice", english.ADVICE),
        ("stop", english.STOPS),
        ("starter", english.STARTERS),
        ("verb", english.VERBS),
        ("negation", english.NEGATIONS),
        ("denial_after", english.DENIALS_AFTER),
        ("nothing", english.NOTHING),
        ("unsure", english.UNCERTAINTY),
        ("here", english.HERE),
        ("not_here", english.NOT_HERE),
        ("elsewhere", english.ELSEWHERE),
        ("existential", english.EXISTENTIAL),
        ("about", english.APPROXIMATELY),
        ("below", english.BELOW),
        ("birth", terms.BIRTH),
        ("joiner", english.JOINERS),
        ("share", ("all", "both", "only", "each", "every", "rest", "remaining")),
        ("of", ("of",)),
        ("in", ("in",)),
        ("plain", (*english.SCALES, *english.SILENCE)),
        ("constant", terms.CONSTANTS.get(manifest.id, ())),
    )
    for role, listed in tables_of:
        for text in listed:
            phrases.put(tuple(text.split()) if text != "," else (",",), Entry(role))
    for word, number in terms.NUMBERS.items():
        phrases.put((word,), Entry("number", value=number))
    for unit, forms in terms.UNITS.items():
        for form in forms:
            phrases.put(tuple(form.split()), Entry("unit", unit=unit))
    for word, stage in terms.STAGES.items():
        phrases.put(tuple(word.split()), Entry("stage", stage=stage))


def _strangers(
    phrases: Phrases, manifest: Manifest, others: Iterable[Manifest], own: set[str]
) -> None:
    """Medical words that no finding of this manifest means; its own are put over them later."""
    foreign = [tuple(lemmas(m)) for m in terms.MEDICAL]
    for other in others:
        if other.id != manifest.id:
            foreign += [p for s in other.findings.values() for p, _ in naming.word_phrases(s)]
    for phrase in foreign:
        known = phrases.get(phrase)
        if phrase and not set(phrase) <= own and (known is None or known.role == "unread"):
            phrases.put(phrase, Entry("stranger"))
    for token in own:
        if (token,) not in phrases and not token.isdecimal():
            phrases.put((token,), Entry("plain"))


def _synonyms(
    words: dict[Phrase, list[tuple[str, str]]], findings: Mapping[str, FindingSpec]
) -> None:
    by_word: dict[str, list[tuple[str, str]]] = {}
    for finding, spec in findings.items():
        for word in dict.fromkeys(spec.words.values()):
            by_word.setdefault(" ".join(lemmas(word)), []).append((finding, word))
    for said, meant in terms.SYNONYMS.items():
        for candidate in [c for m in meant for c in by_word.get(m, ())]:
            _add(words, tuple(said.split()), candidate)


def _of_several(
    phrases: Phrases, topics: Mapping[Phrase, list[str]], by_label: Mapping[str, str]
) -> None:
    """Phrases that are about more than one finding."""
    for noun, members in terms.UMBRELLAS.items():
        if all((m,) in topics for m in members):
            found = tuple(n for m in members for n in topics[m,])
            phrases.put(lemmas(noun), Entry("topic", topics=found))
    for said, (yes, no) in terms.OTHER_THAN.items():
        if yes in by_label and no in by_label:
            entry = Entry("topic", topics=(by_label[yes],), denies=(by_label[no],))
            phrases.put(tuple(said.split()), entry)


def _cues(phrases: Phrases, manifest: Manifest, labels: Mapping[str, str]) -> None:
    for part, forms in terms.QUANTITIES.items():
        found = tuple(
            n
            for n, s in manifest.findings.items()
            if s.kind == "number" and f" {part} " in f" {labels[n]} "
        )
        for form in forms if found else ():
            old = _old(phrases, tuple(form.split()))
            phrases.put(tuple(form.split()), replace(old, role="cue", cues=found))


def _merge(
    phrases: Phrases,
    phrase: Phrase,
    words: list[tuple[str, str]],
    topics: list[str],
    named: list[str] | None,
) -> None:
    old = _old(phrases, phrase)
    if not words and not topics and phrase in phrases and old.role not in ("stranger", "plain"):
        phrases.put(phrase, replace(old, labels=tuple(named or ())))
        return
    role: Role = "word" if words else "topic" if topics else "plain"
    implied = terms.IMPLIED.get(" ".join(phrase), ())
    also = [(f, w) for f, _ in words for w in implied]
    phrases.put(
        phrase,
        replace(
            old,
            role=role,
            words=tuple(words + also),
            topics=tuple(topics),
            labels=tuple(named or ()),
        ),
    )


def _contexts(phrases: Phrases, labels: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for family, values in terms.CONTEXTS.items():
        named = set[str]()
        for finding, label in labels.items():
            for part, _ in values:
                if f" {part} " in f" {label} ":
                    found.setdefault(finding, {})[family] = part
                    named.add(part)
                    break
        if len(named) < 2 and family != "expert":
            continue
        for part, forms in values:
            for form in forms if part in named else ():
                phrase = lemmas(form)
                old = phrases.get(phrase) or Entry("context")
                phrases.put(phrase, replace(old, contexts=old.contexts | {(family, part)}))
    # "A diastolic murmur" says that there is one, whatever it is like.
    for finding, families in found.items():
        if "phase" in families and labels[finding].startswith("timing"):
            phrase = lemmas(families["phase"])
            phrases.put(phrase, replace(_old(phrases, phrase), role="topic", topics=(finding,)))
    # A word that belongs to one finding alone, as "holosystolic" does, names its context too.
    for phrase, entry in phrases.items():
        owners = {f for f, _ in entry.words}
        families = found.get(next(iter(owners), ""), {})
        if len(owners) == 1 and "phase" in families:
            add = ("phase", families["phase"])
            phrases.put(phrase, replace(entry, contexts=entry.contexts | {add}))
    return found


def _old(phrases: Phrases, phrase: Phrase) -> Entry:
    return phrases.get(phrase) or Entry("plain")


def _add(table: dict[Phrase, list[Any]], phrase: Phrase, item: Any) -> None:
    if phrase and item not in (listed := table.setdefault(phrase, [])):
        listed.append(item)
