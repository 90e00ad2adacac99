"""The packed files of a dataset: mirror, publisher or second source -> verified files.

What nobody published a checksum for is locked at first download; a publisher's own list of
checksums is held against what came out.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import quote

from pipeline import manifest as manifests
from pipeline.fetch import sums, transfer
from pipeline.fetch.download import Got, Want
from pipeline.fetch.errors import FetchError, shown
from pipeline.fetch.meter import Meter, size
from pipeline.fetch.sums import Lock
from pipeline.fetch.volumes import RemoteVolume, Volume
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.sources import RemoteFile
from pipeline.steps import layout

# Where these stop one way of getting an archive, another way may go.
_TRY_ANOTHER_WAY = {"not_found", "forbidden", "html_page", "certificate", "unreachable"}
Watch = Callable[[Meter], None]
Say = Callable[[str], None]


def _bytes(paths: Iterable[Path]) -> int:
    return sum(p.stat().st_size for p in paths)


class Collection:
    """Fetches the packed files of one dataset.

    Args:
        manifest: The dataset in the chosen edition.
        settings: Mirror, edition, limits.
        say: Hears one line at a time.
        watch: Hears of progress; by default lines to ``say``.

    Attributes:
        got: Every file that was fetched, by name.
        lists: Published lists (globs) that choose members, where the edition has some.
    """

    def __init__(
        self, manifest: Manifest, settings: Settings, say: Say, watch: Watch | None
    ) -> None:
        self.manifest, self.settings, self.say = manifest, settings, say
        self.here = layout.Dataset(settings.data_root, manifest.id)
        self.got: dict[str, Got] = {}
        self._unknown: list[Got] = []  # no checksum of it is known
        self._watch: Watch = watch or (lambda meter: say(meter.line))
        self._interval = 0.2 if watch else 10.0  # a bar moves, a log has lines
        folder = settings.locks or manifests.FOLDER
        self._lock = Lock.load(folder / f"{manifest.id}.lock")
        chosen = manifest.editions.get(settings.edition_of(manifest.id) or "")
        self.lists = chosen.members_of if chosen else []

    def meter(self, name: str, total: int | None = None) -> Meter:
        """Progress of one long transfer."""
        return Meter(name, total, self._watch, self._interval)

    def fetch(self) -> list[str]:
        """Fetch whatever the edition needs; returns the names of the files that are then here.

        Raises:
            FetchError: Access is on request, there is no room, or a file cannot be had.
        """
        self._terms()
        files = [f for f in self.manifest.files if not self._by_members(f.name)]
        self._room(files)
        return self._fetch_all(files)

    def _terms(self) -> None:
        """Licence and attribution before the first byte."""
        licence = self.manifest.licence
        self.say(
            f"{self.manifest.title}, version {self.manifest.version}. Licence: {licence.name}"
            + (f" ({licence.url})" if licence.url else "")
            + f". Attribution: {self.manifest.attribution}"
        )
        if self.manifest.access == "request":
            raise FetchError("on_request", self.manifest.id, self.manifest.instructions.strip())
        folder = self._lock.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise FetchError("read_only", str(folder))

    def _by_members(self, name: str) -> bool:
        """The edition reads single members of this file's archive instead of fetching it."""
        steps = [s for s in self.manifest.unpack if s.partial and fnmatchcase(name, s.source)]
        return bool(self.lists and steps)

    def _room(self, files: list[RemoteFile]) -> None:
        """Ask for room before the first byte: packed files that are not here, and unpacked ones."""
        here = self.here.downloads
        missing = sum(f.bytes or 0 for f in files if not (here / f.name).exists())
        missing -= _bytes(p for f in files if (p := here / f"{f.name}.part").exists())
        if not here.exists() and not self.lists:
            missing = max(missing, self.manifest.about_bytes or 0)
        begun = self.here.folder.glob(".archive.unpacking-*/**/*")
        unpacked = (self.manifest.unpacked_bytes or 0) - _bytes(p for p in begun if p.is_file())
        needed = max(0, missing) + max(0, unpacked)
        self.here.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.here.folder).free
        if needed > free:
            detail = f"{size(needed)} needed, {size(free)} free"
            raise FetchError("disk_full", str(self.here.folder.resolve()), detail)

    def _urls(self, file: RemoteFile) -> list[str]:
        return [*self.settings.mirrored(self.manifest.id, file.name), *file.urls]

    def _want(self, file: RemoteFile) -> Want:
        spanned = any(f.name == f"{file.name[:-4]}.z01" for f in self.manifest.files)
        return Want(
            file=file,
            urls=self._urls(file),
            target=self.here.downloads / file.name,
            locked=None if file.generated else self._lock.expected(file.name),
            begins=not (file.name.endswith(".zip") and spanned),
        )

    def _fetch(self, files: list[RemoteFile]) -> list[str]:
        """Download; returns the names."""
        known = [f.bytes for f in files]
        total = None if None in known else sum(b or 0 for b in known)
        meter = self.meter(self.manifest.id, total)
        wants = [self._want(f) for f in files]
        got = transfer.fetch(wants, meter.add, self.settings.downloads_at_once, self.say)
        self._unknown += [
            g for g, w in zip(got, wants, strict=True) if not (w.checked or w.file.generated)
        ]
        self.got |= {g.name: g for g in got}
        return [f.name for f in files]

    def _fetch_all(self, files: list[RemoteFile]) -> list[str]:
        tree = self.manifest.tree
        if tree is None:
            return self._fetch(files)
        instead = [f for f in files if f.name == tree.instead_of]
        names = self._fetch([f for f in files if f not in instead])
        if instead:
            try:
                return names + self._fetch(instead)
            except FetchError as error:
                if error.code not in _TRY_ANOTHER_WAY:
                    raise
                self.say(f"{error}. Fetching its files one by one from {tree.base}")
        return names + self._fetch(self._tree_files())

    def _tree_files(self) -> list[RemoteFile]:
        tree = self.manifest.tree
        assert tree is not None
        return [
            RemoteFile.model_validate(
                {"name": path, "urls": [tree.base + quote(path)], tree.hash: value}
            )
            for path, value in self._listed().items()
            if path != tree.sums
        ]

    def _listed(self) -> dict[str, str]:
        """The tree's list: path -> checksum, of the paths that are kept."""
        tree = self.manifest.tree
        assert tree is not None
        fetched = self.here.downloads / tree.sums
        every = sums.read(fetched if fetched.is_file() else manifests.FOLDER / tree.sums)
        return {p: s for p, s in every.items() if any(fnmatchcase(p, k) for k in tree.keep)}

    def afar(self, file: RemoteFile) -> Volume:
        """A volume read where it lies; the first source that sends ranges."""
        failure: FetchError | None = None
        for url in self._urls(file):
            try:
                volume = RemoteVolume(url)
            except FetchError as error:
                failure = error
                continue
            if file.bytes is not None and volume.size != file.bytes:
                detail = f"{volume.size} bytes, expected {file.bytes}"
                failure = FetchError("size_mismatch", url, detail)
                continue
            # Its members are checked one by one, so there is no checksum of the whole.
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self.got[file.name] = Got(name=file.name, bytes=0, sha256="", url=shown(url), at=now)
            return volume
        assert failure is not None
        raise failure

    def lock(self) -> None:
        """Note checksums that nobody has published, of files that have proved to be usable."""
        self._lock.note(self._unknown)

    def hold_against_lock(self, stem: str, group: list[str], content: str) -> None:
        """An archive that is packed anew each time must hold what it first held."""
        if not any(f.generated for f in self.manifest.files if f.name in group):
            return
        first = self._lock.contents.setdefault(stem, content)
        if first != content:
            detail = f"content {content}, first {first}"
            raise FetchError("changed_upstream", f"{self.manifest.id}: {stem}", detail)
        self._lock.save()

    def hold_against_list(self, found: Mapping[str, str]) -> None:
        """Every unpacked file against the publisher's own list of checksums, where there is one."""
        tree = self.manifest.tree
        if tree is None or tree.hash != "sha256":
            return
        wrong = {p: v for p, v in self._listed().items() if found.get(p) != v}
        if wrong:
            missing = sorted(p for p in wrong if p not in found)
            differ = sorted(p for p in wrong if p in found)
            detail = f"against {tree.sums}: {len(missing)} missing {missing[:5]}, "
            detail += f"{len(differ)} different {differ[:5]}"
            raise FetchError("hash_mismatch", self.manifest.id, detail)
