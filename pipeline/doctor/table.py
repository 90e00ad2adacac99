"""A table of text and what the caller says about it -> a Split: a row per recording and side."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.doctor import columns
from pipeline.doctor.columns import SplitError, listed

Mask = npt.NDArray[np.bool_]
EACH = "each fold"  # is tested in turn


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the caller says about a table; the rest is guessed from its header.

    Attributes:
        roles: Role of ``columns.ROLES`` -> column.
        person_pattern: Expression whose group ``person`` (or first group) in a path or id names
            the person.
        proxy: Columns that together stand in for a person; numbers are rounded to ``decimals``.
        sides: ``(side, column, value)``: the side of the rows with this value; a row may be on
            several sides.
        also: Further columns to hold against the label.
        exact: Compare ids as they are written.
    """

    roles: Mapping[str, str] = field(default_factory=dict[str, str])
    person_pattern: str | None = None
    proxy: Sequence[str] = ()
    decimals: int = 1
    sides: Sequence[tuple[str, str, str]] = ()
    also: Sequence[str] = ()
    exact: bool = False


@dataclass(frozen=True, kw_only=True)
class Split:
    """A split as the checks read it.

    Attributes:
        rows: One row per recording and side. ``side`` is never missing; ``id``, ``path``,
            ``label``, ``person``, ``proxy``, ``raw``, ``sound`` are text or None.
        shown: Column of ``rows`` -> what it is called, for the columns held against the label.
        sources: Role -> the column of the user's table.
        notes: What was left out or guessed, in plain words.
    """

    name: str
    rows: pd.DataFrame
    shown: Mapping[str, str]
    sources: Mapping[str, str]
    notes: tuple[str, ...] = ()
    exact: bool = False

    def column(self, role: str) -> list[str | None] | None:
        """Values of a role, or None where no row has one."""
        if role not in self.rows:
            return None
        values = self.rows[role].to_numpy(object)
        silent = pd.isna(values)
        if silent.all():
            return None
        return [None if s else v for v, s in zip(values.tolist(), silent.tolist(), strict=True)]

    def keys(self, role: str) -> npt.NDArray[np.int64] | None:
        """Equal numbers for equal ids of a role, however written; -1 where there is none."""
        values = self.column(role)
        if values is None:
            return None
        spelled = {v: v if self.exact else columns.same(v) for v in {*values} if v is not None}
        codes, _ = pd.factorize(np.array([spelled.get(v or "") for v in values], object))
        return codes.astype(np.int64)

    @cached_property
    def sides(self) -> list[str]:
        order = {"train": 0, "val": 1, "test": 2}
        return sorted(set(self.rows["side"]), key=lambda s: (order.get(s, 3), s))

    def on(self, side: str) -> Mask:
        return self.rows["side"].to_numpy(object) == side

    def turns(self) -> Iterator[tuple[Mask, Mask]]:
        """What is tested and what a model may have seen for it: once, or once per fold."""
        named = [s for s in ("train", "val", "test") if s in self.sides]
        if len(named) >= 2:
            tested = self.on(named[-1])
            yield tested, np.isin(self.rows["side"].to_numpy(object), named[:-1])
            return
        for fold in self.sides:
            yield self.on(fold), ~self.on(fold)

    @property
    def tested(self) -> str:
        """What the tested side is called."""
        named = [s for s in ("train", "val", "test") if s in self.sides]
        return named[-1] if len(named) >= 2 else EACH


def build(name: str, table: pd.DataFrame, choices: Choices) -> Split:
    """A Split from a table of text.

    Raises:
        SplitError: No column tells the side, or what the caller named does not exist.
    """
    header = [str(c) for c in table.columns]
    found = columns.guess(header, choices.roles)
    for column in (*choices.proxy, *choices.also, *(c for _, c, _ in choices.sides)):
        if column not in header:
            raise SplitError(f"no column {column!r}; the table has {', '.join(header)}")
    notes: list[str] = []
    table = _sided(table, found, choices, notes)
    rows = pd.DataFrame({"side": table["\0side"].to_numpy(object)})
    for role, column in found.items():
        if role != "side":
            rows[role] = _text(table[column])
    if choices.person_pattern:
        rows["person"] = _persons(rows, choices.person_pattern)
        found["person"] = f"pattern {choices.person_pattern}"
    proxy = list(choices.proxy) or _guessed_proxy(header, found)
    if proxy:
        rows["proxy"] = _proxy(table, proxy, choices.decimals)
        found["proxy"] = ", ".join(proxy)
    shown = {r: found[r] for r in ("device", "site", "age", "sex", "date") if r in found}
    for column in choices.also:
        rows[f"also {column}"], shown[f"also {column}"] = _text(table[column]), column
    split = Split(
        name=name, rows=rows, shown=shown, sources=found, notes=tuple(notes), exact=choices.exact
    )
    if len(split.sides) < 2:
        raise SplitError(f"all rows of {name} are on one side ({split.sides[0]}); two are needed")
    return split


