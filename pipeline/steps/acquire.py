"""A dataset's packed files -> its unpacked folder, with an account of every file in it.

Resumable: members that an interrupted unpacking left behind are kept when size and checksum
agree, and the folder appears complete or not at all.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pipeline.fetch import sums, transfer
from pipeline.fetch.errors import FetchError
from pipeline.fetch.unpack import unpack
from pipeline.fetch.volumes import LocalVolume, Volumes, grouped
from pipeline.manifest import Manifest
from pipeline.pool import cores
from pipeline.settings import Settings
from pipeline.sources import Unpacking
from pipeline.steps import layout, published, store
from pipeline.steps.collect import Collection, Say, Watch


def acquire(
    manifest: Manifest, settings: Settings, target: Path, say: Say, watch: Watch | None = None
) -> dict[str, Any]:
    """Fill ``target`` with the unpacked archive; returns what lineage keeps of it.

    Args:
        manifest: The dataset in the chosen edition.
        settings: Mirror, agreements, limits.
        target: Folder that appears, complete, at the end.
        say: Hears one line at a time.
        watch: Hears of progress; by default lines to ``say``.

    Raises:
        FetchError: Something cannot be had or used; says what to do.
    """
    here = layout.Dataset(settings.data_root, manifest.id)
    collection = Collection(manifest, settings, say, watch)
    names = collection.fetch()
    staging = _staging(here, store.digest([manifest.model_dump(), collection.lists]))
    unpacking = _Unpacking(collection, staging)
    used = {n for step in manifest.unpack for n in unpacking.run(step, names)}
    for name in sorted(set(names) - used):
        unpacking.place(name)
    found = unpacking.sums
    collection.hold_against_list(found)
    collection.lock()
    _sweep(staging, found)
    if target.exists():
        shutil.rmtree(target)
    staging.replace(target)
    store.write_json(here.sources, [asdict(g) for g in collection.got.values()])
    with store.finished(here.sums) as temporary:
        temporary.write_text(sums.text(found), encoding="utf-8")
    if not settings.keep_downloads:
        shutil.rmtree(here.downloads, ignore_errors=True)
    urls = [g.url for g in collection.got.values()]
    return {
        "files": len(found),
        "bytes": sum(p.stat().st_size for p in target.rglob("*") if p.is_file()),
        "content": content(found),
        "fetched": len(urls),
        "fetched_bytes": sum(g.bytes for g in collection.got.values()),
        "fetched_from": sorted({url.split("/")[2] for url in urls if "://" in url}),
        "not_in_archive": unpacking.missing,
        "sources_table": str(here.sources.resolve()),
    }


def content(members: Mapping[str, str]) -> str:
    """One sha256 over the sorted list of files and their checksums."""
    return hashlib.sha256(sums.text(members).encode()).hexdigest()


def _staging(here: layout.Dataset, key: str) -> Path:
    """The folder of an unpacking that may have been interrupted; others are deleted."""
    staging = here.folder / f".archive.unpacking-{key}"
    for old in here.folder.glob(".archive.unpacking-*"):
        if old != staging:
            shutil.rmtree(old)
    staging.mkdir(parents=True, exist_ok=True)
    return staging


def _sweep(staging: Path, known: Mapping[str, str]) -> None:
    """Delete what a killed run left half written."""
    for path in staging.rglob("*"):
        if path.is_file() and path.relative_to(staging).as_posix() not in known:
            path.unlink()


class _Unpacking:
    """Runs the steps of a manifest; ``sums`` holds every file of the folder so far."""

    def __init__(self, collection: Collection, staging: Path) -> None:
        self._collection, self._staging = collection, staging
        self._manifest = collection.manifest
        self.sums: dict[str, str] = {}
        self.missing = 0
        self._only = self._listed_members()

    def _listed_members(self) -> frozenset[str] | None:
        """File names that the edition's published lists hold; None for everything."""
        if not self._collection.lists:
            return None
        lists = published.fetch(self._manifest, self._collection.settings, self._collection.lists)
        return frozenset(Path(str(n)).name for each in lists.values() for n in each)

    def run(self, step: Unpacking, names: list[str]) -> set[str]:
        """Run one step; returns the names of the downloads that it used up."""
        if step.partial and self._only is not None:
            self._from_afar(step, self._only)
            return set()
        root = self._staging if step.nested else self._collection.here.downloads
        if step.nested:
            names = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
        matching = [n for n in names if fnmatchcase(n, step.source)]
        for stem, group in grouped(matching).items():
            self._collection.say(f"{self._manifest.id}: unpacking {stem}")
            members = self._open(step, Volumes([LocalVolume(root / n) for n in group]))
            self._collection.hold_against_lock(stem, group, content(members))
            for name in group if step.nested else ():
                (root / name).unlink()
                self.sums.pop(name, None)
        tree = self._manifest.tree
        if not matching and not (tree and fnmatchcase(tree.instead_of or "", step.source)):
            raise FetchError("bad_archive", self._manifest.id, f"no file matches {step.source}")
        return set() if step.nested else set(matching)

    def _from_afar(self, step: Unpacking, only: frozenset[str]) -> None:
        """Read the listed members where the archive lies."""
        files = {f.name: f for f in self._manifest.files if fnmatchcase(f.name, step.source)}
        order = [name for group in grouped(list(files)).values() for name in group]
        volumes = transfer.each(lambda n: self._collection.afar(files[n]), order, 8)
        members = self._open(step, Volumes(volumes), only)
        absent = sorted(only - {Path(m).name for m in members})
        self.missing += len(absent)
        if absent:
            self._collection.say(
                f"{self._manifest.id}: {len(absent)} of {len(only)} listed members are not in "
                f"the archive, such as {', '.join(absent[:3])}"
            )

    def _open(
        self, step: Unpacking, volumes: Volumes, only: frozenset[str] | None = None
    ) -> dict[str, str]:
        """Unpack one archive; returns its members' checksums."""
        meter = self._collection.meter(f"{self._manifest.id}, unpacked")

        def expect(total: int) -> None:
            meter.total = total

        afar = only is not None
        folder = unpack(
            step.format,
            volumes,
            self._staging / step.into,
            keep=step.keep,
            drop=step.root,
            only=only,
            written=meter.add,
            expect=expect,
            at_once=self._collection.settings.downloads_at_once if afar else cores(),
        )
        if not folder.sums:
            detail = f"nothing in it matches {', '.join(step.keep)}; its layout has moved"
            raise FetchError("bad_archive", volumes.name, detail)
        prefix = f"{step.into}/" if step.into else ""
        found = {prefix + path: value for path, value in folder.sums.items()}
        if twice := sorted(p for p, v in found.items() if self.sums.get(p, v) != v):
            detail = f"another archive of {self._manifest.id} holds {twice[0]} with other bytes"
            raise FetchError("unsafe_name", volumes.name, detail)
        self.sums |= found
        return folder.sums

    def place(self, name: str) -> None:
        """A file that is no archive lies in the folder as it is."""
        source, target = self._collection.here.downloads / name, self._staging / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            shutil.copy2(source, target)
        self.sums[name] = self._collection.got[name].sha256
