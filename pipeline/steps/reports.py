"""recordings table + template -> one clinical report per recording, in two versions.

A template is a list of ``{% call sentence("a", "b", part="who") %}...{% endcall %}`` blocks. A
block becomes a sentence only if every finding it names is recorded and not left out; inside it,
touching a finding that it does not name is an error. So each sentence is known to state
exactly the findings it lists, a strict report is the same template with findings left out,
and nothing can be said that the metadata do not say.

``{{ order("who where", "where who") }}`` at the top declares the parts and the orders in which
they may come. Order and phrasings follow from the recording's id and from nothing else that a
strict report leaves out, so a strict text cannot give a label away by its form.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, TemplateError

from pipeline import RESOURCES
from pipeline.findings import Finding, resolve
from pipeline.manifest import Manifest
from pipeline.records import Value, unit_hash
from pipeline.steps.report_sandbox import Findings, Verbs, environment

FOLDER = RESOURCES / "templates" / "reports"
TO_JSON = json.JSONEncoder(ensure_ascii=False).encode  # made once: json.dumps makes one a call
_KNOWN = frozenset({"stated", "absent"})
_UNORDERED = {"": 0}  # a template without order() has one part


templates = cache(environment)  # of a folder; kept between reports


class NotRebuilt(ValueError):
    """A report of the table that cannot be made again byte for byte."""


class Silent(ValueError):
    """A template that says nothing of these findings."""


class Sentence(NamedTuple):
    """One sentence and the names of the findings that it states."""

    text: str
    findings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Text, its sentences, and the terms of the findings stated (for the term teacher)."""

    sentences: tuple[Sentence, ...]
    terms: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(s.text for s in self.sentences)

    @property
    def hash(self) -> str:
        """Identifies what a teacher reads: the text and the terms."""
        said = TO_JSON([self.text, self.terms])
        return hashlib.sha256(said.encode()).hexdigest()[:16]


class _Page(Verbs):
    """What one rendering may touch, and the sentences it leaves behind.

    ``picked``: what was drawn for this recording before, by the phrasings to choose from.
    """

    def __init__(
        self,
        recording_id: str,
        findings: Mapping[str, Finding],
        omit: frozenset[str],
        picked: dict[tuple[str, ...], str],
    ):
        self.recording_id, self._findings = recording_id, findings
        self._status = {n: "not_recorded" if n in omit else f.status for n, f in findings.items()}
        self._picked = picked
        self._open: tuple[str, ...] | None = None
        self._places = _UNORDERED
        self._said: list[tuple[str, Sentence]] = []

    @property
    def sentences(self) -> tuple[Sentence, ...]:
        """In the chosen order; those of one part stay together as they stand in the template."""
        self._said.sort(key=lambda said: self._places[said[0]])
        return tuple(sentence for _, sentence in self._said)

    def look(self, name: str) -> Finding:
        """A finding, inside a sentence that names it."""
        if name not in self._findings:
            raise TemplateError(f"no finding {name!r}; known: {', '.join(self._findings)}")
        if self._open is None or name not in self._open:
            raise TemplateError(
                f"finding {name!r} is used outside a sentence that names it; write "
                f'{{% call sentence("{name}", ...) %}}'
            )
        return self._findings[name]

    def status(self, name: str) -> str:
        """Status of a finding; a finding left out counts as not recorded."""
        if name not in self._status:
            raise TemplateError(f"no finding {name!r}; known: {', '.join(self._findings)}")
        return self._status[name]

    def has(self, *names: str) -> bool:
        """All named findings are stated or stated absent, and not left out."""
        return _KNOWN.issuperset(map(self.status, names))

    def unknown(self, *names: str) -> bool:
        """The source says of each named finding that it cannot tell."""
        return all(self.status(n) == "unknown" for n in names)

    def known(self, *names: str) -> list[str]:
        """Those of the named findings that are stated or stated absent, and not left out."""
        return [n for n in names if self.has(n)]

    def pick(self, *phrasings: str) -> str:
        """One phrasing: the one that wins a draw of its own words and the recording's id.

        So a phrasing that is added or edited moves only the recordings that it wins or loses,
        and what is said elsewhere in the report does not matter.
        """
        if not phrasings:
            raise TemplateError("pick() needs a phrasing")
        chosen = self._picked.get(phrasings)
        if chosen is None:
            drawn = [unit_hash(f"{self.recording_id}#{words}") for words in phrasings]
            chosen = self._picked[phrasings] = phrasings[drawn.index(max(drawn))]
        return chosen

    def order(self, *orders: str) -> str:
        """Declare the parts of the report, and choose the order in which they come."""
        if self._places is not _UNORDERED or self._said:
            raise TemplateError("order() comes once, before all sentences")
        chosen = self.pick(*orders)
        self._places = _places(orders)[chosen]
        return ""

    def sentence(self, *names: str, caller: Callable[[], str], part: str = "") -> str:
        """Add the block's text as a sentence about exactly these findings."""
        if not names:
            raise TemplateError("a sentence names the findings that it states; got none")
        if part not in self._places:
            declared = ", ".join(filter(None, self._places)) or "none"
            raise TemplateError(f"order() does not declare the part {part!r}; declared: {declared}")
        if "not_recorded" in map(self.status, names):
            return ""
        self._open = names
        text = " ".join(caller().split())
        self._open = None
        if text:
            text = text[0].upper() + text[1:]
            self._said.append((part, Sentence(text=text, findings=names)))
        return ""