def _sided(
    table: pd.DataFrame, found: Mapping[str, str], choices: Choices, notes: list[str]
) -> pd.DataFrame:
    """The rows that are on a side, once per side."""
    if choices.sides:
        kept: list[pd.DataFrame] = []
        for side, column, value in choices.sides:
            here = table[table[column].str.strip().str.casefold() == value.strip().casefold()]
            if here.empty:
                values = listed(sorted(set(table[column])), 8)
                raise SplitError(f"no row has {value!r} in {column}; its values are {values}")
            kept.append(here.assign(**{"\0side": columns.side(side)}))
        return pd.concat(kept, ignore_index=True)
    if "side" not in found:
        raise SplitError(
            "no column tells the side; name it with --split; the table has "
            f"{listed(map(str, table.columns), 40)}"
        )
    values = table[found["side"]]
    known = {v: "" if columns.missing(v) else columns.side(v) for v in set(values)}
    sides = values.map(known)
    if lost := int((sides == "").sum()):
        notes.append(f"{lost} rows without a side are left out")
    table = table.assign(**{"\0side": sides})[sides != ""]
    if table.empty:
        raise SplitError(f"column {found['side']!r} is empty; name the right one with --split")
    if (many := table["\0side"].nunique()) > 50:
        raise SplitError(
            f"column {found['side']!r} has {many} values, which are no "
            "sides; name the right one with --split"
        )
    return table.reset_index(drop=True)


def _text(values: "pd.Series[Any]") -> npt.NDArray[np.object_]:
    cells = values.to_numpy(object).tolist()
    said = {v: None if columns.missing(v) else v.strip() for v in set(cells)}
    return np.array([said[v] for v in cells], object)


def _persons(rows: pd.DataFrame, pattern: str) -> list[str | None]:
    try:
        rule = re.compile(pattern)
    except re.error as error:
        raise SplitError(
            f"--person-pattern {pattern!r} is no regular expression: {error}"
        ) from error
    role = next((r for r in ("path", "id") if r in rows), None)
    if role is None:
        raise SplitError("--person-pattern reads a path or an id; name one with --path or --id")
    paths = [str(v or "").replace("\\", "/") for v in rows[role]]
    found = [_group(rule, p.rsplit("/", 1)[-1]) for p in paths]
    if not any(found):  # the person is a folder
        found = [_group(rule, p) for p in paths]
    if not any(found):
        raise SplitError(f"--person-pattern {pattern!r} fits no {role}, such as {rows[role][0]!r}")
    return found


def _group(rule: re.Pattern[str], text: str) -> str | None:
    match = rule.search(text)
    if not match:
        return None
    return match["person"] if "person" in rule.groupindex else match[1 if rule.groups else 0]


def _guessed_proxy(header: list[str], found: Mapping[str, str]) -> list[str]:
    """Place, age and sex together, where nothing names a person."""
    where = columns.place(header)
    if "person" in found or not where or not {"age", "sex"} <= found.keys():
        return []
    return [*where, found["age"], found["sex"]]


def _proxy(table: pd.DataFrame, names: Iterable[str], decimals: int) -> list[str | None]:
    parts: list[list[str | None]] = []
    for name in names:
        numbers = pd.to_numeric(table[name], errors="coerce").round(decimals)
        parts.append(
            [
                None if columns.missing(v) else columns.same(v) if np.isnan(n) else f"{n:g}"
                for v, n in zip(table[name], numbers, strict=True)
            ]
        )
    return [None if None in key else ", ".join(map(str, key)) for key in zip(*parts, strict=True)]
