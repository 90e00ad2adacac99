"""Lists, labels and splits of a published benchmark, from pinned bytes only."""

import hashlib
import io
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.fetch import transfer
from pipeline.fetch.download import Want
from pipeline.fetch.errors import FetchError
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.sources import NO_LISTS, RemoteFile
from pipeline.steps import layout


def fetch(
    manifest: Manifest, settings: Settings, patterns: Sequence[str] = ("*",)
) -> dict[str, list[Any]]:
    """Published path -> its values, for the lists that match; arrays only (``.npy``).

    Raises:
        FetchError: A list cannot be had, or its bytes are not the pinned ones.
    """
    lists = manifest.published or NO_LISTS
    chosen = [p for p in lists.files if any(fnmatchcase(p, pattern) for pattern in patterns)]
    folder = layout.Dataset(settings.data_root, manifest.id).published
    wants: list[Want] = []
    for path in chosen:
        file = RemoteFile(name=path, urls=[lists.base + quote(path)], sha256=lists.files[path])
        mirror = settings.mirrored(manifest.id, path)
        wants.append(Want(file=file, urls=[*mirror, *file.urls], target=folder / path))
    transfer.fetch(wants, lambda _: None, settings.downloads_at_once)
    return {p: read(folder / p, lists.files[p]) for p in chosen if p.endswith(".npy")}


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
