"""Everything that the page of one recording shows beside its chain."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pipeline import readers
from pipeline.explorer import sound
from pipeline.explorer.catalog import Catalog
from pipeline.explorer.reading import APART, KINDS
from pipeline.findings import Finding, UnknownCode, resolve
from pipeline.lineage.evidence import Evidence, archive_root, gather
from pipeline.records import Event

SHOWN = 20_000  # characters of a value of the raw metadata
_STATES = ("stated", "absent", "unknown")


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A sentence of a report, and the findings that it states: name and label."""

    text: str
    findings: list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a file is no recording."""

    reason: str
    file: str
    said: str


@dataclass(frozen=True, kw_only=True)
class Details:
    """One recording or refused file."""

    name: str
    dataset: str
    title: str
    kind: str
    evidence: Evidence | None = None  # None for a refused file
    refused: Refusal | None = None
    findings: list[Finding] = field(default_factory=list[Finding])
    silent: list[str] = field(default_factory=list[str])  # about which the source says nothing
    full: list[Sentence] = field(default_factory=list[Sentence])
    strict: list[Sentence] = field(default_factory=list[Sentence])
    row: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    events: list[Event] = field(default_factory=list[Event])
    events_note: str = ""
    heard: sound.Sound | None = None
    heard_note: str = ""
    outline: str = ""


def of(catalog: Catalog, name: str) -> Details:
    """Read the rows, the annotations and the sound of one recording.

    Raises:
        KeyError: The catalog has no such row.
        LineageError: A table is missing or of another version.
    """
    at = catalog.row(name)
    if at is None:
        raise KeyError(name)
    dataset, kind = catalog.names["dataset"].name(at), catalog.names["kind"].name(at)
    manifest = catalog.tables.manifests[dataset]
    base = Details(name=name, dataset=dataset, title=manifest.title, kind=kind)
    if kind == KINDS[2]:
        said, _, file = catalog.searched[at].as_py().split(APART)
        reason = catalog.names["reason"].name(at)
        return replace(base, refused=Refusal(reason=reason, file=file, said=said))
    row = catalog.tables.row("recordings", dataset, recording_id=name)
    if row is None:
        raise KeyError(name)
    evidence = gather(catalog.tables, row)
    labels = {n: spec.label for n, spec in manifest.findings.items()}
    try:
        stated = list(resolve(manifest, evidence.findings).values())
    except UnknownCode:  # an older table: show what it says, without words
        stated = [
            Finding(name=n, label=labels.get(n, n), status="stated", value=v)
            for n, v in evidence.findings.items()
        ]
    raw: dict[str, str] = json.loads(row["row"])
    events, events_note = _events(catalog, dataset, row["member"], raw)
    heard, heard_note = _heard(catalog, name)
    return replace(
        base,
        evidence=evidence,
        findings=[f for f in stated if f.status in _STATES],
        silent=[f.label for f in stated if f.status not in _STATES],
        full=_sentences(evidence, "full", labels),
        strict=_sentences(evidence, "strict", labels),
        row=[(k, v if len(v) <= SHOWN else _cut(v)) for k, v in raw.items()],
        events=events,
        events_note=events_note,
        heard=heard,
        heard_note=heard_note,
        outline=sound.outline(heard) if heard else "",
    )


def _cut(value: str) -> str:
    return f"{value[:SHOWN]}... ({len(value):,} characters)"


def _sentences(evidence: Evidence, regime: str, labels: Mapping[str, str]) -> list[Sentence]:
    report = evidence.report or {}
    return [
        Sentence(text=s["text"], findings=[(n, labels.get(n, n)) for n in s["findings"]])
        for s in json.loads(report.get(f"{regime}_sentences") or "[]")
    ]


def _events(
    catalog: Catalog, dataset: str, member: str, row: Mapping[str, str]
) -> tuple[list[Event], str]:
    try:
        archive = archive_root(catalog.tables, dataset)
        return readers.events(dataset, archive, member, row), ""
    except (ValueError, KeyError, OSError) as error:
        return [], f"The annotations cannot be read: {error}"


def _heard(catalog: Catalog, name: str) -> tuple[sound.Sound | None, str]:
    import soundfile

    try:
        return sound.decoded(catalog.flac(name)), ""
    except FileNotFoundError as error:
        return None, str(error)
    except soundfile.LibsndfileError as error:
        return None, f"Its part was altered: the sound is no FLAC any more ({error})"
