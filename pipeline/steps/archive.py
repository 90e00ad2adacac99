"""settings -> the unpacked archive of a dataset, and a record of what it holds."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import samples
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import layout, store


class ArchiveError(ValueError):
    """An archive that cannot be used; says what to do."""


def obtain(manifest: Manifest, settings: Settings) -> store.Outcome:
    """Make the archive available and record its root, files, bytes and fingerprint.

    A sample archive is written once per seed and scale; a local folder stays where it is.

    Raises:
        ArchiveError: The folder is missing or empty, or the source is not available.
    """
    here = layout.Dataset(settings.data_root, manifest.id)
    if settings.archives == "sample":
        return _sample(manifest, settings, here)
    if settings.archives == "download":
        names = ", ".join(f.name for f in manifest.files)
        raise ArchiveError(
            f"{manifest.id}: this version cannot download. Get {names} from {manifest.homepage}, "
            f"unpack into <folder>/{manifest.id} and set ACULA_ARCHIVES=<folder>"
        )
    root = (Path(settings.archives) / manifest.id).resolve()
    if not root.is_dir() or not any(root.iterdir()):
        raise ArchiveError(
            f"{manifest.id}: {root} is missing or empty. Put the unpacked archive there, or leave "
            f"{manifest.id} out of ACULA_DATASETS"
        )
    version, facts = _inventory(root, source="folder")
    # The root is an input, not part of the version: a moved archive is read where it is now.
    inputs = {"fingerprint": version, "root": str(root)}
    return store.cached(here.archive_stamp, inputs, [root], lambda: (version, facts))


def _sample(manifest: Manifest, settings: Settings, here: layout.Dataset) -> store.Outcome:
    generator = samples.sample(manifest.id)
    inputs = {
        "source": "sample",
        "root": str(here.archive.resolve()),
        "seed": settings.sample_seed,
        "scale": settings.sample_scale,
        "code": _samples_code(),
    }

    def work() -> tuple[str, dict[str, Any]]:
        with store.finished(here.archive) as temporary:
            temporary.mkdir()
            generator.write(temporary, settings.sample_seed, settings.sample_scale)
        _, facts = _inventory(here.archive.resolve(), source="sample")
        # A moved folder is the same archive: the root is an input, not part of the version.
        return store.digest({k: v for k, v in inputs.items() if k != "root"}), facts

    return store.cached(here.archive_stamp, inputs, [here.archive], work)


def _samples_code() -> str:
    folder = Path(samples.__file__).parent
    sources = sorted(folder.glob("*.py"))
    return hashlib.sha256(b"\0".join(p.read_bytes() for p in sources)).hexdigest()[:16]


def _inventory(root: Path, source: str) -> tuple[str, dict[str, Any]]:
    """Fingerprint from names, sizes and times: content is hashed where it is read anyway."""
    hasher = hashlib.sha256()
    files = size = 0
    for name, stat in _walk(root):
        hasher.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        files, size = files + 1, size + stat.st_size
    facts = {"root": str(root), "source": source, "files": files, "bytes": size}
    return hasher.hexdigest()[:16], facts


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            yield path.relative_to(root).as_posix(), path.stat()
