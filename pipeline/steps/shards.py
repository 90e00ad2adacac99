"""pairs -> WebDataset tars per split; a pair's shard follows from a hash of its id."""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from acula_model import shards as pair_format
from acula_model.counting import Counted
from pipeline import pool
from pipeline.manifest import Manifest
from pipeline.records import unit_hash
from pipeline.settings import Settings
from pipeline.steps import layout, parts, remote, store

PAIRS_PER_SHARD = 256
INDEX = pa.schema(
    [
        pa.field("pair_id", pa.string()),
        pa.field("shard", pa.string()),
        pa.field("shard_offset", pa.int64()),
        pa.field("shard_size", pa.int64()),
    ]
)
# What travels with each pair, so that a tar alone can be traced to the archive.
_TRAVELS = (
    "pair_id",
    "recording_id",
    "dataset",
    "modality",
    "member",
    "case_id",
    "person_id",
    "identity",
    "split",
    "split_rule",
    "align",
    "raw_sha256",
    "audio_sha256",
    "native_rate",
    "native_format",
    "native_channels",
    "duration_s",
    "template_version",
    "full_text",
    "full_hash",
    "strict_text",
    "strict_hash",
)
Row = Mapping[str, Any]


def write(
    settings: Settings, manifests: Mapping[str, Manifest], progress: Callable[[str], None] = print
) -> store.Outcome:
    """Write the shards whose pairs changed and an index of pair -> shard and offset."""
    corpus = layout.Corpus(settings.data_root)
    sources = {d: _source(corpus.dataset(d), manifests[d]) for d in settings.alignment}
    code = store.code_version(pair_format, sys.modules[__name__])
    inputs = {"pairs": store.version_at(corpus.stamp("pairs")), "sources": sources, "code": code}

    def work() -> tuple[str, dict[str, Any]]:
        pairs = store.read_table(corpus.table("pairs")).to_pylist()
        plan: dict[str, list[Row]] = {}
        for name, members in _plan(pairs).items():
            said = [[r[k] for k in _TRAVELS] for r in members]
            used = {d: sources[d] for d in sorted({r["dataset"] for r in members})}
            plan[f"{name}-{store.digest([code, used, said])}"] = members
        jobs = [
            (corpus.shards / f"{name}.tar", members, settings.data_root, sources)
            for name, members in plan.items()
            if not remote.exists(corpus.shards / f"{name}.tar")
        ]
        heard = {(r["dataset"], r["part"]) for _, members, _, _ in jobs for r in members}
        tars = [corpus.dataset(d).parts / f"{part}.tar" for d, part in sorted(heard)]
        remote.need(*tars, say=progress)
        known = _indexed(corpus.shard_index)
        counted = Counted(progress, "{} shards written", len(jobs))
        for shard, places in pool.run(write_one, jobs, settings.workers, settings.cluster):
            known[f"{shard.parent.name}/{shard.name}"] = places
            counted.add()
        _clean(corpus.shards, set(plan))
        tars = [corpus.shards / f"{name}.tar" for name in sorted(plan)]
        index = list(_index(corpus.shards, tars, known))
        version = store.write_table(corpus.shard_index, index, INDEX)
        size = sum(map(remote.size, tars))
        return version, {
            "shards": len(plan),
            "shards_written": len(jobs),
            "pairs": len(pairs),
            "bytes": size,
        }

    outputs = [corpus.shards, corpus.shard_index]
    stamp = corpus.stamp("shards")
    return store.cached(stamp, inputs, outputs, work, stored=outputs, say=progress)


def _plan(pairs: list[Row]) -> dict[str, list[Row]]:
    """Shard name -> its pairs. The number of shards doubles, so growth moves few pairs."""
    plan: dict[str, list[Row]] = {}
    for split in ("train", "val", "test"):
        own = [r for r in pairs if r["split"] == split]
        count = 1
        while len(own) > count * PAIRS_PER_SHARD:
            count *= 2
        buckets: dict[int, list[Row]] = defaultdict(list)
        for row in own:
            buckets[int(unit_hash(f"shard:{row['pair_id']}") * count)].append(row)
        for bucket, members in sorted(buckets.items()):
            plan[f"{split}/{split}-{bucket:05d}-of-{count:05d}"] = members
    return plan


def _source(here: layout.Dataset, manifest: Manifest) -> dict[str, Any]:
    archive = store.stamped(here.archive_stamp)
    return {
        "archive": {
            "source": archive["facts"]["source"],
            "version": archive["version"],
            "urls": [f.urls[0] for f in manifest.files],
        },
        "licence": manifest.licence.name,
        "attribution": manifest.attribution,
        "dataset_version": manifest.version,
    }


Places = Mapping[str, tuple[int, int]]


def write_one(
    path: Path, members: list[Row], data_root: Path, sources: Mapping[str, Any]
) -> tuple[Path, Places]:
    """Write one shard; returns its path and where each pair's sound lies. Runs in a worker."""
    with store.finished(path) as temporary:
        return path, pair_format.write(temporary, _pairs(members, data_root, sources))


def _pairs(
    members: list[Row], data_root: Path, sources: Mapping[str, Any]
) -> Iterator[pair_format.Pair]:
    folders = {d: layout.Dataset(data_root, d).parts for d in sources}
    for row in members:
        flac = parts.read_flac(folders[row["dataset"]], row["part"], row["offset"], row["size"])
        yield pair_format.Pair(flac=flac, meta=described(row) | sources[row["dataset"]])


def described(row: Row) -> dict[str, Any]:
    """What a shard says of a pair, besides where its dataset came from."""
    meta = {k: row[k] for k in _TRAVELS}
    for regime in ("full", "strict"):
        meta[f"{regime}_sentences"] = json.loads(row[f"{regime}_sentences"])
        meta[f"{regime}_terms"] = row[f"{regime}_terms"]
    return meta


def _indexed(index: Path) -> dict[str, Places]:
    """Shard -> its pairs, by an earlier index; a shard's name tells what it holds."""
    known: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    if remote.exists(index):
        for row in store.read_table(index).to_pylist():
            known[row["shard"]][row["pair_id"]] = (row["shard_offset"], row["shard_size"])
    return dict(known)


def _index(folder: Path, tars: list[Path], known: Mapping[str, Places]) -> Iterator[dict[str, Any]]:
    for path in tars:
        name = path.relative_to(folder).as_posix()
        if name not in known:
            remote.need(path)
        places = known[name] if name in known else pair_format.places(path)
        for pair_id, (offset, size) in places.items():
            yield {
                "pair_id": pair_id,
                "shard": name,
                "shard_offset": offset,
                "shard_size": size,
            }


def _clean(folder: Path, keep: set[str]) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).with_suffix("").as_posix() not in keep:
            path.unlink()
    remote.keep(folder, lambda name: name.removesuffix(".tar") in keep)
