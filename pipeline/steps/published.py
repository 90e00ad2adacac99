"""Lists, labels and splits of a published benchmark, from pinned bytes only."""

import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.fetch import transfer
from pipeline.fetch.download import Want
from pipeline.fetch.errors import TRANSIENT, FetchError
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.sources import NO_LISTS, PublishedLists, RemoteFile
from pipeline.steps import layout, store
from pipeline.steps.absences import Absences

MADE_UP = "the archive is a built-in sample, whose recordings are in no published list"


@dataclass(frozen=True)
class Lists:
    """The lists of one dataset: those at hand, and why each other one is not."""

    values: Mapping[str, Sequence[Any]] = field(default_factory=dict[str, Sequence[Any]])
    missing: Mapping[str, str] = field(default_factory=dict[str, str])


def fetch(
    manifest: Manifest, settings: Settings, patterns: Sequence[str] = ("*",)
) -> dict[str, list[Any]]:
    """Published path -> its values, for the lists that match; arrays only (``.npy``).

    Raises:
        FetchError: A list cannot be had, or its bytes are not the pinned ones.
    """
    lists = manifest.published or NO_LISTS
    chosen = [p for p in lists.files if any(fnmatchcase(p, pattern) for pattern in patterns)]
    urls = {p: [*settings.mirrored(manifest.id, p), lists.base + quote(p)] for p in chosen}
    return _obtain(manifest, settings, urls)


def at_hand(manifests: Iterable[Manifest], settings: Settings) -> dict[str, Lists]:
    """Dataset -> the lists that its tasks are scored on, as far as they can be had.

    A built-in sample needs none, so none is fetched. Where the publisher cannot be reached, the
    other lists come from the mirror and from the data root alone: there is no second wait, and
    for a while none in later runs, either. What lies in the data root or in a local mirror is
    always taken at once.
    """
    notes = Absences(layout.Corpus(settings.data_root).absent_lists)
    found: dict[str, Lists] = {}
    unreachable: FetchError | None = None
    for manifest in manifests:
        values: dict[str, list[Any]] = {}
        missing: dict[str, str] = {}
        for path in dict.fromkeys(p for t in manifest.tasks.values() for p in t.listed_files):
            if settings.archive_of(manifest.id) == "sample":
                missing[path] = MADE_UP
                continue
            name, lists = f"{manifest.id}/{path}", manifest.published or NO_LISTS
            here = layout.Dataset(settings.data_root, manifest.id).published / path
            mirror = settings.mirrored(manifest.id, path)
            sources = store.digest([mirror, lists.base, lists.files[path]])
            known = None if here.is_file() else notes.known(name, sources)
            spared = known if known and notes.recent(name) else None
            publisher = [] if unreachable else [lists.base + quote(path)]
            urls = [u for u in mirror if _is_local(u)] if spared else [*mirror, *publisher]
            patient = not (known or unreachable)
            try:
                values |= _obtain(manifest, settings, {path: urls}, patient, spared or unreachable)
                notes.forget(name)
            except FetchError as error:
                why = error if here.is_file() else spared or unreachable or error
                if not (spared or here.is_file()):
                    why = notes.add(name, sources, why)
                missing[path] = f"{path} is missing ({why}). Put it at {here}"
                unreachable = unreachable or (why if why.code in TRANSIENT else None)
        found[manifest.id] = Lists(values, missing)
    notes.save()
    return found


def _is_local(url: str) -> bool:
    return "://" not in url or url.startswith("file://")


def _obtain(
    manifest: Manifest,
    settings: Settings,
    urls: Mapping[str, Sequence[str]],
    patient: bool = True,
    otherwise: FetchError | None = None,
) -> dict[str, list[Any]]:
    """Values of each path, from the data root or its URLs; ``otherwise``: why it has no URL."""
    lists = manifest.published or NO_LISTS
    folder = layout.Dataset(settings.data_root, manifest.id).published
    wants: list[Want] = []
    for path, sources in urls.items():
        if otherwise and not sources and not (folder / path).is_file():
            raise otherwise
        file = RemoteFile(name=path, urls=[lists.base + quote(path)], sha256=lists.files[path])
        wants.append(Want(file=file, urls=sources, target=folder / path, patient=patient))
    transfer.fetch(wants, lambda _: None, settings.downloads_at_once)
    return {p: read(folder / p, lists.files[p]) for p in urls if p.endswith(".npy")}


def read(path: Path, sha256: str) -> list[Any]:
    """Values of one array; object arrays are pickles, so its bytes are hashed before they load.

    Raises:
        FetchError: The bytes are not the pinned ones; nothing was unpickled.
    """
    import numpy as np

    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise FetchError("hash_mismatch", str(path), f"sha256 {found}, pinned {sha256}")
    return np.load(io.BytesIO(data), allow_pickle=True).tolist()


def key_of(lists: PublishedLists, name: str) -> str | None:
    """What a published name and the id of its recording have in common; None if it is unclear."""
    return _key(lists.name, name)


def key_of_recording(lists: PublishedLists, native_id: str) -> str | None:
    """The same as ``key_of``, from our own id."""
    return _key(lists.native_id, native_id)


def _key(rule: str, text: str) -> str | None:
    match = re.search(rule, text)
    return "_".join(g for g in match.groups() if g is not None) if match else None
