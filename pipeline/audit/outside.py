"""Reports that others wrote, from a csv of metadata and text: held against the metadata alone.

Such a text claims nothing sentence by sentence and may use any English, so words that no table
explains are no defect here, and what the reader cannot parse it misses.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.audit import check, texts
from pipeline.audit.check import Defect
from pipeline.audit.lexicon import compile_lexicon
from pipeline.audit.parser import Parser
from pipeline.audit.scan import lemmas
from pipeline.audit.summary import Summary
from pipeline.findings import UnknownCode, resolve
from pipeline.manifest import FindingSpec, Manifest, load_all
from pipeline.records import Value

_SENTENCE = re.compile(r"(?<=[.!?;])\s+(?=[A-Z\"'(])")
_PAIR = re.compile(r"([A-Z][A-Za-z ]*): (.*?)(?=, [A-Z][A-Za-z ]*: |$)")
_MISSING = ("", "nan", "NaN", "NA", "None")
_IDS = ("recording_id", "patient_id", "patient id", "id", "filename", "file", "uuid")
# Column names of publishers that are neither a finding's name nor its label.
_COLUMNS = {
    "age": "age_group",
    "murmur locations": "murmur_sites",
    "most audible location": "most_audible",
    "pregnancy status": "pregnant",
    "grading": "grade",
}
_PARTS = ("timing", "shape", "grade", "pitch", "quality")


class OutsideError(ValueError):
    """A csv that cannot be audited; says what is missing."""


@dataclass(frozen=True)
class Outside:
    """One row: who, what is recorded, and the text."""

    name: str
    findings: dict[str, Value]
    text: str


def audit(manifest: Manifest, rows: Iterator[Outside]) -> Summary:
    """Check texts against metadata; texts that several rows share count as duplicates."""
    lexicon = compile_lexicon(manifest, load_all().values())
    parser, summary = Parser(lexicon), Summary()
    kept = list(rows)
    often = Counter(texts.fingerprint(row.text) for row in kept)
    for row in kept:
        findings = resolve(manifest, row.findings)
        found = list(texts.defects(row.text))
        pieces = _SENTENCE.split(row.text)
        for piece in pieces:
            found += [
                d
                for d in check.against(lexicon, findings, parser.read(piece), piece)
                if d.kind != "unread"
            ]
        if (shared := often[texts.fingerprint(row.text)]) > 1:
            found.append(Defect("duplicate", f"{shared} rows have this text", row.text))
        summary.add(row.name, row.text, found, len(pieces))
    return summary


def read(
    manifest: Manifest, path: Path, text_column: str = "Gen_Report", join: Path | None = None
) -> Iterator[Outside]:
    """Rows of a csv whose metadata are columns, a "Name: value, ..." column, or a joined csv.

    Raises:
        OutsideError: No text, no metadata, or a code that the manifest does not know.
    """
    names = _names(manifest)
    joined = _by_id(join) if join else {}
    for number, row in enumerate(_table(path), 2):
        if text_column not in row:
            raise OutsideError(f"{path.name} has no column {text_column!r}: {', '.join(row)}")
        name = _id_of(row) or str(number)
        if join and name not in joined:
            raise OutsideError(f"{path.name} line {number}: {join.name} has no row {name!r}")
        said = _pairs(row) | row | joined.get(name, {})
        try:
            findings = _findings(manifest, names, said)
            resolve(manifest, findings)
        except (UnknownCode, ValueError) as error:
            raise OutsideError(f"{path.name} line {number}: {error}") from error
        if not findings:
            known = ", ".join(sorted(names))
            raise OutsideError(f"{path.name} has no column of {manifest.id}; known: {known}")
        yield Outside(name, findings, row[text_column])


def _table(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        yield from csv.DictReader(lines, restval="")


def _by_id(path: Path) -> dict[str, dict[str, str]]:
    return {_id_of(row): row for row in _table(path)}


def _id_of(row: Mapping[str, str]) -> str:
    return next((v for k, v in row.items() if k.strip().lower() in _IDS), "")


def _names(manifest: Manifest) -> dict[str, str]:
    """Column name in one form -> finding."""
    known: dict[str, str] = {}
    for name, spec in manifest.findings.items():
        known |= {name.replace("_", " "): name, " ".join(lemmas(spec.label)): name}
    for column, name in _COLUMNS.items():
        if name in manifest.findings:
            known.setdefault(column, name)
    for phase in ("systolic", "diastolic"):
        for part in (*_PARTS, "grading"):
            name = f"{phase}_{'grade' if part == 'grading' else part}"
            if name in manifest.findings:
                known[f"{phase} murmur {part}"] = name
    return known


def _pairs(row: Mapping[str, str]) -> dict[str, str]:
    """Metadata written as one text; "Shape" after "Systolic murmur timing" is of that murmur."""
    found: dict[str, str] = {}
    for text in row.values():
        if not (text and re.match(r"[A-Z][A-Za-z ]*: \S+(, |$)", text)):
            continue
        phase = ""
        for key, value in _PAIR.findall(text):
            if "murmur timing" in key:
                phase = key.removesuffix("timing")
            bare = phase and key.lower() in (*_PARTS, "grading")
            found[f"{phase}{key}" if bare else key] = value
    return found


def _findings(
    manifest: Manifest, names: Mapping[str, str], said: Mapping[str, str]
) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for column, text in said.items():
        key = " ".join(column.replace("_", " ").strip(" :").lower().split())
        name = names.get(key)
        if name is not None and text not in _MISSING:
            found[name] = _value(manifest.findings[name], text.strip())
    return found


def _value(spec: FindingSpec, text: str) -> Value:
    if spec.kind == "number":
        return float(text)
    if spec.kind == "flag":
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise ValueError(f"{spec.label} is true or false; got {text!r}")
        return text.lower() in ("true", "1", "yes")
    return tuple(re.split(r"[+;|]", text)) if spec.kind == "codes" else text
