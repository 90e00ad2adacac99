"""results.json of one run -> the lines of the results page: what each shows and sorts by.

Nothing is scored here: every number and verdict comes from ``comparison``. A line adds an order,
words for marks, and drawings.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.steps import page_curves
from pipeline.steps.page_curves import Agreement, Panel

SCHEMA = 1
MARKS = {
    "bad": "\u2715",
    "warn": "!",
    "ok": "\u2713",
    "none": "\u2013",
}  # beside words, never alone
MARK_WORDS = {"bad": "broken", "warn": "caution", "ok": "holds", "none": "not run"}
_EXAMPLES = re.compile(r"\.? For example .*", re.DOTALL)
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One task, variant, protocol and head.

    Attributes:
        row: As in results.json.
        anchor: Its id on the page.
        keys: column -> what it sorts by; a column without a value is last either way.
        tested: Fold whose units were tested.
        flags: What a reader must know, in words.
        certificate: What the split check said, without names.
    """

    row: Row
    anchor: str
    keys: Mapping[str, str | float | None]
    tested: str
    flags: Sequence[str]
    certificate: Sequence[tuple[str, str]]
    roc: Panel | None = None
    reliability: Panel | None = None
    agreement: Agreement | None = None

    @property
    def run(self) -> bool:
        return self.row["after"] is not None

    @property
    def learned_from_test(self) -> bool:
        """The encoder or the probe has learned from persons whom this line tests."""
        leakage = self.row["leakage"]
        return leakage["aligned_persons"] > 0 or (
            self.row["variant"] == "subject_clean" and leakage["shared_persons"] > 0
        )


@dataclass(frozen=True, kw_only=True)
class Results:
    """One run: facts about it, the mean difference, and its lines in the order of the page."""

    run: Mapping[str, Any]
    summary: Mapping[str, Any]
    beyond: Mapping[str, Any]
    lines: Sequence[Line]
    missing: Sequence[tuple[str, Sequence[str]]] = field(default_factory=tuple)

    @property
    def broken(self) -> list[Line]:
        """Lines whose numbers must not be used."""
        return [x for x in self.lines if x.run and x.row["verdict"]["mark"] == "bad"]

    @property
    def faults(self) -> list[tuple[Line, str, str]]:
        """The broken lines by ``_alike``."""
        return _alike(self.broken, lambda x: x.row["verdict"]["words"])

    @property
    def sign(self) -> str:
        """``above``, ``below`` or ``unclear``: where the interval of the mean difference lies."""
        found = self.summary["difference"]
        if found["low"] is not None and found["low"] > 0:
            return "above"
        return "below" if found["high"] is not None and found["high"] < 0 else "unclear"

    def values(self, name: str) -> list[str]:
        """What the lines have of a filter, in the order of the page."""
        return list(dict.fromkeys(str(x.row[name]) for x in self.lines))


def load(path: Path, predictions: Iterable[Row] = ()) -> Results:
    """Read results.json.

    Args:
        path: The file.
        predictions: Of the aligned encoder, for drawings of regressions; may be of all tasks.
            With ``page_curves.PREDICTED``.

    Raises:
        FileNotFoundError: It has not been made; names the command.
        ValueError: It has another schema.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: run `dagster asset materialize --select '*results_page'`"
        )
    found = json.loads(path.read_text(encoding="utf-8"))
    if found.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} has schema {found.get('schema')}, this page shows schema {SCHEMA}: "
            "materialise `comparison` again"
        )
    said = page_curves.by_row(predictions)
    words = found["flags"]
    lines = [
        _line(row, said.get(_key(row), []), words) for row in sorted(found["rows"], key=_order)
    ]
    missing: dict[str, list[str]] = {}
    absent = [x for x in lines if not x.run]
    for line, ways, reason in _alike(absent, lambda x: x.row["reason"] or "no reason was kept"):
        name = f"{line.row['task']} ({line.row['variant']}; {ways})"
        missing.setdefault(reason, []).append(name)
    return Results(
        run=found["run"],
        summary=found["summary"],
        beyond=found.get("beyond") or {},
        lines=lines,
        missing=sorted(missing.items()),
    )


def _alike(lines: Iterable[Line], said: Callable[[Line], str]) -> list[tuple[Line, str, str]]:
    """Lines of one task and split of which the same is said, as one: the first, its ways, that."""
    found: dict[tuple[str, str, str], list[Line]] = {}
    for line in lines:
        key = (line.row["task"], line.row["variant"], said(line))
        found.setdefault(key, []).append(line)
    return [
        (own[0], ", ".join(f"{x.row['protocol']} {x.row['head']}" for x in own), what)
        for (*_, what), own in found.items()
    ]


def _key(row: Row) -> tuple[str, str, str, str]:
    return row["task"], row["variant"], row["protocol"], row["head"]


def _order(row: Row) -> tuple[Any, ...]:
    """What was run, on clean splits, by the default protocol and a linear head comes first."""
    clean, usual = row["variant"] != "subject_clean", row["protocol"] != "default"
    further = row["head"] != "linear"
    return row["after"] is None, clean, usual, further, row["metric"], *_key(row)


def _line(row: Row, said: Sequence[tuple[float, float]], words: Mapping[str, str]) -> Line:
    tested = next((f for f in ("test", "each") if f in row["units"]), "test")
    details = row.get("details") or {}
    before, after = (details.get(side) or {} for side in ("before", "after"))
    return Line(
        row=row,
        anchor="-".join(re.sub(r"\W+", "-", part) for part in _key(row)),
        keys=_keys(row, tested),
        tested=tested,
        flags=[words[name] for name in row["flags"]],
        certificate=_certified(row.get("certificate")),
        roc=page_curves.roc(before, after),
        reliability=page_curves.reliability(before, after),
        agreement=page_curves.agreement(after, said) if row["kind"] == "regression" else None,
    )


def _keys(row: Row, tested: str) -> dict[str, str | float | None]:
    floors, change = row["floors"], row["difference"]
    leak = floors["label_leak"]
    return {
        "task": row["task"],
        "split": f"{row['variant']} {row['protocol']} {row['head']}",
        "persons": row["persons"].get(tested),
        "before": _value(row["before"]),
        "after": _value(row["after"]),
        "difference": _value(change),
        "interval": _width(change),
        "chance": floors["chance"],
        "shortcut": _value(floors["shortcut"]),
        "lookup": floors["identity_lookup"],
        "shuffled": _value(floors["shuffled"]),
        "leak": leak["full"] if leak else None,
        "verdict": list(MARKS).index(row["verdict"]["mark"]),
    }


def _width(entry: Mapping[str, float | None] | None) -> float | None:
    if entry is None or entry["low"] is None or entry["high"] is None:
        return None
    return entry["high"] - entry["low"]


def _value(entry: Mapping[str, float | None] | None) -> float | None:
    return entry["value"] if entry else None


def _certified(certificate: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Level and text of each verdict; the examples at a text's end name persons and are cut."""
    verdicts = (certificate or {}).get("verdicts") or []
    return [(v["level"], _EXAMPLES.sub(".", v["text"])) for v in verdicts]
