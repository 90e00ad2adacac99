"""pairs -> WebDataset tars per split; a pair's shard follows from a hash of its id."""

import json
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from acula_model import shards as pair_format
from acula_model.counting import Counted
from pipeline import pool
from pipeline.manifest import Manifest
from pipeline.records import unit_hash
from pipeline.settings import Settings
from pipeline.steps import layout, parts, remote, store
from pipeline.steps.arranged import arranged

pc: Any = pyarrow.compute  # its functions are made at import: no type checker sees them

PAIRS_PER_SHARD = 256
_REGIMES = ("full", "strict")
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
# What tells where its sound is, and what was said of it, besides.
_BESIDE = (
    "part",
    "offset",
    "size",
    *(f"{r}_{k}" for r in _REGIMES for k in ("sentences", "terms")),
)
Row = Mapping[str, Any]
Job = tuple[Path, pa.Table, Path, Mapping[str, Any]]
Places = Mapping[str, tuple[int, int]]


def write(
    settings: Settings, manifests: Mapping[str, Manifest], progress: Callable[[str], None] = print
) -> store.Outcome:
    """Write the shards whose pairs changed and an index of pair -> shard and offset."""
    corpus = layout.Corpus(settings.data_root)
    sources = {d: _source(corpus.dataset(d), manifests[d]) for d in settings.alignment}
    code = store.code_version(pair_format, sys.modules[__name__])
    inputs = {"pairs": store.version_at(corpus.stamp("pairs")), "sources": sources, "code": code}

    def work() -> tuple[str, dict[str, Any]]:
        plan = _plan(store.read_table(corpus.table("pairs"), ["split", "pair_id"]))
        known = _Index(corpus.shard_index)
        counted = Counted(progress, "{} shards done", len(plan.sizes))
        written, names, heard = 0, list[str](), set[Path]()

        def jobs() -> Generator[Job]:
            for name, rows in plan.shards(corpus.table("pairs")):
                used = {d: sources[d] for d in sorted(set(rows["dataset"].to_pylist()))}
                names.append(f"{name}-{store.digest([code, used, _said(rows)])}")
                tar = corpus.shards / f"{names[-1]}.tar"
                if remote.exists(tar):
                    counted.add()
                    continue
                remote.need(*(new := _parts(corpus, rows) - heard), say=progress)
                heard.update(new)
                yield tar, rows, settings.data_root, sources

        with closing(jobs()) as coming:
            for shard, places in pool.run(write_one, coming, settings.workers, settings.cluster):
                known.add(_name(shard), places)
                written += 1
                counted.add()
        _clean(corpus.shards, set(names))
        tars = [corpus.shards / f"{name}.tar" for name in sorted(names)]
        pieces = (known.of(_name(tar), tar) for tar in tars)
        version = store.write_table(corpus.shard_index, pa.concat_tables(pieces), INDEX)
        return version, {
            "shards": len(tars),
            "shards_written": written,
            "pairs": sum(plan.sizes),
            "bytes": sum(map(remote.size, tars)),
        }

    outputs = [corpus.shards, corpus.shard_index]
    stamp = corpus.stamp("shards")
    return store.cached(stamp, inputs, outputs, work, stored=outputs, say=progress)


@dataclass(frozen=True)
class _Plan:
    """Which pairs go into which shard.

    Attributes:
        names: Of the shards, without the hash of what they hold.
        sizes: Pairs of each.
        places: Of each row of the pairs table, in the order of the shards.
    """

    names: list[str]
    sizes: list[int]
    places: npt.NDArray[np.int64]

    def shards(self, pairs: Path) -> Iterator[tuple[str, pa.Table]]:
        """Name and rows of each: the texts of a whole corpus need not fit in memory."""
        batches = store.read_batches(pairs, [*_TRAVELS, *_BESIDE])
        yield from zip(
            self.names,
            arranged(batches, self.places, self.sizes, pairs.with_name("texts")),
            strict=True,
        )


def _plan(pairs: pa.Table) -> _Plan:
    """The number of shards doubles, so growth moves few pairs."""
    splits = np.array(pairs["split"].to_pylist(), object)
    drawn = np.array([unit_hash(f"shard:{i}") for i in pairs["pair_id"].to_pylist()])
    names, sizes, orders = list[str](), list[int](), list[npt.NDArray[np.int64]]()
    for split in ("train", "val", "test"):
        own = np.flatnonzero(splits == split)
        count = 1
        while len(own) > count * PAIRS_PER_SHARD:
            count *= 2
        bucket = (drawn[own] * count).astype(np.int64)
        orders.append(own[np.argsort(bucket, kind="stable")])
        for number, size in zip(*np.unique(bucket, return_counts=True), strict=True):
            names.append(f"{split}/{split}-{number:05d}-of-{count:05d}")
            sizes.append(int(size))
    places = np.full(len(pairs), -1)
    places[np.concatenate(orders)] = np.arange(sum(sizes))
    return _Plan(names, sizes, places)


def _said(rows: pa.Table) -> list[list[Any]]:
    """What a shard's name is a hash of."""
    return [list(row) for row in zip(*(rows[k].to_pylist() for k in _TRAVELS), strict=True)]


def _parts(corpus: layout.Corpus, rows: pa.Table) -> set[Path]:
    """Where the sounds of pairs are."""
    found = set(zip(rows["dataset"].to_pylist(), rows["part"].to_pylist(), strict=True))
    return {corpus.dataset(d).parts / f"{part}.tar" for d, part in found}


def _name(tar: Path) -> str:
    return f"{tar.parent.name}/{tar.name}"


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
    for regime in _REGIMES:
        meta[f"{regime}_sentences"] = json.loads(row[f"{regime}_sentences"])
        meta[f"{regime}_terms"] = row[f"{regime}_terms"]
    return meta


class _Index:
    """Where pairs lie in the shards: of an earlier run, and what is added.

    Args:
        path: The table of an earlier run; a shard's name tells what it holds, so it still counts.
    """

    def __init__(self, path: Path):
        self._known: dict[str, pa.Table] = {}
        if remote.exists(path):
            earlier = store.read_table(path)  # shard by shard
            runs = pc.run_end_encode(earlier["shard"].combine_chunks())
            start = 0
            for name, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
                self._known[name] = earlier.slice(start, end - start)
                start = end

    def add(self, name: str, places: Places) -> None:
        """A shard that is new."""
        offsets, sizes = zip(*places.values(), strict=True)
        columns = [list(places), [name] * len(places), offsets, sizes]
        self._known[name] = pa.table([*map(pa.array, columns)], schema=INDEX)

    def of(self, name: str, tar: Path) -> pa.Table:
        """Rows of one shard; read from its headers where no run has said them."""
        if name not in self._known:
            remote.need(tar)
            self.add(name, pair_format.places(tar))
        return self._known[name]


def _clean(folder: Path, keep: set[str]) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).with_suffix("").as_posix() not in keep:
            path.unlink()
    remote.keep(folder, lambda name: name.removesuffix(".tar") in keep)
