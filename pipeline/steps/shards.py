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
        pairs = store.read_table(corpus.table("pairs"))
        plan: list[str] = []
        jobs: list[tuple[Path, pa.Table, Path, Mapping[str, Any]]] = []
        heard: set[tuple[str, str]] = set()
        for name, places in _plan(pairs).items():
            members = pairs.take(
                places
            )  # columns, as texts of a whole corpus as rows would be many
            rows = members.select(_TRAVELS).to_pylist()
            said = [[r[k] for k in _TRAVELS] for r in rows]
            used = {d: sources[d] for d in sorted({r["dataset"] for r in rows})}
            plan.append(f"{name}-{store.digest([code, used, said])}")
            tar = corpus.shards / f"{plan[-1]}.tar"
            if not remote.exists(tar):
                jobs.append((tar, members, settings.data_root, sources))
                parts_of = zip(members["dataset"], members["part"], strict=True)
                heard |= {(d.as_py(), part.as_py()) for d, part in parts_of}
        count = len(pairs)
        del pairs
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
            "pairs": count,
            "bytes": size,
        }

    outputs = [corpus.shards, corpus.shard_index]
    stamp = corpus.stamp("shards")
    return store.cached(stamp, inputs, outputs, work, stored=outputs, say=progress)


def _plan(pairs: pa.Table) -> dict[str, "pa.Array[Any]"]:
    """Shard name -> places of its pairs. Their number doubles, so growth moves few pairs."""
    own: dict[str, list[tuple[int, float]]] = defaultdict(list)
    columns = (pairs["split"].to_pylist(), pairs["pair_id"].to_pylist())
    for place, (split, pair_id) in enumerate(zip(*columns, strict=True)):
        own[split].append((place, unit_hash(f"shard:{pair_id}")))
    plan: dict[str, pa.Array[Any]] = {}
    for split in ("train", "val", "test"):
        count = 1
        while len(own[split]) > count * PAIRS_PER_SHARD:
            count *= 2
        buckets: dict[int, list[int]] = defaultdict(list)
        for place, drawn in own[split]:
            buckets[int(drawn * count)].append(place)
        for bucket, places in sorted(buckets.items()):
            name = f"{split}/{split}-{bucket:05d}-of-{count:05d}"
            plan[name] = pa.array(places, pa.int64())
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
    path: Path, members: pa.Table, data_root: Path, sources: Mapping[str, Any]
) -> tuple[Path, Places]:
    """Write one shard; returns its path and where each pair's sound lies. Runs in a worker."""
    with store.finished(path) as temporary:
        pairs = _pairs(members.to_pylist(), data_root, sources)
        return path, pair_format.write(temporary, pairs)


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
