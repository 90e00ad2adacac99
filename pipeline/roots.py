"""Which folders of this computer are working folders of a data root that lies elsewhere.

``settings.load`` says so; whoever is given a path in such a folder can ask. Worker processes are
told nothing, and so read and write the folder alone.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, eq=False)  # one that is bound again has another state
class Root:
    """A working folder and the URL whose data it holds."""

    folder: Path
    url: str


_ROOTS: dict[Path, Root] = {}


def bind(folder: Path, url: str | None) -> None:
    """From now on a folder is the working folder of a URL, or of none."""
    _ROOTS.pop(folder.absolute(), None)
    if url:
        _ROOTS[folder.absolute()] = Root(folder.absolute(), url)


def behind(path: Path) -> Root | None:
    """The working folder that a path lies in."""
    whole = path.absolute()
    return next((r for folder, r in _ROOTS.items() if whole.is_relative_to(folder)), None)
