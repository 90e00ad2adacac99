"""Checks of what training left: the table of teacher vectors, the weights of a run."""

import hashlib
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.lineage.chain import Link
from pipeline.lineage.derived import Derived, Verdict
from pipeline.lineage.evidence import Evidence
from pipeline.lineage.training import CONFIG, WEIGHTS


def vectors(evidence: Evidence, derived: Derived, link: Link) -> Verdict:
    """The table still has the version that its step recorded."""
    table = evidence.tables.corpus.data_root / link.facts["table"]
    found = derived.once(vectors_version, table)
    if found != link.facts["version"]:
        return "altered", f"the vectors are version {found}, recorded is {link.facts['version']}"
    return "verified", ""


def vectors_version(table: Path) -> str:
    """As ``teachers.vectors.write`` states it, without holding all vectors."""
    file, hasher = pq.ParquetFile(table), hashlib.sha256()
    for column in ("report_hash", "vector"):
        for batch in file.iter_batches(columns=[column]):
            values = batch.column(0)
            if column == "report_hash":
                hasher.update("".join(values.to_pylist()).encode())
            else:
                hasher.update(values.flatten().to_numpy(zero_copy_only=False).tobytes())
    return hasher.hexdigest()[:16]


def runs(evidence: Evidence, derived: Derived, link: Link) -> Verdict:
    """The weights of the run's checkpoint still have the hash that is recorded beside them."""
    if "weights_sha256" not in link.facts:
        return "recorded", link.note or "it has left no weights yet"
    folder = evidence.tables.corpus.runs / link.facts["run"] / "checkpoint"
    if not (folder / WEIGHTS).is_file():
        return "missing", f"{folder / WEIGHTS} is not there, and {CONFIG} beside it is"
    found = derived.once(weights_hash, folder / WEIGHTS)
    if found != link.facts["weights_sha256"]:
        return "altered", f"sha256 of the weights is {found}, {CONFIG} says another"
    return "verified", link.note


def weights_hash(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
