"""``beyond`` of results.json (see ``beyond``'s schema) -> sections of tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Entry = Mapping[str, Any]
Columns = tuple[tuple[str, str], ...]  # heading, place in an entry


@dataclass(frozen=True, kw_only=True)
class _Measure:
    """How one measure becomes a table.

    Attributes:
        key: Its name in ``beyond``.
        named: Heading of the entries' names; None where a measure is a list.
        inner: An entry's list, or its parts by name, that become rows of their own.
    """

    key: str
    title: str
    lead: str
    named: str | None
    columns: Columns
    inner: str | tuple[str, ...] = ()


_CHANGE: Columns = (("Before", "before"), ("After", "after"), ("Difference", "difference"))
_MEASURES = (
    _Measure(
        key="zero_shot",
        title="Zero-shot",
        lead="No label is learned: report-like sentences of each class go through the teacher, and "
        "a recording belongs to the class whose sentences lie nearest. Only the aligned encoder "
        "can do this. AUROC; beside it the middle 95 % of random directions.",
        named="Task",
        columns=(
            ("AUROC", "auroc"), ("Chance", "chance"), ("Random from", "random_low"),
            ("Random to", "random_high"), ("Units", "units"), ("Persons", "persons"),
        ),
    ),
    _Measure(
        key="retrieval",
        title="Finding the report of a sound, and back",
        lead="Pairs of test persons, whose reports were read only for this, after training. A "
        "report with the same findings is a hit. Chance is a random order of the same candidates.",
        named="Dataset",
        inner=("report", "sound"),
        columns=(
            ("Searched", "name"), ("At 1", "recall.1"), ("Chance", "chance.1"),
            ("At 5", "recall.5"), ("Chance", "chance.5"), ("At 10", "recall.10"),
            ("Chance", "chance.10"), ("Median rank", "median_rank"), ("By chance", "chance_rank"),
            ("Queries", "queries"), ("Persons", "persons"),
        ),
    ),
    _Measure(
        key="label_efficiency",
        title="Fewer labels",
        lead="The default probe when only a share of the training persons has a label; means over "
        "draws of persons.",
        named="Task",
        inner="shares",
        columns=(("Share", "share"), ("Persons", "persons"), ("Metric", "metric"), *_CHANGE),
    ),
    _Measure(
        key="transfer",
        title="From one dataset to another",
        lead="A probe learned on one dataset, tested on test persons of another. The last columns "
        "are of a probe learned on the tested dataset itself.",
        named=None,
        columns=(
            ("Question", "question"), ("Learned on", "source"), ("Tested on", "target"),
            ("Chance", "chance"), *_CHANGE, ("Own, before", "own.before"),
            ("Own, after", "own.after"),
        ),
    ),
    _Measure(
        key="confound",
        title="What else the embedding tells",
        lead="How well device and dataset can be read from it: a probe for what should not matter, "
        "over test persons. A gain here is no gain in hearing.",
        named="Read off",
        columns=(
            ("Chance", "chance"), *_CHANGE, ("Test persons", "values"), ("Left out", "left_out"),
        ),
    ),
    _Measure(
        key="agreement",
        title="Agreement with the teacher (CKA)",
        lead="Debiased CKA between embeddings of sounds and the teacher\u2019s of their reports: "
        "0 for unrelated ones, 1 for equal up to rotation and scale. The floors pair sounds with "
        "other reports; between encoders is before against after.",
        named="Dataset",
        columns=(
            *_CHANGE, ("Between encoders", "encoders"), ("Floor, before", "floor_before"),
            ("Floor, after", "floor_after"), ("Pairs", "pairs"), ("Persons", "persons"),
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Section:
    """One measure as a table; a cell is a text, a number, an estimate or None.

    Attributes:
        missing: Name and reason of what was not run.
        prompts: Of zero-shot: task, class and the sentences that stood for it.
    """

    anchor: str
    title: str
    lead: str
    columns: list[str]
    rows: list[list[Any]]
    missing: list[tuple[str, str]]
    prompts: list[tuple[str, str, str]]


def sections(beyond: Mapping[str, Any]) -> list[Section]:
    """Every measure that the run has, in the order in which they are best read."""
    return [_section(m, beyond[m.key]) for m in _MEASURES if beyond.get(m.key)]


def is_estimate(value: Any) -> bool:
    """Whether it is a number with an interval."""
    return isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys()


def _section(measure: _Measure, found: Any) -> Section:
    entries = _entries(found)
    run = [(name, e) for name, e in entries if "reason" not in e]
    rows = [
        ([name] if measure.named else [])
        + [_cell(_at(row, path), path) for _, path in measure.columns]
        for name, entry in run
        for row in _expanded(entry, measure.inner)
    ]
    named = [measure.named] if measure.named else []
    return Section(
        anchor=f"beyond-{measure.key.replace('_', '-')}",
        title=measure.title,
        lead=measure.lead,
        columns=named + [heading for heading, _ in measure.columns],
        rows=rows,
        missing=[(name, e["reason"]) for name, e in entries if "reason" in e],
        prompts=[
            (name, kind, "; ".join(texts))
            for name, entry in run
            for kind, texts in (entry.get("prompts") or {}).items()
        ],
    )


def _entries(found: Any) -> list[tuple[str, Entry]]:
    if isinstance(found, list):
        return [
            (" \u2192 ".join(str(e.get(s, "?")) for s in ("source", "target")), e) for e in found
        ]
    if "reason" in found:
        return [("all", found)]
    return list(found.items())


def _expanded(entry: Entry, inner: str | Sequence[str]) -> Iterator[Entry]:
    if not inner:
        yield entry
    elif isinstance(inner, str):
        yield from ({**entry, **row} for row in entry[inner])
    else:
        yield from ({**entry[name], "name": name} for name in inner if name in entry)


def _at(entry: Any, path: str) -> Any:
    for name in path.split("."):
        entry = entry.get(name) if isinstance(entry, Mapping) else None
    return entry


def _cell(value: Any, path: str) -> Any:
    if path == "share":
        return f"{value:.0%}"
    if isinstance(value, Mapping) and not is_estimate(value):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else value
