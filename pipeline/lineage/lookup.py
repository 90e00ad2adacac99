"""What a user has in hand -> what it is called in the corpus, forwards and backwards."""

import difflib
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.lineage import shard_alone
from pipeline.lineage.chain import Kind, UnknownId
from pipeline.lineage.evidence import archive_root
from pipeline.lineage.tables import Tables
from pipeline.records import pair_id

_PAIR = re.compile(r"[0-9a-f]{16}")
_BEGINNING = re.compile(r"[0-9a-f]{6,15}")
_PREFIXES = ("person", "template", "file", "report")
_COMPARED = 5000  # names that are looked at for suggestions
_SUGGESTED = 5


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Something that a chain can be made of.

    Attributes:
        kind: Whether it is a pair, a recording that is only probed, or refused.
        dataset: Whose.
        name: Recording id, or the name in the quarantine table.
    """

    kind: Kind
    dataset: str
    name: str


def find(tables: Tables, what: str) -> list[Subject]:
    """Everything that ``what`` names.

    Args:
        tables: Of the corpus.
        what: A pair id or the beginning of one, a recording id, a name in the quarantine, a path of
            a sound (in an archive, or a copy of it anywhere), ``shard.tar:key`` or a shard; or,
            backwards, ``person:<id>``, ``template:<version>``, ``report:<hash>`` or
            ``file:<path in the archive>``. The word before the colon may be left out.

    Raises:
        UnknownId: Nothing is called so.
    """
    prefix, colon, rest = what.partition(":")
    if colon and prefix in _PREFIXES:
        return _certain(tables, what, _backwards(tables, prefix, rest))
    if ".tar:" in what:
        return _certain(tables, what, _pairs(tables, [what.rpartition(":")[2]]))
    if is_file(what):
        return _of_file(tables, Path(what))
    for tried in (_by_pair_id, _by_recording_id, _by_quarantine, _by_member):
        if found := list(tried(tables, what)):
            return found
    for backwards in ("person", "template", "report"):
        if found := list(_backwards(tables, backwards, what)):
            return found
    raise UnknownId(f"nothing here is called {what!r}{_suggestions(tables, what)}")


def is_file(what: str) -> bool:
    """Whether this is the path of a file; what cannot be a path is none."""
    try:
        return Path(what).is_file()
    except OSError:  # too long a name
        return False


def _certain(tables: Tables, what: str, found: Iterable[Subject]) -> list[Subject]:
    if sure := list(found):
        return sure
    raise UnknownId(f"nothing here is called {what!r}{_suggestions(tables, what)}")


def _by_pair_id(tables: Tables, what: str) -> Iterator[Subject]:
    if _PAIR.fullmatch(what):
        yield from _pairs(tables, [what])
        return
    if _BEGINNING.fullmatch(what) and tables.exists("pairs"):
        ids = tables.column("pairs", "pair_id")
        yield from _pairs(tables, [i for i in ids.to_pylist() if i.startswith(what)])


def _pairs(tables: Tables, keys: list[str]) -> Iterator[Subject]:
    if keys and tables.exists("pairs"):
        columns = ["recording_id", "dataset"]
        for row in tables.rows("pairs", "", {"pair_id": keys}, columns):
            yield Subject(kind="pair", dataset=row["dataset"], name=row["recording_id"])


def _by_recording_id(tables: Tables, what: str) -> Iterator[Subject]:
    if dataset := tables.dataset(what):
        yield from _recordings(tables, dataset, recording_id=what)


def _recordings(tables: Tables, dataset: str, **equal: str | list[str]) -> Iterator[Subject]:
    found = [r["recording_id"] for r in tables.rows("recordings", dataset, equal, ["recording_id"])]
    paired = {s.name for s in _pairs(tables, [pair_id(name) for name in found])}
    for name in found:
        kind = "pair" if name in paired else "recording"
        yield Subject(kind=kind, dataset=dataset, name=name)


def _by_quarantine(tables: Tables, what: str) -> Iterator[Subject]:
    """A refused file by its name, with or without the dataset, its folders or its ending."""
    dataset = tables.dataset(what)
    wanted = what.removeprefix(f"{dataset}/") if dataset else what
    for name in [dataset] if dataset else tables.datasets:
        if not tables.exists("quarantine", name):
            continue
        names = sorted(set(tables.column("quarantine", "name", name).to_pylist()))
        for known in names:
            last = known.rpartition("/")[2]
            if wanted in (known, last, last.rpartition(".")[0]):
                yield Subject(kind="quarantined", dataset=name, name=known)


def _by_member(tables: Tables, what: str) -> Iterator[Subject]:
    dataset = tables.dataset(what)
    member = what.removeprefix(f"{dataset}/") if dataset else what
    for name in [dataset] if dataset else tables.datasets:
        yield from _recordings(tables, name, member=member)


def _backwards(tables: Tables, by: str, value: str) -> Iterator[Subject]:
    if by == "file":
        yield from _by_member(tables, value)
        yield from _by_quarantine(tables, value)
    elif by == "person" and tables.exists("subjects"):
        ids = [r["recording_id"] for r in tables.rows("subjects", "", {"person_id": value})]
        for dataset in sorted({i.partition("/")[0] for i in ids}):
            yield from _recordings(tables, dataset, recording_id=ids)
    elif by in ("template", "report") and tables.exists("pairs"):
        names = ["template_version"] if by == "template" else ["full_hash", "strict_hash"]
        seen: set[str] = set()
        for name in names:
            for row in tables.rows("pairs", "", {name: value}, ["recording_id", "dataset"]):
                if row["recording_id"] not in seen:
                    seen.add(row["recording_id"])
                    yield Subject(kind="pair", dataset=row["dataset"], name=row["recording_id"])


def _of_file(tables: Tables, path: Path) -> list[Subject]:
    """A shard's pairs, or what was made of a sound's bytes, wherever a copy of it lies."""
    if path.suffix == ".tar":
        return _certain(tables, str(path), _pairs(tables, shard_alone.keys(path)))
    whole = path.resolve()
    for dataset in tables.datasets:
        root = archive_root(tables, dataset).resolve()
        if whole.is_relative_to(root):
            member = whole.relative_to(root).as_posix()
            found = [*_by_member(tables, f"{dataset}/{member}")]
            if found := found or [*_by_quarantine(tables, f"{dataset}/{member}")]:
                return found
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    found = [s for d in tables.datasets for s in _recordings(tables, d, raw_sha256=sha256)]
    if found:
        return found
    raise UnknownId(
        f"no recording here was made of {path} (sha256 {sha256}), and no archive here holds it"
    )


def _suggestions(tables: Tables, what: str) -> str:
    """Names that share a piece with ``what``, the nearest first."""
    pieces = {p for p in re.split(r"[^A-Za-z0-9]+", what.lower()) if len(p) > 1}
    dataset = tables.dataset(what)
    names: list[str] = []
    for here in [dataset] if dataset else tables.datasets:
        names += tables.column("recordings", "recording_id", here).to_pylist()
    if tables.exists("pairs") and re.fullmatch(r"[0-9a-f]{4,}", what):
        names += tables.column("pairs", "pair_id").to_pylist()
        pieces |= {what[:4]}
    alike = [n for n in names if any(p in n.lower() for p in pieces - {dataset})]
    near = difflib.get_close_matches(what, (alike or names)[:_COMPARED], _SUGGESTED, 0.5)
    if near:
        return f"; nearly so: {', '.join(near)}"
    return f"; the datasets here are {', '.join(tables.datasets)}"
