"""Embeddings of recordings -> two flat maps, before and after alignment, and ways to colour them.

A map shows where recordings lie, not whose they are: it carries neither ids nor order. Each group
of points is one path whose corners the template marks with a shape, at some eight bytes a point.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.records import unit_hash

# N = points, D = embedding width, S = side of a map

MOST_POINTS = 2000
MOST_GROUPS = 7  # and one for the rest: the template has eight shapes
SIDE = 1000
MARGIN = 25
UNKNOWN = "not stated"
Vectors = Mapping[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Points that share a value: a path for each map."""

    name: str
    count: int
    shape: int
    paths: list[str]


@dataclass(frozen=True, kw_only=True)
class Colouring:
    """One way to tell points apart; points without a value are only drawn in the background."""

    title: str
    groups: list[Group]


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One flat map.

    Attributes:
        title: Which encoder.
        shares: Of the variance, along each of the two directions.
        background: Path of all points.
    """

    title: str
    shares: tuple[float, float]
    background: str


@dataclass(frozen=True, kw_only=True)
class Map:
    """Both planes, of the same recordings."""

    planes: list[Plane]
    colourings: list[Colouring]
    points: int
    of: int


def draw(
    encoders: Mapping[str, Vectors], attributes: Mapping[str, Mapping[str, str]]
) -> Map | None:
    """Place the recordings that every encoder has embedded.

    Args:
        encoders: title -> recording id -> [D].
        attributes: What to colour by -> recording id -> value.

    Returns:
        None with fewer than three recordings.
    """
    common = set.intersection(*(set(v) for v in encoders.values())) if encoders else set[str]()
    # A hash draws them: the same recordings each time, from every dataset in proportion.
    ids = sorted(common, key=lambda i: (unit_hash(f"map:{i}"), i))[:MOST_POINTS]
    if len(ids) < 3:
        return None
    planes: list[Plane] = []
    placed: list[list[str]] = []
    for title, vectors in encoders.items():
        flat_N2, shares = principal(np.stack([vectors[i] for i in ids]))
        placed.append([f"{x} {y}" for x, y in _fitted(flat_N2).tolist()])
        planes.append(Plane(title=title, shares=shares, background=_path(placed[-1])))
    colourings = [
        Colouring(title=title, groups=_groups(ids, placed, values))
        for title, values in attributes.items()
        if len({values[i] for i in ids if i in values}) > 1
    ]
    return Map(planes=planes, colourings=colourings, points=len(ids), of=len(common))


def principal(table_ND: npt.NDArray[Any]) -> tuple[Floats, tuple[float, float]]:
    """The two directions of largest variance (principal component analysis).

    Args:
        table_ND: One row per point.

    Returns:
        [N, 2] and their shares of the variance; a direction without variance is 0. Its sign is
        such that the largest weight of a direction is positive.
    """
    centred_ND = table_ND.astype(np.float64) - table_ND.astype(np.float64).mean(0)
    _, length_K, axes_KD = np.linalg.svd(centred_ND, full_matrices=False)
    variance = length_K**2
    if len(axes_KD) < 2 or variance.sum() <= 1e-12 * max(1.0, float((table_ND**2).sum())):
        return np.zeros((len(table_ND), 2)), (0.0, 0.0)
    axes_2D = axes_KD[:2]
    sign_2 = np.sign(axes_2D[np.arange(2), np.abs(axes_2D).argmax(1)])
    share = variance[:2] / variance.sum()
    return centred_ND @ (axes_2D * sign_2[:, None]).T, (float(share[0]), float(share[1]))


def _path(centres: Iterable[str]) -> str:
    """Sorted, so that the order of points tells nothing."""
    return f"M{' '.join(sorted(centres))}"


def _fitted(flat_N2: Floats) -> npt.NDArray[np.int64]:
    """Both axes on one scale, a hundredth of the points beyond the edge drawn at it."""
    low, high = np.percentile(flat_N2, [0.5, 99.5], axis=0)
    span = float((high - low).max()) or 1.0
    middle = (low + high) / 2
    unit = np.clip((flat_N2 - middle) / span, -0.5, 0.5) * [1, -1] + 0.5
    return np.round(MARGIN + unit * (SIDE - 2 * MARGIN)).astype(np.int64)


def _groups(
    ids: Sequence[str], placed: Sequence[Sequence[str]], values: Mapping[str, str]
) -> list[Group]:
    counts = Counter(values[i] for i in ids if i in values)
    ranked = sorted(counts, key=lambda v: (v == UNKNOWN, -counts[v], v))
    rest = set(ranked[MOST_GROUPS:])
    shown = [(name, {name}) for name in ranked[:MOST_GROUPS]]
    if len(rest) == 1:
        shown.append((next(iter(rest)), rest))
    elif rest:
        shown.append((f"{len(rest)} others", rest))
    found: list[Group] = []
    for shape, (name, members) in enumerate(shown):
        own = [n for n, i in enumerate(ids) if values.get(i) in members]
        paths = [_path(c[n] for n in own) for c in placed]
        found.append(Group(name=name, count=len(own), shape=shape, paths=paths))
    return found
