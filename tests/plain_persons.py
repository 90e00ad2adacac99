"""Persons and splits decided row by row, as plainly as can be: what ``persons.group`` must equal.

And lists of rows in place of tables, for tests that write their recordings by hand.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.manifest import Manifest
from pipeline.records import unit_hash
from pipeline.steps import persons, published, recordings, task_rows

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Tasks:
    """As ``task_rows.Built``, in lists."""

    rows: list[dict[str, Any]]
    notes: list[dict[str, Any]]


def table(rows: Iterable[Row]) -> pa.Table:
    """The columns of the recordings table that persons, labels and folds follow from."""
    names = [*persons.COLUMNS, "findings"]
    schema = pa.schema([recordings.SCHEMA.field(name) for name in names])
    return pa.Table.from_pylist([{n: r[n] for n in names} for r in rows], schema)


def people_of(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """What ``persons.group`` says of them."""
    return persons.group(table(rows)).to_pylist()


def tasks_of(
    rows: Iterable[Row],
    manifests: Mapping[str, Manifest],
    lists: Mapping[str, published.Lists] | None = None,
) -> Tasks:
    """What ``task_rows.build`` says of them, all datasets together."""
    rows = list(rows)
    who = persons.group(table(rows))
    found = Tasks([], [])
    for dataset, manifest in sorted(manifests.items()):
        batches = table(r for r in rows if r["dataset"] == dataset).to_batches(max_chunksize=5)
        built = task_rows.build(manifest, batches, who, (lists or {}).get(dataset))
        found.rows.extend(built.rows.to_pylist())
        found.notes.extend(built.notes)
    return found


class _Groups:
    """Union-find over strings; a group is called by its smallest member."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, node: str) -> str:
        self._parent.setdefault(node, node)
        while self._parent[node] != node:
            node = self._parent[node]
        return node

    def join(self, one: str, other: str) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low


def plainly(rows: list[Row]) -> list[dict[str, Any]]:
    """The same as ``people_of``."""
    has_ids = {r["dataset"] for r in rows if r["person"]}
    publishes_val = {r["dataset"] for r in rows if r["official_split"] == "val"}
    groups, node_of, links = _link(rows, has_ids)
    members: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        members[groups.find(node_of[row["recording_id"]])].append(row)
    subjects: list[dict[str, Any]] = []
    for person, own in members.items():
        anonymous = any(not r["person"] and r["dataset"] in has_ids for r in own)
        split, rule = _split(person, own, anonymous, publishes_val)
        proxy = "proxy" if any(r["proxy"] for r in own) else "none"
        subjects += [
            {
                "recording_id": r["recording_id"],
                "dataset": r["dataset"],
                "case_id": f"{r['dataset']}/{r['case_id']}",
                "person_id": person,
                "identity": "id" if any(r["person"] for r in own) else proxy,
                "links": sorted({why for r in own for why in links[r["recording_id"]]}),
                "split": split,
                "split_rule": rule,
            }
            for r in own
        ]
    return sorted(subjects, key=lambda s: s["recording_id"])


def _link(
    rows: list[Row], has_ids: set[str]
) -> tuple[_Groups, dict[str, str], dict[str, set[str]]]:
    groups = _Groups()
    node_of: dict[str, str] = {}
    links: dict[str, set[str]] = defaultdict(set)
    first_heard: dict[str, str] = {}
    for row in rows:
        dataset, key = row["dataset"], row["recording_id"]
        if row["person"]:
            node = f"{dataset}/{row['person']}"
            links[key].add("native id")
        elif row["proxy"] and dataset not in has_ids:
            node = f"{dataset}/~{row['proxy']}"
            links[key].add("proxy")
        else:
            node = f"{dataset}/:{row['native_id']}"
        node_of[key] = groups.find(node) and node
        for other in row["linked"] or ():
            groups.join(node, f"{dataset}/{other}")
            links[key].add("linked id")
        first = node_of[first_heard.setdefault(row["audio_sha256"], key)]
        groups.join(node, first)
        if node != first:
            links[key].add("equal audio")
    return groups, node_of, links


def _split(
    person: str, own: list[Row], anonymous: bool, publishes_val: set[str]
) -> tuple[str, str]:
    if anonymous:
        return "train", "no person id in a dataset that has ids: never leaves train"
    official = {r["official_split"] for r in own if r["official_split"]}
    if len(official) > 1:
        return "train", f"official splits disagree ({', '.join(sorted(official))}): train"
    chance = unit_hash(f"split:{person}")
    if official == {"train"} and not any(r["dataset"] in publishes_val for r in own):
        if chance < persons.VAL_SHARE:
            return "val", "validation cut from official train by hash"
        return "train", "official"
    if official:
        return official.pop(), "official"
    if chance < persons.VAL_SHARE:
        return "val", "hash of the person id"
    test = chance < persons.VAL_SHARE + persons.TEST_SHARE
    return ("test" if test else "train"), "hash of the person id"
