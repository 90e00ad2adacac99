"""Checksum lists of publishers, and the lock file that remembers what nobody published."""

import json
import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.fetch.download import Got

# One space (PhysioNet), two (sha256sum), or a star before the path (binary mode).
_LINE = re.compile(r"^(?P<sum>[0-9a-f]{40}|[0-9a-f]{64})[ \t]+\*?(?P<path>\S.*)$")


def read(path: Path) -> dict[str, str]:
    """Relative path -> checksum.

    Raises:
        ValueError: A line is neither a checksum with a path nor empty.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.match(line)
        if not match:
            raise ValueError(f"{path.name}, line {number}: no checksum and path: {line[:80]!r}")
        found[match["path"].removeprefix("./")] = match["sum"]
    return found


def text(sums: Mapping[str, str]) -> str:
    """The lines that ``sha256sum -c`` reads, in order of their paths."""
    return "".join(f"{value}  {path}\n" for path, value in sorted(sums.items()))


@dataclass
class Lock:
    """Checksums noted at first download, so that the next person gets the same bytes.

    Attributes:
        path: ``<id>.lock`` beside the manifest; JSON.
        files: File name -> size, sha256, where it came from and when.
        contents: Archive name -> sha256 of the list of its members' checksums, for archives
            that a host packs anew for every download.
    """

    path: Path
    files: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    contents: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def load(cls, path: Path) -> "Lock":
        """What the file says; empty when there is none."""
        if not path.is_file():
            return cls(path)
        known = json.loads(path.read_text(encoding="utf-8"))
        return cls(path, known["files"], known["contents"])

    def expected(self, name: str) -> tuple[int, str] | None:
        """Size and sha256 of a file's first download."""
        entry = self.files.get(name)
        return (entry["bytes"], entry["sha256"]) if entry else None

    def note(self, got: Iterable[Got]) -> None:
        """Remember files that nothing published could be checked against."""
        fresh = {g.name: asdict(g) for g in got if g.name not in self.files}
        for entry in fresh.values():
            del entry["name"]
        if fresh:
            self.files |= fresh
            self.save()

    def save(self) -> None:
        """Write the file, all or nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}-{threading.get_ident()}")
        value = {"files": self.files, "contents": self.contents}
        fresh.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        fresh.replace(self.path)
