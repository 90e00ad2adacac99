"""One pair of a shard, read where it lies: without the corpus it was made of, on any machine."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acula_model import shards
from acula_model.shards import Pair
from pipeline.lineage.chain import Chain, LineageError, Link, UnknownId

_BLOCK = tarfile.BLOCKSIZE
_LARGEST = 64 * 2**20  # bytes of a description; one has some thousand


def at(path: Path, offset: int, size: int) -> Pair:
    """The pair whose FLAC bytes lie there; reads nothing else of the tar.

    Raises:
        ValueError: There is no FLAC member with a description after it.
    """
    with path.open("rb") as file:
        file.seek(offset - _BLOCK)
        head = _header(file.read(_BLOCK))
        if head.size != size or not head.name.endswith(".flac"):
            raise ValueError(f"the tar has {head.name} of {head.size} bytes, recorded are {size}")
        flac = file.read(size)
        file.seek(-size % _BLOCK, io.SEEK_CUR)
        described = _header(file.read(_BLOCK))
        if described.name != f"{head.name.removesuffix('.flac')}.json":
            raise ValueError(f"{described.name} follows {head.name}")
        if described.size > _LARGEST:
            raise ValueError(f"{described.name} has {described.size} bytes")
        meta = json.loads(file.read(described.size))
    if not isinstance(meta, dict) or meta.get("pair_id") != head.name.removesuffix(".flac"):
        raise ValueError(f"{described.name} describes another pair")
    return Pair(flac=flac, meta=meta)


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise ValueError(f"no tar member begins there ({error})") from error


def keys(path: Path) -> list[str]:
    """Pair ids of a shard.

    Raises:
        LineageError: The file is no tar.
    """
    try:
        return list(shards.places(path))
    except (tarfile.TarError, OSError) as error:
        raise LineageError(f"{path} is no shard: {error}") from error


def trace(path: Path, key: str, *, verify: bool = False) -> Chain:
    """The chain that travels with a pair, up to its archive.

    Args:
        path: A shard, wherever it lies.
        key: Pair id.
        verify: Hash the sound again, and the texts.

    Raises:
        UnknownId: The shard has no such key.
        LineageError: The file is no shard, or its pair cannot be read.
    """
    try:
        places = shards.places(path)
        if key not in places:
            raise UnknownId(f"{path.name} has no pair {key}; it has {len(places)}, such as "
                            f"{', '.join(list(places)[:3])}")  # fmt: skip
        pair = at(path, *places[key])
    except (tarfile.TarError, ValueError, OSError) as error:
        if isinstance(error, LineageError):
            raise
        raise LineageError(f"{path}: {error}") from error
    links = list(_links(pair.meta, path, places[key]))
    if verify:
        links = [_checked(link, pair) for link in links]
    return Chain(subject=key, kind="pair", links=tuple(links))


def _links(meta: dict[str, Any], path: Path, place: tuple[int, int]) -> Iterator[Link]:
    def some(*names: str) -> dict[str, Any]:
        return {n: meta.get(n) for n in names}

    source = {k: v for k, v in (meta.get("archive") or {}).items()}
    yield Link(
        name="archive",
        title="Archive",
        facts=some("dataset", "dataset_version", "licence", "attribution") | source,
    )
    yield Link(
        name="member",
        title="File in the archive",
        facts=some("member", "raw_sha256", "recording_id", "modality"),
    )
    yield Link(
        name="audio",
        title="Normalised sound",
        facts=some("native_format", "native_rate", "native_channels", "duration_s", "audio_sha256"),
    )
    yield Link(name="person", title="Person", facts=some("person_id", "identity", "case_id"))
    yield Link(
        name="split",
        title="Split and regime",
        facts=some("split", "split_rule", "align"),
    )
    report = some("template_version")
    for regime in ("full", "strict"):
        report |= some(f"{regime}_text", f"{regime}_hash", f"{regime}_sentences")
    yield Link(name="report", title="Report", facts=report)
    offset, size = place
    facts = {"shard": path.name, "key": meta["pair_id"], "offset": offset, "size": size}
    yield Link(name="shard", title="Shard", facts=facts)


def _checked(link: Link, pair: Pair) -> Link:
    """What a shard alone can prove: its sound, its texts, and that its keys belong together."""
    from acula_model.teachers import hash_of
    from pipeline.lineage.verify import sound_hash
    from pipeline.records import pair_id

    meta = pair.meta
    if link.name == "audio":
        found = sound_hash(pair.flac)
        if found != meta.get("audio_sha256"):
            return link.judged("altered", f"sha256 of the samples is {found}")
        return link.judged("verified")
    if link.name == "report":
        for regime in ("full", "strict"):
            found = hash_of(meta[f"{regime}_text"], meta[f"{regime}_terms"])
            if found != meta[f"{regime}_hash"]:
                return link.judged("altered", f"the hash of the {regime} text is {found}")
        return link.judged("verified")
    if link.name == "shard":
        if pair_id(str(meta.get("recording_id"))) != meta["pair_id"]:
            return link.judged("altered", f"its key is not that of {meta.get('recording_id')}")
        return link.judged("verified")
    return link.judged("recorded", "a shard alone cannot prove it")
