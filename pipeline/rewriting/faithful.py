"""A text in other words is accepted if a reader finds in it what it finds in the draft.

The reader (``pipeline.audit``) knows manifests and English and no template. It must understand
every word, nothing may differ from the metadata, and each statement of either text must be one of
the other: what only the template says is lost, what only the rewrite says is added, true or not.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from pipeline.audit import check, texts
from pipeline.audit.claims import Claim, Reading
from pipeline.audit.lexicon import compile_lexicon
from pipeline.audit.parser import Parser
from pipeline.findings import resolve
from pipeline.manifest import Manifest, load_all
from pipeline.rewriting.rewrite import Accept, Draft

# Beside the kinds of defects that the audit knows.
REFUSALS = {
    "added": "it states something of the metadata that the report leaves out",
    "lost": "it leaves out something that the report states",
    "unverified": "the reader does not find all findings in the report itself, so it cannot tell",
}
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])")


def acceptor(manifest: Manifest) -> Accept:
    """The rule for one dataset's reports; keep it, since it remembers the sentences it read."""
    lexicon = compile_lexicon(manifest, load_all().values())
    parser = Parser(lexicon)

    def accept(draft: Draft, text: str) -> str | None:
        for defect in texts.defects(text):
            return defect.kind
        findings = resolve(manifest, draft.values)
        before: list[Reading] = []
        for sentence, claimed in draft.sentences:
            reading = parser.read(sentence)
            if check.both_ways(lexicon, findings, reading, claimed, sentence):
                return "unverified"
            before.append(reading)
        after: list[Reading] = []
        for sentence in _SENTENCE.split(text):
            reading = parser.read(sentence)
            for defect in check.against(lexicon, findings, reading, sentence):
                return defect.kind
            after.append(reading)
        ages = [c.findings for r in after for c in r.claims if c.stage]
        if any(not set(findings) & set(draft.stated) for findings in ages):
            return "added"
        return _difference(_statements(before), _statements(after))

    return accept


class _Statement(NamedTuple):
    """What is claimed, however it is worded."""

    findings: tuple[str, ...]  # more than one where the sentence does not tell them apart
    what: tuple[object, ...]

    def same(self, other: "_Statement") -> bool:
        return self.what == other.what and bool(set(self.findings) & set(other.findings))


def _statements(readings: Iterable[Reading]) -> set[_Statement]:
    """Not the ages that "girl" or "child" allow: these are held against the metadata alone."""
    return {_stated(c) for r in readings for c in r.claims if not c.weak and not c.stage}


def _stated(claim: Claim) -> _Statement:
    number = claim.number
    said = number and (number.value, number.unit, number.about, number.below)
    return _Statement(claim.findings, (claim.state, claim.word, said, claim.total, claim.same_as))


def _difference(said: set[_Statement], says: set[_Statement]) -> str | None:
    missing = sorted(said - says, key=str)
    for new in sorted(says - said, key=str):
        # One that may be about several findings makes up for one that is missing, not for all.
        found = next((old for old in missing if old.same(new)), None)
        if found is not None:
            missing.remove(found)
        elif not any(old.same(new) for old in said):
            return "added"
    return "lost" if missing else None
