"""What a text says against what the metadata record: the differences, by kind."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import floor
from typing import Literal

from pipeline.audit import terms
from pipeline.audit.claims import Claim, Number, Reading
from pipeline.audit.lexicon import Lexicon
from pipeline.findings import Finding

Kind = Literal[
    "contradiction", "invention", "certainty", "number", "unstated", "unclaimed", "unread",
    "advice", "mismatch", "empty", "truncated", "garbage", "duplicate",
]  # fmt: skip
KINDS: dict[Kind, str] = {
    "contradiction": "the text says otherwise than the metadata",
    "invention": "the text states what the metadata do not record",
    "certainty": "the text asserts or denies what the source could not tell",
    "number": "a number differs from the recorded one",
    "unstated": "a sentence claims a finding that its words do not state",
    "unclaimed": "a sentence states a finding that it does not claim",
    "unread": "a word or number that no table explains, so nobody knows what it states",
    "advice": "the text recommends something",
    "mismatch": "the text is not the sum of its sentences",
    "empty": "no text",
    "truncated": "the text ends before its sentence does",
    "garbage": "characters that do not belong in a report",
    "duplicate": "the same text belongs to another row as well",
}
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Defect:
    """One difference between a text and the metadata."""

    kind: Kind
    detail: str
    text: str


def against(
    lexicon: Lexicon,
    findings: Mapping[str, Finding],
    reading: Reading,
    text: str,
    claimed: Iterable[str] = (),
) -> list[Defect]:
    """Everything that one sentence says and the findings do not."""
    defects: list[Defect] = []
    for claim in reading.claims:
        if claim.weak and not set(claim.findings) & set(claimed):
            continue
        if findings[claim.findings[0]].status == "not_recorded" and _of_visit(
            lexicon, findings, claim
        ):
            continue
        wrong = _judge(lexicon, findings, claim)
        if wrong is not None:
            names = " or ".join(claim.findings)
            defects.append(Defect(wrong, f"{names}: {claim.state} {claim.text!r}", text))
    defects += [Defect("invention", repr(s), text) for s in reading.strangers]
    defects += [Defect("unread", repr(u), text) for u in reading.unread]
    defects += [Defect("advice", repr(a), text) for a in reading.advice]
    return defects


def _of_visit(lexicon: Lexicon, findings: Mapping[str, Finding], claim: Claim) -> bool:
    """A text about a whole visit says nothing of one site."""
    return (
        claim.findings[0] in lexicon.locals.values()
        and not claim.word
        and all(findings[s].status == "not_recorded" for s in _sites(lexicon))
    )


def _sites(lexicon: Lexicon) -> list[str]:
    return [f for f, c in lexicon.contexts.items() if c.get("place") == "auscultation site"]


def both_ways(
    lexicon: Lexicon,
    findings: Mapping[str, Finding],
    reading: Reading,
    claimed: Iterable[str],
    text: str,
    report: frozenset[str] = frozenset(),
) -> list[Defect]:
    """The findings that a sentence claims against those that were read in it.

    ``report``: findings read anywhere in the report. A sentence on where a murmur was heard
    relates it to the place of the recording, which may be named in another sentence.
    """
    claimed = tuple(claimed)
    defects: list[Defect] = []
    read = reading.stated
    for name in claimed:
        finding = findings[name]
        if name not in read:
            # A list of what was counted says of everything else that it asks about: none.
            if name in lexicon.counts and _counted(reading) and _lists(lexicon, reading):
                if finding.value:
                    defects.append(Defect("number", f"{name}: {finding}, left out", text))
                continue
            if not (name in report and name in _related(lexicon, read)):
                defects.append(Defect("unstated", name, text))
        elif missing := _words_missing(finding, reading, name):
            defects.append(Defect("unstated", f"{name}: {', '.join(missing)}", text))
    others = [
        c
        for c in reading.claims
        if not (c.weak or c.stage or c.total) and not set(c.findings).intersection(claimed)
    ]
    allowed = _presupposed(lexicon, claimed) if others else set[str]()
    for claim in others:
        if not allowed.intersection(claim.findings):
            defects.append(Defect("unclaimed", " or ".join(claim.findings), text))
    return defects


def _counted(reading: Reading) -> bool:
    return any(c.number is not None or c.state != "present" for c in reading.claims)


def _related(lexicon: Lexicon, read: Iterable[str]) -> set[str]:
    """The place of the recording, for a sentence that names another place."""
    places = {f: c["place"] for f, c in lexicon.contexts.items() if "place" in c}
    if not places.keys() & set(read):
        return set()
    return {f for f, value in places.items() if value == "auscultation site"}


def _lists(lexicon: Lexicon, reading: Reading) -> bool:
    return any(lexicon.counts.intersection(c.findings) for c in reading.claims)


def _words_missing(finding: Finding, reading: Reading, name: str) -> list[str]:
    """Of a finding with several words, those that the sentence leaves out."""
    if len(finding.words) < 2:
        return []
    said = {c.word for c in reading.claims if name in c.findings and c.word}
    if not said:
        return list(finding.words)
    return [w for w in finding.words if w not in said]


def _presupposed(lexicon: Lexicon, claimed: Iterable[str]) -> set[str]:
    """Findings that a claimed one is about: where a murmur was heard says that there is one."""
    labels = [f" {lexicon.labels[name]} " for name in claimed]
    return {
        name
        for name in lexicon.states
        if any(f" {lexicon.labels[name]} " in label for label in labels)
    } | {
        local
        for whole, local in lexicon.locals.items()
        if any(f" {lexicon.labels[whole]} " in label for label in labels)
    }


def _judge(lexicon: Lexicon, findings: Mapping[str, Finding], claim: Claim) -> Kind | None:
    """None where one of the findings that may be meant agrees; else what is wrong."""
    if claim.total:
        return _judge_total(findings, claim)
    verdict: Kind | None = "invention"
    for name in claim.findings:
        verdict = _judge_one(lexicon, findings, findings[name], claim)
        if verdict is None:
            return None
    return verdict


def _judge_total(findings: Mapping[str, Finding], claim: Claim) -> Kind | None:
    values = [findings[name].value for name in claim.findings]
    numbers = [v for v in values if isinstance(v, int | float)]
    if len(numbers) < len(values):
        return "invention"
    return None if claim.number and sum(numbers) == claim.number.value else "number"


def _judge_one(
    lexicon: Lexicon, findings: Mapping[str, Finding], finding: Finding, claim: Claim
) -> Kind | None:
    if finding.status == "not_recorded":
        return "invention"
    if claim.same_as:
        same = findings[claim.same_as]
        return None if same.words and same.words == finding.words else "contradiction"
    if claim.word:
        return _judge_word(finding, claim)
    if claim.stage:
        return _judge_stage(lexicon, finding, claim.stage)
    if claim.number:
        value = finding.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "invention"
        return None if agrees(claim.number, float(value), finding.unit or "") else "number"
    return _judge_state(finding, claim)


def _judge_word(finding: Finding, claim: Claim) -> Kind | None:
    said = claim.word in finding.words
    if claim.state == "present":
        if said:
            return None
        return "certainty" if finding.status == "unknown" else "contradiction"
    if said:
        return "contradiction"
    if finding.status == "unknown":
        return "certainty"
    return None if finding.status == "absent" else "invention"


def _judge_state(finding: Finding, claim: Claim) -> Kind | None:
    status = finding.status
    if isinstance(finding.value, int | float) and not isinstance(finding.value, bool):
        status = "stated" if finding.value else "absent"
    wanted = {"present": "stated", "absent": "absent", "unknown": "unknown"}[claim.state]
    if status == wanted:
        return None
    return "certainty" if status == "unknown" else "contradiction"


def _judge_stage(lexicon: Lexicon, finding: Finding, stage: tuple[float, float]) -> Kind | None:
    unit = lexicon.manifest.findings[finding.name].unit or "years"
    if not isinstance(finding.value, int | float):
        return "invention"
    years = finding.value * terms.DAYS[unit] / terms.DAYS["years"]
    return None if stage[0] <= years < stage[1] else "contradiction"


def agrees(said: Number, recorded: float, unit: str) -> bool:
    """Whether a number is the recorded one at the precision at which it is written.

    Years of age are completed years. Everything else is rounded to the nearest: months, since
    sources give tenths of a year, and whatever is introduced by "about".
    """
    if said.unit and said.unit != unit and said.unit in terms.DAYS and unit in terms.DAYS:
        if {said.unit, unit} == {"months", "years"}:
            recorded *= 12 if unit == "years" else 1 / 12
        else:
            recorded *= terms.DAYS[unit] / terms.DAYS[said.unit]
    elif said.unit == "years" and not said.about and not said.below and not said.decimals:
        return floor(recorded + _EPSILON) == said.value
    if said.below:
        return said.value - 1 <= recorded < said.value
    return abs(recorded - said.value) <= 0.5 * 10.0**-said.decimals + _EPSILON
