"""What many chains share when they are verified: rows read again, persons decided again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from acula_model.teachers import hash_of
from pipeline import readers
from pipeline.fetch import sums
from pipeline.findings import UnknownCode
from pipeline.lineage.chain import LineageError, State
from pipeline.lineage.evidence import archive_root
from pipeline.lineage.tables import Row, Tables
from pipeline.manifest import Manifest
from pipeline.records import Recording, Rejected
from pipeline.rewriting import RewriteError, answers_in, rewrite
from pipeline.rewriting.cache import Cache
from pipeline.steps import acquire, layout, pairs, persons, recording_rows, remote, reports, store
from pipeline.steps.report_parts import REGIMES

Verdict = tuple[State, str]
T = TypeVar("T")


class Derived:
    """Each answer is worked out once; an object lives as long as one command."""

    def __init__(self) -> None:
        self._known: dict[tuple[Callable[..., Any], tuple[Any, ...]], Any] = {}

    def once(self, work: Callable[..., T], *given: Any) -> T:
        """What ``work`` gives, worked out the first time."""
        key = (work, given)
        if key not in self._known:
            self._known[key] = work(*given)
        return self._known[key]

    def person(self, tables: Tables, recording_id: str) -> Row:
        """Person and split as the rules of now give them."""
        known = self.once(_persons, tables)
        if recording_id not in known:
            raise LineageError(f"`subjects` was made without {recording_id}: materialise it again")
        return known[recording_id]

    def align(self, tables: Tables, subject: Row) -> bool:
        """Whether alignment may hear a recording of this person."""
        held = self.once(_held_out, tables)
        return subject["split"] == "train" and subject["person_id"] not in held


def sums_of(here: layout.Dataset) -> dict[str, str]:
    """sha256 of each file as it was unpacked; empty for archives that were not downloaded."""
    remote.need(here.sums)
    return sums.read(here.sums) if here.sums.is_file() else {}


def archive(tables: Tables, dataset: str) -> Verdict:
    """The folder is there with all of its files, and its list of checksums is the recorded one.

    The bytes of each file are the business of the link ``member``.
    """
    here = tables.corpus.dataset(dataset)
    facts = tables.stamp(here.archive_stamp).get("facts", {})
    root = archive_root(tables, dataset)
    if not facts:
        return "missing", f"{here.archive_stamp} is not there: materialise {dataset}/archive"
    if not root.is_dir():
        return "missing", f"{root} is not there"
    found = sum(1 for path in root.rglob("*") if path.is_file())
    if found != facts["files"]:
        return "altered", f"{root} holds {found} files, recorded are {facts['files']}"
    try:
        same = "content" not in facts or acquire.content(sums_of(here)) == facts["content"]
    except ValueError as error:
        return "altered", str(error)
    if not same:
        return "altered", f"{here.sums.name} is not the list of checksums that was recorded"
    return "verified", ""


def _entries(tables: Tables, dataset: str) -> list[Recording | Rejected]:
    return list(readers.reader(dataset).read(archive_root(tables, dataset)))


def read(tables: Tables, dataset: str) -> dict[str, Row]:
    """Native id -> columns of the recordings table as the reader gives them now."""
    return {
        entry.native_id: recording_rows.as_row(entry) | {"linked": list(entry.linked)}
        for entry in _entries(tables, dataset)
        if isinstance(entry, Recording)
    }


def refusals(tables: Tables, dataset: str) -> dict[str, dict[str, str]]:
    """Name -> reason -> detail, of what the reader refuses now."""
    found: dict[str, dict[str, str]] = {}
    for entry in _entries(tables, dataset):
        if isinstance(entry, Rejected):
            found.setdefault(entry.name, {})[entry.reason] = entry.detail
    return found


def _persons(tables: Tables) -> dict[str, Row]:
    """Of all recordings: a person is decided over all datasets together."""
    stamp = tables.stamp(tables.corpus.stamp("subjects"))
    if not stamp:
        raise LineageError("what `subjects` was made of is not recorded: materialise it again")
    made_of = stamp["inputs"]["recordings"]
    paths = [tables.sure("recordings", dataset) for dataset in made_of]
    rows = pa.concat_tables([store.read_table(p, persons.COLUMNS) for p in paths])
    return {s["recording_id"]: s for s in persons.group(rows).to_pylist()}


def _held_out(tables: Tables) -> frozenset[str]:
    rows = tables.rows("task_rows", columns=["person_id", "task", "variant", "fold"])
    return frozenset(pairs.held_out_persons(rows))


def report(data_root: Path, manifest: Manifest, recorded: Row, values: Row) -> Verdict:
    """Both texts rendered again; other words are found again by the key of their answer."""
    omitted = {"full": frozenset[str](), "strict": manifest.strict_masks}
    key, version = recorded["recording_id"], recorded["template_version"]
    answers = Cache(answers_in(data_root))
    for regime in REGIMES:
        sentences = json.loads(recorded[f"{regime}_sentences"])
        plain = " ".join(s["text"] for s in sentences)
        try:
            again = reports.rebuild(
                manifest, key, values, text=plain, version=version,
                omit=omitted[regime], folder=reports.FOLDER,
            )  # fmt: skip
            text = rewrite.text_of(recorded, regime, answers)
        except (reports.NotRebuilt, reports.Silent, UnknownCode, RewriteError) as error:
            return "altered", f"{regime}: {error}"
        if [[s.text, list(s.findings)] for s in again.sentences] != [
            [s["text"], s["findings"]] for s in sentences
        ]:
            return "altered", f"{regime}: its sentences name other findings"
        now = {
            f"{regime}_text": text,
            f"{regime}_terms": list(again.terms),
            f"{regime}_hash": hash_of(text, list(again.terms)),
        }
        for name, value in now.items():
            if recorded[name] != value:
                return "altered", f"{name}: made again it is {str(value)[:80]!r}"
    return "verified", ""
