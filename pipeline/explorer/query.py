"""What a user asks for -> rows of the catalog, in order, and how many each filter would give."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt
import pyarrow.compute

from pipeline.explorer.catalog import Catalog

pc: Any = pyarrow.compute  # its functions are made at import: no type checker sees them
PAGE = 50  # rows of the list
LONGEST = 500  # characters of a value; longer ones are no question
FACETS = ("dataset", "kind", "split", "modality", "device", "reason")
DIAGNOSIS = "diagnosis"  # a facet, too, but a row may have several
# Each is a property of the sound as it was recorded; the bounds name what a listener would notice.
QUALITY = {
    "clipped": "clipped samples",
    "quiet": "quieter than -45 dBFS",
    "narrow": "recorded below 8 kHz",
    "short": "shorter than 2 s",
}
ORDERS = {
    "id": "name", "longest": "longest first", "shortest": "shortest first",
    "loudest": "loudest first", "clipped": "most clipped first",
}  # fmt: skip
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class BadQuery(ValueError):
    """A value that no filter understands; says which."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """Filters, all of which a row must pass; empty ones pass everything."""

    q: str = ""  # words, each of which stands in the report, the id or the reason
    dataset: str = ""
    kind: str = ""
    split: str = ""
    modality: str = ""
    device: str = ""
    reason: str = ""
    diagnosis: str = ""  # in words, which several datasets share
    finding: str = ""  # name=code, or a name
    person: str = ""
    quality: str = ""
    min_s: str = ""
    max_s: str = ""
    marked: str = ""  # yes: doubtful ones only
    order: str = "id"

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> "Query":
        """From the parameters of an address; others are left to the page.

        Raises:
            BadQuery: A value that a filter cannot have.
        """
        known = {f.name for f in fields(cls)}
        values = {k: v.strip() for k, v in given.items() if k in known and v.strip()}
        for name, value in values.items():
            if len(value) > LONGEST:
                raise BadQuery(f"{name} has {len(value):,} characters; at most {LONGEST}")
        query = cls(**values)
        for name in ("min_s", "max_s"):
            _seconds(query, name)
        if query.quality and query.quality not in QUALITY:
            raise BadQuery(f"quality is one of {', '.join(QUALITY)}; got {query.quality!r}")
        if query.order not in ORDERS:
            raise BadQuery(f"order is one of {', '.join(ORDERS)}; got {query.order!r}")
        return query

    def address(self, **changes: str) -> str:
        """The parameters again, with changes, without those that say nothing."""
        values = asdict(replace(self, **{k: v for k, v in changes.items() if k in asdict(self)}))
        values |= {k: v for k, v in changes.items() if k not in values}
        return urlencode({k: v for k, v in values.items() if v and (k, v) != ("order", "id")})

    @property
    def active(self) -> dict[str, str]:
        """Filters that are set."""
        return {k: v for k, v in asdict(self).items() if v and k != "order"}


@dataclass(frozen=True, kw_only=True)
class Found:
    """Rows that pass, in order; and for each choice how many it would give beside the others."""

    rows: Rows
    counts: dict[str, dict[str, int]]


def find(catalog: Catalog, query: Query, doubtful: Mapping[str, object]) -> Found:
    """Rows of a query.

    Args:
        catalog: All rows.
        query: The filters.
        doubtful: Ids of recordings that a listener marked.
    """
    choices = {n: catalog.names[n].equal(v) for n in FACETS if (v := getattr(query, n))}
    if query.diagnosis:
        choices[DIAGNOSIS] = catalog.diagnosed.mask(query.diagnosis)
    others = _others(catalog, query, doubtful)
    passed = others.copy()
    for mask in choices.values():
        passed &= mask
    counts: dict[str, dict[str, int]] = {}
    columns = {n: catalog.names[n] for n in FACETS} | {DIAGNOSIS: catalog.diagnosed}
    for name, column in columns.items():
        free = others.copy()
        for other, mask in choices.items():
            if other != name:
                free &= mask
        counts[name] = column.counts(free)
    return Found(rows=_ordered(catalog, np.flatnonzero(passed), query.order), counts=counts)


def _others(catalog: Catalog, query: Query, doubtful: Mapping[str, object]) -> Mask:
    passed = np.ones(len(catalog), bool)
    numbers = catalog.numbers
    if query.person:
        passed &= catalog.names["person"].equal(query.person)
    if query.finding:
        passed &= catalog.with_term(query.finding)
    if (least := _seconds(query, "min_s")) is not None:
        passed &= numbers["duration_s"] >= least
    if (most := _seconds(query, "max_s")) is not None:
        passed &= numbers["duration_s"] <= most
    if query.quality:
        passed &= {
            "clipped": numbers["clipped_fraction"] > 0,
            "quiet": numbers["rms_dbfs"] < -45,
            "narrow": numbers["native_rate"] < 8_000,
            "short": numbers["duration_s"] < 2,
        }[query.quality]
    if query.marked:
        own = np.zeros(len(catalog), bool)
        own[[i for name in doubtful if (i := catalog.row(name)) is not None]] = True
        passed &= own
    for word in query.q.split():
        # Five times as fast as Arrow's search for a plain string.
        hit = pc.match_substring_regex(catalog.searched, re.escape(word), ignore_case=True)
        passed &= hit.to_numpy().astype(bool)
    return passed


def _ordered(catalog: Catalog, rows: Rows, order: str) -> Rows:
    name, sign = {
        "longest": ("duration_s", -1), "shortest": ("duration_s", 1), "loudest": ("rms_dbfs", -1),
        "clipped": ("clipped_fraction", -1),
    }.get(order, ("", 1))  # fmt: skip
    return rows[np.argsort(sign * catalog.numbers[name][rows], kind="stable")] if name else rows


def _seconds(query: Query, name: str) -> float | None:
    value = getattr(query, name)
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise BadQuery(f"{name} is a number of seconds; got {value!r}")
    return seconds
