"""From any pair to its bytes: which archive, file, row, template, rule, vector and run made it.

The tables answer, by one row of each; ``verify`` derives every link again from what the link before
it records. Dagster's own events are added by the wiring (``pipeline.defs.events``).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.lineage import links, training
from pipeline.lineage.chain import Chain, Kind, LineageError, Link, State, UnknownId
from pipeline.lineage.evidence import gather
from pipeline.lineage.lookup import Subject, find, is_file
from pipeline.lineage.shard_alone import trace as trace_shard
from pipeline.lineage.tables import Tables

if TYPE_CHECKING:
    from pipeline.lineage.derived import Derived

__all__ = [
    "Chain", "Kind", "LineageError", "Link", "State", "Subject", "Tables", "UnknownId", "chain",
    "every", "find", "is_file", "size", "trace", "trace_shard",
]  # fmt: skip


def trace(data_root: Path, what: str, *, verify: bool = False) -> Chain:
    """The chain of the one thing that ``what`` names; see ``lookup.find``.

    Raises:
        UnknownId: Nothing is called so; suggests what is.
        LineageError: It names several; or the corpus cannot be read; says what to do.
    """
    tables = Tables(data_root)
    first, *others = find(tables, what)
    if others:
        raise LineageError(
            f"{what!r} names {len(others) + 1} recordings, such as {first.name} and "
            f"{others[0].name}: trace one of them"
        )
    if not verify:
        return chain(tables, first)
    from pipeline.lineage.derived import Derived  # knows all steps, which take a second to import

    return chain(tables, first, Derived())


def chain(tables: Tables, subject: Subject, derived: "Derived | None" = None) -> Chain:
    """The chain of a subject, verified if what is derived anew is given."""
    if subject.kind == "quarantined":
        from pipeline.lineage import refused

        return refused.chain(tables, subject, derived)
    row = tables.row("recordings", subject.dataset, recording_id=subject.name)
    if row is None:
        raise UnknownId(f"{subject.name} is not in the recordings of {subject.dataset}")
    evidence = gather(tables, row)
    found = Chain(
        subject=evidence.pair_id if evidence.pair else subject.name,
        kind="pair" if evidence.pair else "recording",
        links=(*links.of(evidence), *(training.of(evidence) if evidence.pair else ())),
    )
    if derived is None:
        return found
    from pipeline.lineage.verify import check

    return check(found, evidence, derived)


def size(tables: Tables, dataset: str) -> int:
    """Number of recordings of a dataset.

    Raises:
        UnknownId: The dataset is not here.
    """
    if dataset not in tables.datasets:
        raise UnknownId(f"no dataset {dataset!r} here; there are {', '.join(tables.datasets)}")
    return len(tables.column("recordings", "recording_id", dataset))


def every(tables: Tables, dataset: str, derived: "Derived | None" = None) -> Iterator[Chain]:
    """The chains of all recordings of one dataset; its tables are read once.

    Raises:
        UnknownId: The dataset is not here.
    """
    size(tables, dataset)
    for table in ("recordings", "reports"):
        if tables.exists(table, dataset):
            tables.keep(table, "recording_id", dataset)
    for table, column in (("subjects", "recording_id"), ("pairs", "pair_id")):
        if tables.exists(table):
            tables.keep(table, column, of=dataset)
    if tables.exists("shards"):
        tables.keep("shards", "pair_id")
    for name in tables.column("recordings", "recording_id", dataset).to_pylist():
        yield chain(tables, Subject(kind="recording", dataset=dataset, name=name), derived)
