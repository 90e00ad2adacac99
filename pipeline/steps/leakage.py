"""task rows + what a run was trained on -> who and what is on both sides of each task."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acula_model.training import job

Row = Mapping[str, Any]
# Of ``Counts``: what a clean split has none of. Who was only heard is a choice of the regime.
COUNTED = ("shared_persons", "aligned_persons", "near_duplicates")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a run learned from.

    Attributes:
        persons: Whose reports were aligned.
        heard: Who was heard, without a report.
        recordings: Of both.
    """

    persons: frozenset[str]
    heard: frozenset[str]
    recordings: frozenset[str]


def trained_on(run: Path, pairs: Iterable[Row]) -> Trained:
    """What the run really got, from its job file and not from the rule that should decide it.

    Args:
        run: Its folder.
        pairs: Columns pair_id, recording_id, person_id, align.

    Raises:
        FileNotFoundError: The folder has no job file.
    """
    path = run / job.JOB
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing, so nobody knows what this run was trained on: run "
            "`dagster asset materialize --select '*train_alignment'` again"
        )
    given = json.loads(path.read_text())
    aligned, heard = set(given["aligned"]), set(given.get("only_heard", ()))
    found: dict[str, set[str]] = {"persons": set(), "heard": set(), "recordings": set()}
    for row in pairs:
        if row["pair_id"] in aligned or row["align"]:
            found["persons"].add(row["person_id"])
        elif row["pair_id"] in heard:
            found["heard"].add(row["person_id"])
        else:
            continue
        found["recordings"].add(row["recording_id"])
    return Trained(**{name: frozenset(own) for name, own in found.items()})


@dataclass(frozen=True, kw_only=True)
class Counts:
    """As in ``results_schema.Leakage``."""

    shared_persons: int
    aligned_persons: int
    heard_persons: int
    near_duplicates: int | None


def count(rows: Sequence[Row], trained: Trained, sounds: Sequence[Sequence[str]] | None) -> Counts:
    """Count over the rows of one task and variant.

    Args:
        rows: Its task rows.
        trained: What the run learned from.
        sounds: Recordings that are one sound; None where sounds were not compared.
    """
    persons: dict[str, set[str]] = {}
    for row in rows:
        persons.setdefault(row["fold"], set()).add(row["person_id"])
    tested = persons.get("test", set()) | persons.get("each", set())
    learned = persons.get("train", set()) | persons.get("val", set())
    held = tested | persons.get("val", set())
    return Counts(
        shared_persons=len(tested & learned),
        aligned_persons=len(held & trained.persons),
        heard_persons=len(tested & trained.heard),
        near_duplicates=None if sounds is None else _near(rows, trained, sounds),
    )


def _near(rows: Sequence[Row], trained: Trained, sounds: Sequence[Sequence[str]]) -> int:
    """Tested recordings whose like is in train or validation, of another person left out, or
    was aligned or heard."""
    at = {r["recording_id"]: r for r in rows}
    found = 0
    for group in sounds:
        own = [at[i] for i in group if i in at]
        learned = any(i in trained.recordings for i in group)
        learned |= any(r["fold"] in ("train", "val") for r in own)
        turns = {r["person_id"] for r in own if r["fold"] == "each"}
        for row in own:
            if row["fold"] in ("test", "each"):
                other = row["fold"] == "each" and len(turns) > 1
                found += learned or other
    return found
