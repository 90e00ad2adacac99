"""columns of all recordings -> who is who: one person and one split for each of them.

Integer codes throughout: a million recordings as Python objects would take gigabytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from pipeline.records import unit_hash

pc: Any = pyarrow.compute  # its functions are made at import: no type checker sees them
# Shares of persons; validation is also cut from official train where a publisher has none.
VAL_SHARE, TEST_SHARE = 0.15, 0.25

SCHEMA = pa.schema(
    [
        pa.field("recording_id", pa.string()),
        pa.field("dataset", pa.string()),
        pa.field("case_id", pa.string()),
        pa.field("person_id", pa.string()),
        pa.field("identity", pa.string()),  # id | proxy | none: how strong the grouping is
        pa.field("links", pa.list_(pa.string())),  # what tied the group together
        pa.field("split", pa.string()),
        pa.field("split_rule", pa.string()),
    ]
)
# Of the recordings table: what decides.
COLUMNS = [
    "recording_id",
    "dataset",
    "native_id",
    "case_id",
    "person",
    "linked",
    "proxy",
    "official_split",
    "audio_sha256",
]
_BATCH = 65_536  # names that are Python strings at a time

Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]


def group(recordings: pa.Table) -> pa.Table:
    """Person and split of each recording, in the order of their ids.

    A person is the union over native ids, linked ids, stated proxies and equal decoded audio.
    Their split is the official one where it is unambiguous, train where it is not, and a hash
    of the person's id where there is none. Recordings without an id in a dataset that has ids
    stay in train: whose they are, nobody knows.

    Args:
        recordings: ``COLUMNS`` of all recordings, in any order.
    """
    dataset, side = recordings["dataset"], recordings["official_split"]
    has_id, has_proxy = _given(recordings["person"]), _given(recordings["proxy"])
    among_ids = _where_any(dataset, has_id)
    people = _people(recordings, has_id, has_proxy & ~among_ids)
    split, rule = _splits(
        people.names,
        anonymous=people.any(among_ids & ~has_id),
        has_val=people.any(_where_any(dataset, _is(side, "val"))),
        official={s: people.any(_is(side, s)) for s in sorted(filter(None, _values(side)))},
    )
    strength = np.where(people.any(has_id), 0, np.where(people.any(has_proxy), 1, 2))
    order = pc.sort_indices(recordings["recording_id"])
    person = people.of_row[order.to_numpy()]
    columns = [
        recordings["recording_id"].take(order),
        dataset.take(order),
        pc.binary_join_element_wise(dataset, recordings["case_id"], "/").take(order),
        people.names.take(pa.array(person)),
        pa.array(["id", "proxy", "none"]).take(pa.array(strength[person])),
        people.links.take(pa.array(person)),
        split.take(pa.array(person)),
        rule.take(pa.array(person)),
    ]
    return pa.table(columns, schema=SCHEMA)


@dataclass(frozen=True)
class _People:
    """Persons in the order of their names.

    Attributes:
        names: Of each person, the smallest of what they are known by.
        links: What ties the recordings of each.
        of_row: Which person each recording is of.
    """

    names: pa.Array
    links: pa.Array
    of_row: Codes

    def any(self, rows: Mask) -> Mask:
        """Persons of whom one of these recordings is."""
        return _any_of(self.of_row, rows, len(self.names))


def _people(recordings: pa.Table, has_id: Mask, by_proxy: Mask) -> _People:
    """Connected components of ids, proxies and native ids under links and equal sounds."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    node, other, linking, names = _nodes(recordings, has_id, by_proxy)
    sound = recordings["audio_sha256"].dictionary_encode().combine_chunks().indices.to_numpy()
    heard = np.empty(len(node), np.int64)
    heard[sound] = node  # of any one recording with that sound
    heard = heard[sound]
    ends = np.concatenate([node[linking], node]), np.concatenate([other, heard])
    edges = coo_array((np.ones(len(ends[0]), bool), ends), shape=(len(names), len(names)))
    component = connected_components(edges, directed=False)[1]
    first, person = np.unique(component, return_index=True, return_inverse=True)[1:]
    of_row = person[node]

    def links(where: Mask) -> Mask:
        return _any_of(of_row, where, len(first))

    known = {
        "equal audio": links(node != heard),
        "linked id": links(np.bincount(linking, minlength=len(node)) > 0),
        "native id": links(has_id),
        "proxy": links(by_proxy),
    }
    told = [[name for bit, name in enumerate(known) if code >> bit & 1] for code in range(16)]
    codes = _packed([*known.values()])
    return _People(
        names.take(pa.array(first)),
        pa.array(told, pa.list_(pa.string())).take(pa.array(codes)),
        of_row,
    )