@cache
def _places(orders: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Order -> part -> its place; checked once for each list of orders of a template."""
    places = {order: {part: n for n, part in enumerate(order.split())} for order in orders}
    for order, of_part in places.items():
        if len(of_part) < len(order.split()) or of_part.keys() != places[orders[0]].keys():
            raise TemplateError(f"each order names each part once; got {orders}")
    return places


def template_version(dataset: str, folder: Path = FOLDER) -> str:
    """Hash of the dataset's template and the macros that all templates share."""
    sources = [folder / f"{dataset}.j2", *sorted(folder.glob("_*.j2"))]
    return hashlib.sha256(b"\0".join(p.read_bytes() for p in sources)).hexdigest()[:16]


def render(
    manifest: Manifest,
    recording_id: str,
    values: Mapping[str, Value],
    omit: Iterable[str] = (),
    folder: Path = FOLDER,
) -> Report:
    """The report of one recording, without the findings in ``omit``.

    Raises:
        UnknownCode: A code without a word in the manifest.
        Silent: The template says nothing; names it.
        ValueError: The template uses an unknown variable; names the template.
    """
    (report,) = render_all(
        manifest.id, recording_id, resolve(manifest, values), [frozenset(omit)], templates(folder)
    )
    return report


def render_all(
    dataset: str,
    recording_id: str,
    findings: Mapping[str, Finding],
    omitted: Iterable[frozenset[str]],
    templates: Environment,
) -> list[Report]:
    """Reports of one recording that leave out different findings; raises what ``render`` does."""
    picked: dict[tuple[str, ...], str] = {}
    return [
        _report(dataset, _Page(recording_id, findings, omit, picked), findings, templates)
        for omit in omitted
    ]


def _report(
    dataset: str, page: _Page, findings: Mapping[str, Finding], templates: Environment
) -> Report:
    context: dict[str, Any] = {
        "f": Findings(page.look),
        "sentence": page.sentence,
        "order": page.order,
        "pick": page.pick,
        "known": page.known,
        "has": page.has,
        "unknown": page.unknown,
        "status": page.status,
    }
    try:
        rest = templates.get_template(f"{dataset}.j2").render(context)
    except TemplateError as error:
        raise ValueError(f"templates/reports/{dataset}.j2: {error}") from error
    if stray := rest.strip():
        raise ValueError(f"templates/reports/{dataset}.j2: text outside a sentence: {stray!r}")
    sentences = page.sentences
    if not sentences:
        raise Silent(f"templates/reports/{dataset}.j2: no sentence for {page.recording_id}")
    stated = dict.fromkeys(n for s in sentences for n in s.findings)
    terms = tuple(term for name in stated for term in findings[name].terms)
    return Report(sentences=sentences, terms=terms)


def rebuild(
    manifest: Manifest,
    recording_id: str,
    values: Mapping[str, Value],
    *,
    text: str,
    version: str,
    omit: Iterable[str] = (),
    folder: Path = FOLDER,
) -> Report:
    """The report that a row of the reports table holds, made again from the row's findings.

    Raises:
        NotRebuilt: Templates of another version, or another text; says which and where.
    """
    here = template_version(manifest.id, folder)
    if here != version:
        raise NotRebuilt(f"{recording_id}: made by template {version}; the one here is {here}")
    report = render(manifest, recording_id, values, omit, folder)
    if report.text != text:
        same = (a == b for a, b in zip(report.text, text, strict=False))
        at = next((i for i, s in enumerate(same) if not s), min(len(report.text), len(text)))
        raise NotRebuilt(
            f"{recording_id}: template {version} now gives another text from character {at}, "
            f"{report.text[at : at + 30]!r} for {text[at : at + 30]!r}: the findings, the words "
            f"of {manifest.id}.yaml or the report step have changed"
        )
    return report
