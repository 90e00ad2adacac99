"""settings -> the unpacked archive of a dataset, and a record of what it holds."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import samples
from pipeline.fetch.errors import FetchError
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import acquire, collect, layout, store

_WRITTEN = 1_600_000_000  # seconds since 1970: when every file of a sample says it was written


class ArchiveError(ValueError):
    """An archive that cannot be used; says what to do."""


def obtain(
    manifest: Manifest,
    settings: Settings,
    say: collect.Say = lambda _: None,
    watch: collect.Watch | None = None,
    *,
    here: bool = False,
) -> store.Outcome:
    """Make the archive available and record its root, files, bytes and version.

    A sample archive is written once per seed and scale, a download once per edition; a local
    folder stays where it is. Where the data root is a URL, an archive that another computer had is
    only got again when its bytes are asked for.

    Args:
        manifest: The dataset.
        settings: Where its archive comes from.
        say: Hears licence and what is being done, one line at a time.
        watch: Hears of the progress of a download; by default lines to ``say``.
        here: Whether the bytes must be on this computer.

    Raises:
        ArchiveError: The folder is missing or empty, or a sample would replace a download.
        FetchError: The licence is not agreed to, or a download cannot be had or used.
    """
    place = layout.Dataset(settings.data_root, manifest.id)
    source = settings.archive_of(manifest.id)
    if source == "sample":
        return _sample(manifest, settings, place, elsewhere=not here)
    agreement = manifest.licence.agreement
    if agreement and manifest.id not in settings.agreed:
        detail = f"{agreement.strip()} To accept, set ACULA_AGREED={manifest.id}"
        raise FetchError("agreement", manifest.id, detail)
    if source == "download":
        return _download(manifest, settings, place, say, watch, elsewhere=not here)
    root = Path(source).resolve()
    if not root.is_dir() or not any(root.iterdir()):
        todo = f" {manifest.instructions.strip()}" if manifest.instructions else ""
        raise ArchiveError(
            f"{manifest.id}: {root} is missing or empty. Put the unpacked archive there, or leave "
            f"{manifest.id} out of ACULA_DATASETS.{todo}"
        )
    version, facts = _inventory(root, source="folder")
    # The root is an input, not part of the version: a moved archive is read where it is now.
    inputs = {"fingerprint": version, "root": str(root)}
    return store.cached(place.archive_stamp, inputs, [root], lambda: (version, facts), stored=[])


def root(manifest: Manifest, settings: Settings, say: collect.Say = lambda _: None) -> Path:
    """The unpacked archive on this computer, which may have to be got first."""
    here = layout.Dataset(settings.data_root, manifest.id)
    facts = store.stamped(here.archive_stamp)["facts"]
    place = Path(facts["root"]) if facts["source"] == "folder" else here.archive
    if place.is_dir():
        return place
    return Path(obtain(manifest, settings, say, here=True).facts["root"])


def _download(
    manifest: Manifest,
    settings: Settings,
    here: layout.Dataset,
    say: collect.Say,
    watch: collect.Watch | None,
    elsewhere: bool,
) -> store.Outcome:
    edition = settings.edition_of(manifest.id)
    chosen = manifest.edition(edition)
    # Only what decides the bytes: no edit of a note, an address or the code fetches 54 GB anew.
    inputs = {"source": "download", "edition": edition, "files": _decisive(chosen)}

    def work() -> tuple[str, dict[str, Any]]:
        facts = acquire.acquire(chosen, settings, here.archive, say, watch)
        return facts["content"][:16], {"source": "download"} | facts

    with _alone(here, say):
        outcome = store.cached(
            here.archive_stamp,
            inputs,
            [here.archive],
            work,
            stored=[here.sources, here.sums],
            elsewhere=elsewhere,
        )
        return _placed(here, outcome)


def _placed(here: layout.Dataset, outcome: store.Outcome) -> store.Outcome:
    """Say where it lies now: it is fresh, the data root was moved, or another computer had it."""
    root = str(here.archive.resolve())
    if outcome.facts.get("root") == root:
        return outcome
    outcome = replace(outcome, facts=outcome.facts | {"root": root})
    known = json.loads(here.archive_stamp.read_text())
    store.write_json(here.archive_stamp, known | {"facts": outcome.facts})
    return outcome


def _decisive(manifest: Manifest) -> str:
    """Hash of what decides which files come out."""
    chosen = manifest.model_dump(include={"tree", "unpack", "editions", "version"})
    files = [f.model_dump(exclude={"urls", "note"}) for f in manifest.files]
    for edition in chosen["editions"].values():
        for file in edition["files"] or ():
            del file["urls"], file["note"]
        del edition["about"], edition["contents"]
    if chosen["tree"]:
        del chosen["tree"]["base"]
    return store.digest([chosen, files])


@contextmanager
def _alone(here: layout.Dataset, say: collect.Say) -> Iterator[None]:
    """One process at a time: two would write into the same unfinished files."""
    here.folder.mkdir(parents=True, exist_ok=True)
    with (here.folder / ".download.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{here.id}: another process is getting it; waiting for that")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sample(
    manifest: Manifest, settings: Settings, here: layout.Dataset, elsewhere: bool
) -> store.Outcome:
    if here.archive.is_dir() and here.sums.is_file():
        raise ArchiveError(
            f"{manifest.id}: {here.archive.resolve()} was downloaded, and a sample would replace "
            f"it. Set ACULA_ARCHIVES=download (or sample,{manifest.id}=download), take another "
            "ACULA_DATA_ROOT, or delete that folder"
        )
    generator = samples.sample(manifest.id)
    inputs = {
        "source": "sample",
        "seed": settings.sample_seed,
        "scale": settings.sample_scale,
        "code": _samples_code(),
    }

    def work() -> tuple[str, dict[str, Any]]:
        with store.finished(here.archive) as temporary:
            temporary.mkdir()
            generator.write(temporary, settings.sample_seed, settings.sample_scale)
            for path in temporary.rglob("*"):  # parts go by time, and all samples are one
                os.utime(path, (_WRITTEN, _WRITTEN))
        here.sums.unlink(missing_ok=True)  # of a download that somebody deleted
        _, facts = _inventory(here.archive.resolve(), source="sample")
        return store.digest(inputs), facts

    outcome = store.cached(
        here.archive_stamp, inputs, [here.archive], work, stored=[], elsewhere=elsewhere
    )
    return _placed(here, outcome)


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
