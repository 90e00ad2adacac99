"""A data root at a URL: what steps finish goes there, what they ask for comes from there.

Steps work in a folder of this computer. What one has finished is sent, data first and its stamp
last, so that a stamp in the store means that everything it names is there. Stamps lie apart, in
``stamps/``, and name each file of the step with its size and sha256; what comes back is held
against them. Nothing is taken from a store but what a stamp names.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline import roots
from pipeline.steps import disk
from pipeline.steps.objects import File, Objects, Say, StoreError, each, same, within

STAMPS = "stamps"
Stamp = dict[str, Any]  # key, inputs, version, facts; once sent also outputs and files


def of(path: Path) -> "Store | None":
    """The store whose working folder a path lies in; None for a data root on this computer."""
    root = roots.behind(path)
    return _store(root) if root else None


@lru_cache(maxsize=8)
def _store(root: roots.Root) -> "Store":
    return Store(root)


def address(path: Path) -> str:
    """Where something of the data root is to be found: a URL, or a path of this computer."""
    home = of(path)
    known = home is not None and (path.absolute() == home.folder or home.below(path))
    return f"{home.objects.url}/{home.name(path)}" if home and known else str(path.resolve())


def exists(path: Path) -> bool:
    """Whether a file or folder is here or in the store."""
    home = of(path)
    return path.exists() or (home is not None and bool(home.below(path)))


def size(path: Path) -> int:
    """Bytes of a file that is here or in the store."""
    home = of(path)
    if path.exists() or home is None:
        return path.stat().st_size
    return home.below(path)[home.name(path)][0]


def need(*paths: Path, say: Say | None = None) -> None:
    """Bring files, all of a folder, or stamps, that are only in the store.

    What neither has is left for the caller to miss.

    Raises:
        StoreError: The store cannot be reached, or an object is not what its stamp says.
    """
    if paths and (home := of(paths[0])):
        home.bring(paths, say)


def read(path: Path, offset: int, size: int) -> bytes:
    """A piece of a file that is only in the store; it is not held against the file's sha256.

    Raises:
        FileNotFoundError: No store has it.
    """
    home = of(path)
    if home is None or not home.below(path):
        raise FileNotFoundError(f"{path} is missing: materialise the step that makes it again")
    with home.objects.explained():
        return home.objects.piece(home.name(path), offset, size)


def keep(folder: Path, wanted: Callable[[str], bool]) -> None:
    """Of a folder's files that are only in the store, count on those that are still wanted.

    Args:
        folder: Of this computer.
        wanted: Path in the folder -> whether it stays.
    """
    if home := of(folder):
        home.keep(folder, wanted)


class Store:
    """One data root elsewhere as this process found it; steps that it runs are added.

    Names of files are relative to the data root, with slashes.

    Raises:
        StoreError: The address is unknown or its driver is not installed.
    """

    def __init__(self, root: roots.Root):
        self.folder, self.objects = root.folder, Objects(root.url)
        self._adopted: set[str] = set()
        self._one_at_a_time = threading.Lock()  # threads would write into one unfinished file
        self._named: dict[str, dict[str, File]] = {}  # stamp -> its files by their whole names

    def name(self, path: Path) -> str:
        """What a path of the working folder is called in the store."""
        return path.absolute().relative_to(self.folder).as_posix()

    @cached_property
    def stamps(self) -> dict[str, Stamp]:
        """Name of a stamp -> what it says; one that is half written does not count."""
        found: dict[str, Stamp] = {}
        with self.objects.explained():
            texts = self.objects.texts(list(self.objects.find(STAMPS)))
        for name, text in texts.items():
            try:
                found[name.removeprefix(f"{STAMPS}/")] = json.loads(text)
            except ValueError:
                continue
        return found

    def has(self, stamp: Path, key: str) -> bool:
        """Whether the store holds what a step makes of these inputs."""
        return self.stamps.get(self.name(stamp), {}).get("key") == key

    def below(self, path: Path) -> dict[str, File]:
        """A file, or all files of a folder, that a stamp in the store names."""
        name = self.name(path)
        owner = name if name in self.stamps else self._owner(name)
        if owner:
            self.adopt(self.folder / owner)
        files = self._files(owner)
        if name in files:
            return {name: files[name]}
        return {n: file for n, file in files.items() if within(n, name)}

    def adopt(self, stamp: Path, key: str | None = None) -> None:
        """Bring a step's stamp, and what of its files is here, to the state of the store.

        Another computer may have done the step since. What was made here and not sent stays.

        Args:
            stamp: Its path in the working folder.
            key: Of the inputs, where the step is about to be done of others than the store's.
        """
        name = self.name(stamp)
        if name in self._adopted or name not in self.stamps:
            return
        self._adopted.add(name)
        theirs = self.stamps[name]
        if key not in (None, theirs["key"]):
            return  # parts and shards are called by what they hold: whoever made them, they count
        mine: Stamp = json.loads(stamp.read_text()) if stamp.is_file() else {}
        if mine and "files" not in mine and mine["key"] != theirs["key"]:
            self._forget(name)
            return
        if all(mine.get(k) == theirs[k] for k in ("key", "version", "files")):
            return
        known, listed = mine.get("files", {}), theirs["files"]
        for path in _finished(stamp.parent / top for top in theirs["outputs"]):
            file = path.relative_to(stamp.parent).as_posix()
            right = listed.get(file)
            if known.get(file) != right and not (right and same(path, right)):
                path.unlink()  # what neither names is work that was interrupted
        with disk.finished(stamp) as temporary:
            temporary.write_bytes(text(theirs))

    def keep(self, folder: Path, wanted: Callable[[str], bool]) -> None:
        """See ``keep`` of this module."""
        name = self.name(folder)
        if not (owner := self._owner(name)):
            return
        said, place = self.stamps[owner], PurePosixPath(owner).parent
        inside = {n: str(place / n) for n in said["files"]}
        said["files"] = {
            n: file
            for n, file in said["files"].items()
            if not within(inside[n], name) or wanted(inside[n].removeprefix(f"{name}/"))
        }
        self._named.pop(owner, None)

    def send(
        self, stamp: Path, said: Stamp, outputs: Sequence[Path], say: Say | None, whole: bool
    ) -> Stamp:
        """Send what a step made and then its stamp; returns the stamp as it lies there.

        Files that lie there already are not sent again; what lies in a folder of the step and is
        no more part of it goes.

        Args:
            stamp: Its path in the working folder.
            said: What it says.
            outputs: Files and folders that the step made.
            say: Hears how far it is.
            whole: Whether all of it is here; otherwise the folders go on with what an earlier run
                sent and ``keep`` has kept.

        Raises:
            StoreError: Something did not arrive; no stamp is there then.
        """
        name = self.name(stamp)
        place, there = PurePosixPath(name).parent, f"{STAMPS}/{name}"
        tops = [self.name(o) for o in outputs]
        before = self._files(name)
        self._forget(name)
        here = {self.name(p): p for p in _finished(outputs)}
        with self.objects.explained():
            self.objects.remove(list(self.objects.find(there)))
            lying = {n: about for top in tops for n, about in self.objects.find(top).items()}

            def one(file: str) -> tuple[str, File]:
                about = lying.get(file), before.get(file)
                return file, self.objects.send(file, here[file], *about)

            files = dict(each(one, sorted(here), say, f"{{}} files are in {self.objects.url}"))
            folders = [top for top in tops if top not in files]
            for file, known in before.items():
                if not whole and any(within(file, top) for top in folders):
                    files.setdefault(file, known)
            self.objects.remove(sorted(lying.keys() - files.keys()))
            said = said | {
                "outputs": [str(PurePosixPath(top).relative_to(place)) for top in tops],
                "files": {
                    str(PurePosixPath(n).relative_to(place)): list(file)
                    for n, file in sorted(files.items())
                },
            }
            self.objects.write(there, text(said))
        self.stamps[name] = json.loads(text(said))
        self._adopted.add(name)
        return self.stamps[name]

    def bring(self, paths: Iterable[Path], say: Say | None = None) -> None:
        """Fetch files that a stamp names and that are not here; a folder holds those alone then."""
        wanted: dict[str, File] = {}
        for path in paths:
            below = self.below(path)
            wanted |= below
            for file in _finished([path]) if below and path.is_dir() else ():
                if self.name(file) not in below:
                    file.unlink()
        missing = sorted(n for n in wanted if not (self.folder / n).exists())

        def one(name: str) -> None:
            with disk.finished(self.folder / name) as temporary:
                if wrong := self.objects.fetch(name, temporary, wanted[name]):
                    url = self.objects.url
                    raise StoreError(
                        f"{url}/{name} {wrong}: its stamp names a file of sha256 "
                        f"{wanted[name][1][:16]}. Delete {url}/{STAMPS}/{self._owner(name)} and "
                        "run the command again: the step is then done anew"
                    )

        with self._one_at_a_time, self.objects.explained():
            for _ in each(one, missing, say, f"{{}} files fetched from {self.objects.url}"):
                pass

    def _owner(self, name: str) -> str:
        """The stamp of the step that made a file or folder; empty where there is none."""
        for stamp, said in self.stamps.items():
            place = PurePosixPath(stamp).parent
            if any(within(name, str(place / top)) for top in said["outputs"]):
                return stamp
        return ""

    def _files(self, stamp: str) -> dict[str, File]:
        """What a stamp names; nothing where there is no such stamp."""
        if stamp not in self.stamps:
            return {}
        if stamp not in self._named:
            place, files = PurePosixPath(stamp).parent, self.stamps[stamp]["files"]
            self._named[stamp] = {str(place / n): (f[0], f[1]) for n, f in files.items()}
        return self._named[stamp]

    def _forget(self, stamp: str) -> None:
        self.stamps.pop(stamp, None)
        self._named.pop(stamp, None)


def text(stamp: Stamp) -> bytes:
    """A stamp as it is written."""
    return (json.dumps(stamp, indent=1, sort_keys=True, default=str) + "\n").encode()


def _finished(outputs: Iterable[Path]) -> Iterator[Path]:
    """Files that are done: what begins with a dot is on its way, or somebody's own."""
    for path in outputs:
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file() and not file.name.startswith("."):
                yield file
