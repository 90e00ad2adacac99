"""Rows of reports -> counts of defects, examples, what the texts are like; adds up over parts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.audit import check, texts
from pipeline.audit.check import Defect, Kind
from pipeline.audit.lexicon import Lexicon, compile_lexicon
from pipeline.audit.parser import Parser
from pipeline.findings import Finding, Resolver
from pipeline.manifest import Manifest, load_all
from pipeline.records import Value

_EXAMPLES = 5


class Row(NamedTuple):
    """One report as the tables have it."""

    recording_id: str
    findings: Mapping[str, Value]
    sentences: Sequence[tuple[str, Sequence[str]]]
    text: str


@dataclass(frozen=True)
class Example:
    """A defect where it was found."""

    recording_id: str
    kind: Kind
    detail: str
    text: str


@dataclass
class Summary:
    """Counts that add up: ``include`` makes of the summaries of parts that of the whole."""

    reports: int = 0
    sentences: int = 0
    defects: Counter[Kind] = field(default_factory=Counter[Kind])
    flagged: Counter[Kind] = field(default_factory=Counter[Kind])  # reports with that kind
    examples: list[Example] = field(default_factory=list[Example])
    texts: Counter[int] = field(default_factory=Counter[int])  # by fingerprint
    vocabulary: set[str] = field(default_factory=set[str])
    words: int = 0
    words_min: int = 0
    words_max: int = 0

    @property
    def differences(self) -> int:
        """Defects of every kind: a dataset of ours may have none."""
        return sum(self.defects.values())

    @property
    def distinct(self) -> int:
        return len(self.texts)

    @property
    def duplicated(self) -> int:
        """Reports whose text another report has as well."""
        return sum(n for n in self.texts.values() if n > 1)

    @property
    def repeated(self) -> int:
        """Reports that repeat the text of an earlier one."""
        return self.reports - self.distinct

    @property
    def distinct_share(self) -> float:
        return self.distinct / self.reports if self.reports else 1.0

    @property
    def words_mean(self) -> float:
        return self.words / self.reports if self.reports else 0.0

    def add(self, recording_id: str, text: str, found: Iterable[Defect], sentences: int) -> None:
        """Count one report."""
        said = texts.words(text)
        self.words_min = len(said) if not self.reports else min(self.words_min, len(said))
        self.words_max = max(self.words_max, len(said))
        self.words += len(said)
        self.vocabulary.update(said)
        self.texts[texts.fingerprint(text)] += 1
        self.reports += 1
        self.sentences += sentences
        kinds = set[Kind]()
        for defect in found:
            self.defects[defect.kind] += 1
            kinds.add(defect.kind)
            self._show(Example(recording_id, defect.kind, defect.detail, defect.text))
        self.flagged.update(kinds)

    def include(self, other: "Summary") -> None:
        """Add what another part found."""
        lengths = [s.words_min for s in (self, other) if s.reports]
        self.words_min = min(lengths, default=0)
        self.words_max = max(self.words_max, other.words_max)
        self.reports += other.reports
        self.sentences += other.sentences
        self.words += other.words
        self.defects.update(other.defects)
        self.flagged.update(other.flagged)
        self.texts.update(other.texts)
        self.vocabulary |= other.vocabulary
        for example in other.examples:
            self._show(example)

    def facts(self) -> dict[str, Any]:
        """Plain values for tables, checks and JSON."""
        return {
            "reports": self.reports,
            "sentences": self.sentences,
            "differences": self.differences,
            "defects": {k: self.defects[k] for k in check.KINDS if self.defects[k]},
            "flagged": {k: self.flagged[k] for k in check.KINDS if self.flagged[k]},
            "distinct": self.distinct,
            "distinct_share": round(self.distinct_share, 4),
            "repeated": self.repeated,
            "duplicated": self.duplicated,
            "words_min": self.words_min,
            "words_mean": round(self.words_mean, 1),
            "words_max": self.words_max,
            "vocabulary": len(self.vocabulary),
        }

    def _show(self, example: Example) -> None:
        alike = [e for e in self.examples if e.kind == example.kind]
        if len(alike) < _EXAMPLES and example.recording_id not in [e.recording_id for e in alike]:
            self.examples.append(example)


class Auditor:
    """Checks the reports of one dataset; keep it, since it remembers the sentences it read."""

    def __init__(self, manifest: Manifest, others: Iterable[Manifest] | None = None):
        known = load_all().values() if others is None else others
        self.lexicon: Lexicon = compile_lexicon(manifest, known)
        self._parser, self._resolve = Parser(self.lexicon), Resolver(manifest)

    def defects(self, row: Row, findings: Mapping[str, Finding] | None = None) -> list[Defect]:
        """Every difference between one report and its findings.

        ``findings``: those of the row, where they are resolved already.
        """
        findings = self._resolve(row.findings) if findings is None else findings
        found = list(texts.defects(row.text))
        if " ".join(text for text, _ in row.sentences) != row.text:
            found.append(Defect("mismatch", "sentences and text differ", row.text))
        readings = [self._parser.read(text) for text, _ in row.sentences]
        report = frozenset[str]().union(*(reading.stated for reading in readings))
        for reading, (text, claimed) in zip(readings, row.sentences, strict=True):
            found += check.against(self.lexicon, findings, reading, text, claimed)
            found += check.both_ways(self.lexicon, findings, reading, claimed, text, report)
        return found
