"""``beyond`` of results.json -> sections of tables, whatever measures a run has.

A measure is a JSON value; its lists of rows become tables, its single numbers a list of facts.
An estimate ``{"value", "low", "high"}`` is one cell with its interval, and columns that only say
who a unit is of are never shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_PRIVATE = {"person", "persons_list", "person_id", "person_ids", "recording_id", "unit", "pair_id"}
# Measure -> title and how to read it.
_TITLES = {
    "zero_shot": (
        "Zero-shot",
        "No label is learned: report-like sentences of each class go through the teacher and the "
        "bridge, and each recording takes the class whose sentence it lies nearest to. "
        "A guess scores 0.5.",
    ),
    "retrieval": (
        "Retrieval of test persons\u2019 pairs",
        "Is the report of a sound among its nearest, and the other way round? Reports with equal "
        "findings count as hits. Chance is a random order of the same candidates.",
    ),
    "label_efficiency": (
        "Fewer labels",
        "The same probe when only a share of the training persons has a label.",
    ),
    "transfer": (
        "From one dataset to another",
        "A probe learned on one dataset, tested on another one\u2019s test persons.",
    ),
    "confound": (
        "What else the embedding tells",
        "How well device and dataset can be read from it. A gain here is no gain in hearing.",
    ),
    "cka": (
        "Agreement with the teacher",
        "Debiased CKA between embeddings: 0 for unrelated ones, 1 for equal up to rotation "
        "and scale.",
    ),
}
_ALIASES = {"agreement": "cka", "efficiency": "label_efficiency", "zeroshot": "zero_shot"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows with the same columns; a cell is a text, a number, an estimate or None."""

    title: str
    columns: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One measure."""

    anchor: str
    title: str
    lead: str
    notes: list[str] = field(default_factory=list[str])
    facts: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    tables: list[Table] = field(default_factory=list[Table])


def sections(beyond: Mapping[str, Any]) -> list[Section]:
    """Measures in the order in which they are best read; unknown ones last, by name."""
    order = list(_TITLES)
    known = {k: v for k, v in beyond.items() if v and k not in ("schema", "draws", "seed", "run")}

    def place(key: str) -> tuple[int, str]:
        name = _ALIASES.get(key, key)
        return (order.index(name) if name in order else len(order)), key

    found: list[Section] = []
    for key in sorted(known, key=place):
        title, lead = _TITLES.get(_ALIASES.get(key, key), (words(key), ""))
        section = Section(anchor=f"beyond-{key.replace('_', '-')}", title=title, lead=lead)
        _fill(section, known[key], "")
        found.append(section)
    return found


def is_estimate(value: Any) -> bool:
    """Whether it is a number with an interval."""
    return isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys()


def words(name: str) -> str:
    """``recall_at_5`` as a heading."""
    text = name.replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def _fill(section: Section, value: Any, name: str) -> None:
    """Put one JSON value where it is best read."""
    if isinstance(value, str):
        section.notes.append(f"{words(name)}: {value}" if name not in ("", "note") else value)
    elif is_estimate(value) or not isinstance(value, Mapping | list):
        if value is not None:
            section.facts.append((words(name) or "value", value))
    elif isinstance(value, list):
        _list(section, value, name)
    elif value and all(_flat(v) and not is_estimate(v) for v in value.values()):
        rows = [{"": words(str(k)), **v} for k, v in value.items()]
        section.tables.append(_table(words(name), rows))
    elif value and name and _flat(value):
        section.tables.append(_table("", [{"": words(name), **value}]))
    else:
        for key, inner in value.items():
            if key not in _PRIVATE:
                _fill(section, inner, f"{name} {key}".strip())


def _list(section: Section, value: Sequence[Any], name: str) -> None:
    if value and all(isinstance(v, Mapping) for v in value):
        section.tables.append(_table(words(name if name != "rows" else ""), value))
    elif value:
        section.notes.append(f"{words(name)}: {', '.join(str(v) for v in value)}")


def _flat(value: Any) -> bool:
    """A row: names to single values or estimates."""
    return isinstance(value, Mapping) and all(
        is_estimate(v) or not isinstance(v, Mapping | list) for v in value.values()
    )


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Nested values of a row are spread over columns ``outer inner``."""
    spread = [_spread(row) for row in rows]
    columns = list(dict.fromkeys(c for row in spread for c in row))
    return Table(
        title=title,
        columns=[words(c) for c in columns],
        rows=[[row.get(c) for c in columns] for row in spread],
    )


def _spread(row: Mapping[str, Any], outer: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{outer} {key}".strip()
        if key in _PRIVATE:
            continue
        if isinstance(value, Mapping) and not is_estimate(value):
            found |= _spread(value, name)
        elif isinstance(value, list):
            found[name] = ", ".join(str(v) for v in value)
        else:
            found[name] = value
    return found
