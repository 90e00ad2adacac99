"""all recordings -> person groups and one split per person; then the rows of every probe task.

The only place that decides who is who and who is on which side (design: keys and splits).
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from pipeline import tasks
from pipeline.manifest import Manifest, load_all
from pipeline.records import unit_hash
from pipeline.settings import Settings
from pipeline.steps import layout, published, store, task_rows

# Shares of persons; validation is also cut from official train where a publisher has none.
VAL_SHARE, TEST_SHARE = 0.15, 0.25

SUBJECTS = pa.schema(
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
    "findings",
]
Row = Mapping[str, Any]


class _Groups:
    """Union-find over strings; a group is called by its smallest member."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, node: str) -> str:
        self._parent.setdefault(node, node)
        while self._parent[node] != node:
            self._parent[node] = self._parent[self._parent[node]]
            node = self._parent[node]
        return node

    def join(self, one: str, other: str) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low


def decide(settings: Settings, manifests: Mapping[str, Manifest]) -> store.Outcome:
    """Write ``subjects``, ``task_rows`` and ``task_notes`` for the datasets of this run.

    Datasets that are only probed are part of it, so that somebody whom a probe tests is known
    where the same sound lies in a corpus that alignment hears.

    Args:
        settings: Which datasets.
        manifests: Theirs; further ones are those of the project.
    """
    corpus = layout.Corpus(settings.data_root)
    known = {**load_all(), **manifests}
    chosen = {d: known[d] for d in settings.evaluated}
    lists = published.at_hand(chosen.values(), settings)
    inputs = {
        "recordings": {d: store.version_at(corpus.dataset(d).recordings_stamp) for d in chosen},
        # Variants stand in the notes of datasets that are not part of the run, too.
        "tasks": {d: store.digest(m.model_dump()["tasks"]) for d, m in sorted(known.items())},
        "lists": {d: [sorted(own.values), own.missing] for d, own in lists.items()},
        "code": store.code_version(published, task_rows, tasks, sys.modules[__name__]),
    }
    outputs = [corpus.table(n) for n in ("subjects", "task_rows", "task_notes")]

    def work() -> tuple[str, dict[str, Any]]:
        recordings: list[dict[str, Any]] = []
        for dataset in chosen:
            path = corpus.dataset(dataset).recordings
            recordings += store.read_table(path, COLUMNS).to_pylist()
        subjects = group(recordings)
        built = task_rows.build(recordings, subjects, chosen, lists)
        for dataset in sorted(known.keys() - chosen.keys()):
            built.notes.extend(task_rows.absent(known[dataset], _why_absent(known[dataset])))
        versions = [
            store.write_table(outputs[0], subjects, SUBJECTS),
            store.write_table(outputs[1], built.rows, task_rows.SCHEMA),
            store.write_table(outputs[2], built.notes, task_rows.NOTES_SCHEMA),
        ]
        return store.digest(versions), _facts(subjects, built, chosen)

    return store.cached(corpus.stamp("subjects"), inputs, outputs, work)


def _why_absent(manifest: Manifest) -> str:
    if manifest.access == "request":
        return f"{manifest.id} is not part of this run. {manifest.instructions.strip()}"
    return f"{manifest.id} is not part of this run: add it to ACULA_DATASETS"


def group(recordings: Iterable[Row]) -> list[dict[str, Any]]:
    """Person and split of each recording.

    A person is the union over native ids, linked ids, stated proxies and equal decoded audio.
    Their split is the official one where it is unambiguous, train where it is not, and a hash
    of the person's id where there is none. Recordings without an id in a dataset that has ids
    stay in train: whose they are, nobody knows.
    """
    rows = list(recordings)
    has_ids = {r["dataset"] for r in rows if r["person"]}
    groups, node_of, links = _link(rows, has_ids)
    members: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        members[groups.find(node_of[row["recording_id"]])].append(row)
    publishes_val = {r["dataset"] for r in rows if r["official_split"] == "val"}
    subjects: list[dict[str, Any]] = []
    for person, own in members.items():
        anonymous = any(not r["person"] and r["dataset"] in has_ids for r in own)
        split, rule = _split(person, own, anonymous, publishes_val)
        identity = (
            "id"
            if any(r["person"] for r in own)
            else "proxy"
            if any(r["proxy"] for r in own)
            else "none"
        )
        tied = sorted({why for r in own for why in links[r["recording_id"]]})
        subjects += [
            {
                "recording_id": r["recording_id"],
                "dataset": r["dataset"],
                "case_id": f"{r['dataset']}/{r['case_id']}",
                "person_id": person,
                "identity": identity,
                "links": tied,
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
        sound = row["audio_sha256"]
        if sound in first_heard:
            groups.join(node, node_of[first_heard[sound]])
            if node != node_of[first_heard[sound]]:
                links[key].add("equal audio")
        else:
            first_heard[sound] = key
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
        if chance < VAL_SHARE:
            return "val", "validation cut from official train by hash"
        return "train", "official"
    if official:
        return official.pop(), "official"
    if chance < VAL_SHARE:
        return "val", "hash of the person id"
    return ("test" if chance < VAL_SHARE + TEST_SHARE else "train"), "hash of the person id"


def _facts(
    subjects: list[dict[str, Any]], built: task_rows.Built, manifests: Mapping[str, Manifest]
) -> dict[str, Any]:
    split_of = {s["person_id"]: s["split"] for s in subjects}
    sizes: dict[str, dict[str, int]] = {}
    sides: dict[str, dict[bool, set[str]]] = {}
    for row in built.rows:
        dataset, name = row["task"].split("/")
        classes = list(manifests[dataset].tasks[name].codes)
        key = f"{row['task']} {row['variant']}"
        kind = f"_{classes[int(row['label'])]}" if classes else ""
        cell = sizes.setdefault(key, {})
        cell[f"{row['fold']}{kind}"] = cell.get(f"{row['fold']}{kind}", 0) + 1
        if row["fold"] != "each":
            tested = row["fold"] == "test"
            sides.setdefault(key, {True: set(), False: set()})[tested].add(row["person_id"])
    notes: dict[str, dict[str, int]] = {}
    not_run: list[str] = []
    for note in built.notes:
        key = f"{note['task']} {note['variant']}"
        if note["note"] == task_rows.NOT_RUN:
            not_run.append(key)
        else:
            notes.setdefault(key, {})[note["note"]] = note["count"]
    shared = {key: len(own[True] & own[False]) for key, own in sides.items()}
    count = list(split_of.values()).count
    return {
        "recordings": len(subjects),
        "persons": len(split_of),
        **{f"persons_{side}": count(side) for side in ("train", "val", "test")},
        "task_rows": len(built.rows),
        "tasks": sizes,
        "shared_persons": {key: number for key, number in shared.items() if number},
        "notes": notes,
        "not_run": not_run,
    }
