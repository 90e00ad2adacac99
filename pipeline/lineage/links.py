"""Evidence -> links: what the tables say at each step, before anything is checked."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.lineage.chain import Link
from pipeline.lineage.evidence import Evidence, archive_root
from pipeline.lineage.tables import Tables
from pipeline.manifest import Manifest
from pipeline.steps.report_parts import REGIMES
from pipeline.steps.report_table import REWRITING

_FORMAT = ("native_format", "native_rate", "native_channels", "duration_s")
_QUALITY = ("peak", "rms_dbfs", "clipped_fraction")
_COMPANIONS = 20  # further recordings of a person that are listed


def of(evidence: Evidence) -> Iterator[Link]:
    """All links up to the shard, in order; those of steps that do not apply are left out."""
    yield archive(evidence.tables, evidence.manifest)
    yield _member(evidence)
    yield _audio(evidence)
    yield _metadata(evidence)
    yield _findings(evidence)
    if evidence.subject:
        yield _person(evidence, evidence.subject)
        yield _split(evidence, evidence.subject)
    if evidence.report:
        yield _report(evidence.report)
    if evidence.pair:
        yield _pair(evidence.pair)
        yield _shard(evidence)


def archive(tables: Tables, manifest: Manifest) -> Link:
    """Where the dataset came from, by which licence, and when."""
    here = tables.corpus.dataset(manifest.id)
    stamp = tables.stamp(here.archive_stamp)
    known, inputs = stamp.get("facts", {}), stamp.get("inputs", {})
    facts = about(manifest) | {
        "source": known.get("source"),
        "version": stamp.get("version"),
        "folder": str(archive_root(tables, manifest.id)),
        "files": known.get("files"),
        "bytes": known.get("bytes"),
    }
    if known.get("source") == "download":
        facts |= {"edition": inputs.get("edition"), "sha256_of_all_files": known.get("content")}
        facts["packed_files"] = tables.stamp(here.sources) or []
    elif known.get("source") == "sample":
        facts |= {"seed": inputs.get("seed"), "scale": inputs.get("scale")}
        facts["note"] = "made up by this project in the layout of the dataset; no patient's data"
    return Link(name="archive", title="Archive", facts=facts)


def about(manifest: Manifest) -> dict[str, Any]:
    """Whose data they are."""
    return {
        "dataset": manifest.id,
        "title": manifest.title,
        "dataset_version": manifest.version,
        "licence": manifest.licence.name,
        "licence_stated_at": manifest.licence.source,
        "attribution": manifest.attribution,
        "homepage": manifest.homepage,
        "published_at": [f.urls[0] for f in manifest.files],
    }


def _member(evidence: Evidence) -> Link:
    row = evidence.recording
    names = ("member", "raw_bytes", "raw_sha256", "native_id", "modality")
    return Link(name="member", title="File in the archive", facts={n: row[n] for n in names})


def _audio(evidence: Evidence) -> Link:
    row = evidence.recording
    facts = {n: row[n] for n in (*_FORMAT, *_QUALITY, "audio_sha256")}
    facts |= {"normalised_format": "FLAC, 16-bit, mono, 16000 Hz"}
    facts |= {
        "part": f"{evidence.here.parts.name}/{row['part']}.tar",
        "offset": row["offset"],
        "size": row["size"],
    }
    return Link(name="audio", title="Normalised sound", facts=facts)


def _metadata(evidence: Evidence) -> Link:
    return Link(
        name="metadata",
        title="Metadata as they stood",
        facts=json.loads(evidence.recording["row"]),
    )


def _findings(evidence: Evidence) -> Link:
    from pipeline.findings import UnknownCode, resolve

    values = evidence.findings
    try:
        known = resolve(evidence.manifest, values)
    except UnknownCode as error:
        link = Link(name="findings", title="Findings read from them", facts=values)
        return link.judged("altered", f"the manifest has no word for them: {error}")
    facts = {
        name: {"code": values.get(name), "word": str(f), "unit": f.unit, "status": f.status}
        for name, f in known.items()
        if f.status != "not_recorded"
    }
    return Link(name="findings", title="Findings read from them", facts=facts)


def _person(evidence: Evidence, subject: Mapping[str, Any]) -> Link:
    tables, key = evidence.tables, evidence.recording["recording_id"]
    same = {"person_id": subject["person_id"]}
    others = tables.rows("subjects", "", same, ["recording_id"])
    ids = sorted(r["recording_id"] for r in others if r["recording_id"] != key)
    row = evidence.recording
    facts = {
        "person_id": subject["person_id"],
        "identity": subject["identity"],
        "links": subject["links"],
        "native_person": row["person"],
        "linked_ids": row["linked"],
        "proxy": row["proxy"],
        "case_id": subject["case_id"],
        "further_recordings": len(ids),
        "such_as": ids[:_COMPANIONS],
    }
    return Link(name="person", title="Person", facts=facts)


def _split(evidence: Evidence, subject: Mapping[str, Any]) -> Link:
    facts = {
        "split": subject["split"],
        "rule": subject["split_rule"],
        "official_split": evidence.recording["official_split"],
    }
    if evidence.pair:
        facts["align"] = evidence.pair["align"]
        facts["why"] = (
            "alignment hears it"
            if evidence.pair["align"]
            else "a task holds the person out"
            if subject["split"] == "train"
            else f"the person is on the {subject['split']} side"
        )
    return Link(name="split", title="Split and regime", facts=facts)


def _report(report: Mapping[str, Any]) -> Link:
    facts: dict[str, Any] = {"template_version": report["template_version"]}
    for regime in REGIMES:
        facts |= {
            f"{regime}_text": report[f"{regime}_text"],
            f"{regime}_hash": report[f"{regime}_hash"],
            f"{regime}_sentences": json.loads(report[f"{regime}_sentences"]),
        }
    if report["rewriter"]:
        facts |= {f.name: report[f.name] for f in REWRITING}
    return Link(name="report", title="Report", facts=facts)


def _pair(pair: Mapping[str, Any]) -> Link:
    facts = {"pair_id": pair["pair_id"], "made_of": f"sha256 of {pair['recording_id']}"}
    return Link(name="pair", title="Pair", facts=facts)


def _shard(evidence: Evidence) -> Link:
    place = evidence.place
    if not place:
        return Link(name="shard", title="Shard").judged("missing", "no shard holds it yet")
    facts = {"shard": place["shard"], "key": place["pair_id"]}
    facts |= {"offset": place["shard_offset"], "size": place["shard_size"]}
    return Link(name="shard", title="Shard", facts=facts)