def _nodes(
    recordings: pa.Table, has_id: Mask, by_proxy: Mask
) -> tuple[Codes, Codes, Codes, pa.Array]:
    """What each recording is known by, what it links to and from which row; names of the codes.

    Codes are in the order of the names, so that a group's smallest code is its smallest name.
    """
    dataset, linked = recordings["dataset"], recordings["linked"].combine_chunks()
    known_by = pc.if_else(
        pa.array(has_id),
        recordings["person"],
        pc.if_else(
            pa.array(by_proxy),
            pc.binary_join_element_wise("~", recordings["proxy"], ""),
            pc.binary_join_element_wise(":", recordings["native_id"], ""),
        ),
    )
    own = pc.binary_join_element_wise(dataset, known_by, "/")
    linking = pc.list_parent_indices(linked)
    others = pc.binary_join_element_wise(dataset.take(linking), pc.list_flatten(linked), "/")
    encoded = pc.dictionary_encode(
        pa.chunked_array([*own.chunks, *others.chunks], pa.string())
    ).combine_chunks()
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[order.to_numpy()] = np.arange(len(order))
    codes, names = rank[encoded.indices.to_numpy()], encoded.dictionary.take(order)
    return codes[: len(own)], codes[len(own) :], linking.to_numpy(), names


def _splits(
    names: pa.Array, anonymous: Mask, has_val: Mask, official: Mapping[str, Mask]
) -> tuple[pa.Array, pa.Array]:
    """Split of each person, and the rule that gave it."""
    masks = [anonymous, has_val, *official.values()]
    codes = _packed(masks)
    cases = {
        code: (
            bool(code & 1),
            bool(code & 2),
            [side for bit, side in enumerate(official, 2) if code >> bit & 1],
        )
        for code in np.unique(codes).tolist()
    }
    known: dict[tuple[str, str], int] = {}
    decided = np.empty(len(names), np.int64)
    for i, (name, code) in enumerate(zip(_texts(names), codes.tolist(), strict=True)):
        answer = _split(*cases[code], unit_hash(f"split:{name}"))
        decided[i] = known.setdefault(answer, len(known))
    split, rule = zip(*known, strict=True) if known else ((), ())
    which = pa.array(decided)
    return pa.array(split, pa.string()).take(which), pa.array(rule, pa.string()).take(which)


def _split(
    anonymous: bool, has_val: bool, official: Sequence[str], chance: float
) -> tuple[str, str]:
    if anonymous:
        return "train", "no person id in a dataset that has ids: never leaves train"
    if len(official) > 1:
        return "train", f"official splits disagree ({', '.join(official)}): train"
    if official == ["train"] and not has_val:
        if chance < VAL_SHARE:
            return "val", "validation cut from official train by hash"
        return "train", "official"
    if official:
        return official[0], "official"
    if chance < VAL_SHARE:
        return "val", "hash of the person id"
    return ("test" if chance < VAL_SHARE + TEST_SHARE else "train"), "hash of the person id"


def _packed(masks: Sequence[Mask]) -> Codes:
    """One number for what is true of each."""
    return np.bitwise_or.reduce([mask.astype(np.int64) << bit for bit, mask in enumerate(masks)])


def _values(column: pa.ChunkedArray) -> list[Any]:
    return pc.unique(column).to_pylist()


def _texts(column: pa.Array) -> Iterator[str]:
    for start in range(0, len(column), _BATCH):
        yield from column.slice(start, _BATCH).to_pylist()


def _is(column: pa.ChunkedArray, value: str) -> Mask:
    return pc.fill_null(pc.equal(column, value), False).to_numpy()


def _given(column: pa.ChunkedArray) -> Mask:
    return pc.fill_null(pc.not_equal(column, ""), False).to_numpy()


def _where_any(key: pa.ChunkedArray, rows: Mask) -> Mask:
    """Rows whose key some of these rows have, too."""
    found = pc.is_in(key, value_set=pc.unique(key.filter(pa.array(rows))))
    return found.to_numpy()


def _any_of(group_of: Codes, rows: Mask, count: int) -> Mask:
    found = np.zeros(count, bool)
    found[group_of[rows]] = True
    return found
