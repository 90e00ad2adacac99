"""A quarantined file -> its chain: the archive, the file, and the reason."""

from pipeline.lineage import derived as again
from pipeline.lineage import links
from pipeline.lineage.chain import Chain, Link
from pipeline.lineage.derived import Derived, Verdict
from pipeline.lineage.evidence import archive_root
from pipeline.lineage.lookup import Subject
from pipeline.lineage.tables import Tables


def chain(tables: Tables, subject: Subject, derived: Derived | None) -> Chain:
    """Archive, the file's name, and each reason why it was not used."""
    first = links.archive(tables, tables.manifests[subject.dataset])
    path = archive_root(tables, subject.dataset) / subject.name
    there = path.is_file()
    member = Link(
        name="member",
        title="File in the archive",
        facts={"name": subject.name, "bytes": path.stat().st_size if there else None},
        note="" if there else "no file of this path; the name stands in the metadata",
    )
    rows = tables.rows("quarantine", subject.dataset, {"name": subject.name})
    found = [
        Link(
            name="quarantine",
            title="Not used",
            facts={n: row[n] for n in ("reason", "meaning", "detail")},
        )
        for row in rows
    ]
    if derived:
        first = first.judged(*derived.once(again.archive, tables, subject.dataset))
        found = [link.judged(*_check(tables, subject, link, derived)) for link in found]
    name = f"{subject.dataset}/{subject.name}"
    return Chain(subject=name, kind="quarantined", links=(first, member, *found))


def _check(tables: Tables, subject: Subject, link: Link, derived: Derived) -> Verdict:
    """The reader, or the decoder, refuses it again for the same reason."""
    from pipeline.steps import audio

    reason = link.facts["reason"]
    reading = derived.once(again.refusals, tables, subject.dataset)
    if reason in reading.get(subject.name, ()):
        return "verified", ""
    path = archive_root(tables, subject.dataset) / subject.name
    if reason in ("unknown_code", "bad_metadata", "conflicting_duplicate"):
        return "recorded", "decided over several rows; materialise the recordings to decide anew"
    if not path.is_file():
        return "missing", f"{path} is not there"
    try:
        audio.normalise(path)
    except audio.BadAudio as error:
        if error.reason == reason:
            return "verified", ""
        return "altered", f"it is now refused as {error.reason}: {error.detail}"
    return "altered", "it can be used now: materialise the recordings again"
