"""Links -> links checked against the bytes, the raw metadata, the rules and the templates of now.

Each link is derived again from what the links before it *record*, so a change shows in the one
link where it happened. A link whose own input is missing or altered is left as recorded.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pipeline.lineage import derived as again
from pipeline.lineage.chain import BAD, Chain, Link
from pipeline.lineage.derived import Derived, Verdict
from pipeline.lineage.evidence import Evidence, archive_root
from pipeline.lineage.verify_run import runs, vectors
from pipeline.steps import parts, remote

GOOD: Verdict = ("verified", "")
# Columns of a recording that its reader decides, besides findings and the raw row.
_FROM_NAMES = (
    "member", "modality", "case_id", "person", "linked", "proxy", "official_split",
)  # fmt: skip
_MEASURED = tuple(f.name for f in parts.FACTS)
_RMS_STEP = 0.0101  # dB: the last digit that is kept
# Link -> the links that it is derived from.
_NEEDS: dict[str, tuple[str, ...]] = {
    "member": ("archive",),
    "audio": ("member",),
    "metadata": ("archive",),
    "findings": ("metadata",),
    "report": ("findings",),
    "pair": ("audio", "person", "split", "report"),
    "shard": ("pair",),
}


def check(chain: Chain, evidence: Evidence, derived: Derived) -> Chain:
    """The chain with every link judged.

    Args:
        chain: As recorded.
        evidence: What it was made of.
        derived: What many chains share: rows read again, persons decided again.
    """
    links: list[Link] = []
    causes: dict[str, list[str]] = {}  # of links that are broken, or not checked for their sake
    for link in chain.links:
        needed = [c for n in _NEEDS.get(link.name, ()) for c in causes.get(n, ())]
        if link.state in BAD:
            causes[link.name] = [link.name]
        elif needed:
            why = list(dict.fromkeys(needed))
            causes[link.name] = why
            link = link.judged("recorded", f"not checked: see {' and '.join(why)}")
        else:
            link = link.judged(*_CHECKS[link.name](evidence, derived, link))
            if link.state in BAD:
                causes[link.name] = [link.name]
        links.append(link)
    return replace(chain, links=tuple(links))


def _archive(evidence: Evidence, derived: Derived, link: Link) -> Verdict:
    return derived.once(again.archive, evidence.tables, evidence.manifest.id)


def _member(evidence: Evidence, derived: Derived, link: Link) -> Verdict:
    row, path = evidence.recording, evidence.member
    root = archive_root(evidence.tables, evidence.manifest.id)
    if not path.resolve().is_relative_to(root.resolve()):
        return "altered", f"{row['member']} leads out of the archive"
    if not path.is_file():
        return "missing", f"{path} is not there"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != row["raw_sha256"]:
        return "altered", f"sha256 of the file is {found}, recorded is {row['raw_sha256']}"
    listed = derived.once(again.sums_of, evidence.here).get(row["member"])
    if listed and listed != found:
        return "altered", f"sha256 of the file is {found}, as unpacked it was {listed}"
    return GOOD


def _audio(evidence: Evidence, derived: Derived, link: Link) -> Verdict:
    from pipeline.steps import audio

    row = evidence.recording
    tar = evidence.here.parts / f"{row['part']}.tar"
    remote.need(tar)
    if not tar.is_file():
        return "missing", f"{tar} is not there: materialise {evidence.manifest.id}/recordings"
    flac = parts.read_flac(evidence.here.parts, row["part"], row["offset"], row["size"])
    kept = sound_hash(flac)
    if kept != row["audio_sha256"]:
        return "altered", f"sha256 of the part's samples is {kept}, recorded {row['audio_sha256']}"
    try:
        now = audio.normalise(evidence.member)
    except audio.BadAudio as error:
        return "altered", f"the file can no longer be decoded: {error.detail}"
    if now.audio_sha256 != kept:
        return "altered", (
            f"the file now decodes to samples of sha256 {now.audio_sha256}, recorded {kept}: "
            "another version of the decoder or of soxr"
        )
    if now.flac != flac:  # equal samples, other bytes
        return "recorded", "equal samples; this version of the FLAC encoder writes other bytes"
    # The mean of squares is summed in an order that differs between processors.
    loudness = abs(now.rms_dbfs - row["rms_dbfs"]) <= _RMS_STEP
    measured = {n: getattr(now, n) for n in _MEASURED if n != "rms_dbfs" or not loudness}
    return _agree(measured, row, "the file says")


def sound_hash(flac: bytes) -> str:
    """sha256 of the 16-bit samples of a FLAC; a reason in brackets where it has none."""
    import soundfile

    try:
        samples, _ = soundfile.read(io.BytesIO(flac), dtype="int16")
    except soundfile.LibsndfileError as error:
        return f"(not decodable: {error.error_string})"
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()


def _metadata(evidence: Evidence, derived: Derived, link: Link) -> Verdict:
    row = evidence.recording
    found = derived.once(again.read, evidence.tables, evidence.manifest.id).get(row["native_id"])
    if found is None:
        refused = derived.once(again.refusals, evidence.tables, evidence.manifest.id)
        name = row["member"].rpartition("/")[2]
        said = refused.get(row["member"]) or refused.get(name) or {}
        why = "; ".join(f"{reason} ({detail})" for reason, detail in said.items())
        return "altered", f"the reader now refuses it: {why or 'no row names it any more'}"
    now = {n: found[n] for n in _FROM_NAMES}
    said = _agree(now, row, "the archive now says")
    if said != GOOD:
        return said
    return _same(json.loads(found["row"]), json.loads(row["row"]), "the archive now says")


def _findings(evidence: Evidence, derived: Derived, link: Link) -> Verdict:
    found = derived.once(again.read, evidence.tables, evidence.manifest.id)[
        evidence.recording["native_id"]
    ]
    return _same(json.loads(found["findings"]), evidence.findings, "read from the archive now")


def _person(evidence: Evidence, derived: Derived, link: Link) -> Verdict:
    subject = evidence.subject or {}
    now = derived.person(evidence.tables, evidence.recording["recording_id"])
    names = ("person_id", "identity", "links", "case_id")
    return _agree({n: now[n] for n in names}, subject, "the rules now give")


def _split(evidence: Evidence, derived: Derived, link: Link) -> Verdict:
    subject, pair = evidence.subject or {}, evidence.pair
    now = derived.person(evidence.tables, evidence.recording["recording_id"])
    said = _agree({n: now[n] for n in ("split", "split_rule")}, subject, "the rules now give")
    if said != GOOD or not pair:
        return said
    align = derived.align(evidence.tables, subject)
    return _agree({"align": align}, pair, "the tasks now give")


def _report(evidence: Evidence, derived: Derived, link: Link) -> Verdict:
    root = evidence.tables.corpus.data_root
    return again.report(root, evidence.manifest, evidence.report or {}, evidence.findings)


def _pair(evidence: Evidence, derived: Derived, link: Link) -> Verdict:
    assert evidence.pair
    made_of: dict[str, Any] = {}
    for source in (evidence.recording, evidence.subject, evidence.report):
        made_of |= source or {}
    made_of |= {"pair_id": evidence.pair_id}
    names = [n for n in evidence.pair if n != "align"]
    return _agree({n: made_of.get(n) for n in names}, evidence.pair, "the tables before it say")


def _shard(evidence: Evidence, derived: Derived, link: Link) -> Verdict:
    from pipeline.lineage import shard_alone
    from pipeline.steps.shards import described

    assert evidence.pair and evidence.place
    path = evidence.tables.corpus.shards / evidence.place["shard"]
    remote.need(path)
    if not path.is_file():
        return "missing", f"{path} is not there: materialise `shards`"
    try:
        pair = shard_alone.at(path, evidence.place["shard_offset"], evidence.place["shard_size"])
    except ValueError as error:
        return "altered", f"{path.name} at {evidence.place['shard_offset']}: {error}"
    said = _agree(described(evidence.pair), pair.meta, "the table of pairs says")
    if said != GOOD:
        return said
    found = sound_hash(pair.flac)
    if found != evidence.pair["audio_sha256"]:
        return "altered", (
            f"sha256 of the shard's samples is {found}, recorded {evidence.pair['audio_sha256']}"
        )
    return GOOD


def _agree(now: Mapping[str, Any], recorded: Mapping[str, Any], who: str) -> Verdict:
    """Verified, or altered with the first value of ``now`` that is recorded otherwise."""
    for name, value in now.items():
        if recorded.get(name) != value:
            old, new = _short(recorded.get(name)), _short(value)
            return "altered", f"{name}: {who} {new}, recorded is {old}"
    return GOOD


def _same(now: Mapping[str, Any], recorded: Mapping[str, Any], who: str) -> Verdict:
    """The same for two whole maps: nothing is recorded that ``now`` lacks."""
    if extra := sorted(recorded.keys() - now.keys()):
        return "altered", f"{extra[0]}: {who} nothing, recorded is {_short(recorded[extra[0]])}"
    return _agree(now, recorded, who)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


_CHECKS: dict[str, Callable[[Evidence, Derived, Link], Verdict]] = {
    "archive": _archive,
    "member": _member,
    "audio": _audio,
    "metadata": _metadata,
    "findings": _findings,
    "person": _person,
    "split": _split,
    "report": _report,
    "pair": _pair,
    "shard": _shard,
    "teacher_vector": vectors,
    "run": runs,
}
