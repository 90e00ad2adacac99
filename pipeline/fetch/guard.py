"""What an archive may not do: names that leave the folder or hide a file, links, bombs."""

import re
import stat
import unicodedata
from dataclasses import dataclass

from pipeline.fetch.errors import FetchError
from pipeline.fetch.meter import size as written_out

# Audio compresses ten times at most, silence and metadata more; bombs a thousand times.
MOST_RATIO = 100
FREE_OF_RATIO = 1 << 30  # bytes up to which the ratio does not matter
MOST_MEMBERS = 300_000  # the largest known archive has 220,000; each takes a kilobyte of memory
UNFINISHED = ".unfinished"  # how the names of half-written members end
_JUNK = ("__MACOSX/", ".DS_Store", "._")
# Of a path with forward slashes; the rules of Windows too, whose disks may be mounted anywhere.
_UNSAFE = tuple(
    (re.compile(pattern, re.IGNORECASE), why)
    for pattern, why in (
        (r"\A/", "an absolute path"),
        # Windows drops spaces and further dots at the end of a piece.
        (r"(?:\A|/)(?!\.?(?:/|\Z))[. ]+(?:/|\Z)", "leaves the folder"),
        (r":", "a colon names a drive or a stream under Windows"),
        (r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", "control characters"),
        (r"[\ud800-\udfff]", "no Unicode"),
        (r"(?:\A|/)(?:con|prn|aux|nul|com\d|lpt\d) *(?:\.|/|\Z)", "a device under Windows"),
        (re.escape(UNFINISHED) + r"(?:/|\Z)", "kept for members that are being written"),
    )
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bytes and number of members that one archive may unpack to."""

    bytes: int
    members: int = MOST_MEMBERS

    @classmethod
    def of(cls, packed: int) -> "Limits":
        """For an archive of that many packed bytes."""
        return cls(bytes=max(FREE_OF_RATIO, MOST_RATIO * packed))


def junk(name: str) -> bool:
    """Left behind by a desktop, not by the publisher."""
    return name.startswith(_JUNK[0]) or name.rpartition("/")[2].startswith(_JUNK[1:])


def safe_name(name: str) -> str:
    """A member's path as it may be joined to a folder.

    Raises:
        FetchError: ``unsafe_name``: absolute, with a drive, going up, with control characters,
            or one that some file system takes for something else.
    """
    path = name.replace("\\", "/")  # some programs under Windows write these
    for pattern, why in _UNSAFE:
        if pattern.search(path):
            raise FetchError("unsafe_name", repr(name), why)
    pieces = [p for p in path.split("/") if p not in ("", ".")]
    clean = "/".join(pieces)
    if not pieces or len(clean.encode()) > 1000 or any(len(p.encode()) > 255 for p in pieces):
        raise FetchError("unsafe_name", repr(name[:80]), "empty or too long")
    return clean


def _folded(path: str) -> str:
    """Equal for paths that the file systems of macOS or Windows take for one."""
    if not path.isascii():
        path = unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())
    return "/".join(piece.rstrip(". ") for piece in path.lower().split("/"))


class Guard:
    """Looks at each member before its first byte is written.

    Args:
        archive: Its name, for messages.
        limits: What all of it may come to.
    """

    def __init__(self, archive: str, limits: Limits) -> None:
        self._archive, self._limits = archive, limits
        self._seen: dict[str, str] = {}
        self._folders: set[str] = set()
        self._bytes = 0

    def admit(self, name: str, path: str, size: int, mode: int = 0, encrypted: bool = False) -> str:
        """The safe path of a regular file.

        Args:
            name: As the archive has it.
            path: Without its leading folders.
            size: As the archive states it; the writer holds the member to it.
            mode: Unix mode with its file type; 0 where the archive has none.
            encrypted: A password is needed.

        Raises:
            FetchError: The member is refused, by name.
        """
        try:
            path = safe_name(path)
        except FetchError as error:
            raise self.refusal("unsafe_name", name, error.detail) from None
        kind = stat.S_IFMT(mode)
        if kind not in (0, stat.S_IFREG):
            what = "a link" if kind == stat.S_IFLNK else "no regular file"
            raise self.refusal("unsafe_name", name, what)
        if encrypted:
            raise self.refusal("bad_archive", name, "encrypted")
        if size < 0:
            raise self.refusal("bad_archive", name, f"{size} bytes")
        self._take(name, path)
        self._bytes += size
        if self._bytes > self._limits.bytes or len(self._seen) > self._limits.members:
            detail = f"{len(self._seen)} members of {written_out(self._bytes)} together; at most "
            detail += f"{self._limits.members} of {written_out(self._limits.bytes)} are unpacked"
            raise self.refusal("bomb", name, detail)
        return path

    def refusal(self, code: str, name: str, detail: str) -> FetchError:
        """Names the archive and the member; a terminal must not obey what the name contains."""
        return FetchError(code, f"{self._archive}: {name!r}", detail)

    def _take(self, name: str, path: str) -> None:
        """No other member may be called so, or be a folder where this is a file."""
        folded = _folded(path)
        if folded in self._seen:
            detail = f"the same name as {self._seen[folded]!r}"
            raise self.refusal("unsafe_name", name, detail)
        above = folded.rpartition("/")[0]
        clash = folded in self._folders
        while above and above not in self._folders:
            clash = clash or above in self._seen
            self._folders.add(above)
            above = above.rpartition("/")[0]
        if clash:
            raise self.refusal("unsafe_name", name, "both a file and a folder")
        self._seen[folded] = path
