"""An unfinished download that knows which of its bytes can be trusted after a kill or a reboot.

Beside ``<name>.part`` lies ``<name>.part.log``: a line about the source, then, for each block
that arrived, its end and the sha256 of everything up to there. On resumption the part is hashed
once from its start (the running hash is needed anyway) and cut at the last line that agrees: a
kill loses less than one block, a reboot only what the disk had not stored.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

BLOCK = 8 << 20
_READ = 1 << 20


class Journal:
    """The growing file of one download.

    Attributes:
        size: Trusted bytes so far.
        source: What was noted about where they came from: url, validator, total.
    """

    def __init__(self, target: Path) -> None:
        self.part = target.with_name(f"{target.name}.part")
        self._log = target.with_name(f"{target.name}.part.log")
        self._start_over()
        if self._log.is_file() and self.part.is_file():
            self._restore()

    def _start_over(self) -> None:
        self.size = 0
        self.source: dict[str, Any] = {}
        self._hash = hashlib.sha256()
        self._blocks: list[str] = []  # the log's lines that agree with the file

    def _restore(self) -> None:
        lines = self._log.read_text(errors="replace").splitlines()
        try:
            self.source = json.loads(lines[0]) if lines else {}
        except json.JSONDecodeError:
            return
        hasher = hashlib.sha256()
        with self.part.open("rb") as file:
            for line in lines[1:]:
                end, _, digest = line.partition(" ")
                if not end.isdecimal() or not _hash_up_to(int(end), file, hasher):
                    return
                if hasher.hexdigest() != digest:
                    return
                self.size, self._hash = int(end), hasher.copy()
                self._blocks.append(line)

    def forget(self) -> None:
        """Delete what is there and begin again."""
        self.part.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)
        self._start_over()

    def append(
        self, source: dict[str, Any], chunks: Iterable[bytes], written: Callable[[int], None]
    ) -> None:
        """Write chunks after the trusted bytes; ``written`` hears of each one's size."""
        self.source = source
        fresh = self._log.with_suffix(".new")
        fresh.write_text("\n".join([json.dumps(source), *self._blocks, ""]))
        self.part.touch()
        fresh.replace(self._log)
        with self.part.open("r+b") as file, self._log.open("a") as log:
            file.truncate(self.size)
            file.seek(self.size)

            def note() -> int:
                file.flush()  # the log must never know more than the file has
                line = f"{self.size} {self._hash.hexdigest()}"
                log.write(line + "\n")
                log.flush()
                self._blocks.append(line)
                return self.size

            noted = self.size
            try:
                for chunk in chunks:
                    file.write(chunk)
                    self._hash.update(chunk)
                    self.size += len(chunk)
                    written(len(chunk))
                    if self.size - noted >= BLOCK:
                        noted = note()
            finally:
                if self.size > noted:
                    note()

    @property
    def sha256(self) -> str:
        """Of the trusted bytes."""
        return self._hash.hexdigest()

    def finish(self, target: Path) -> None:
        """Rename the part to ``target``."""
        self.part.replace(target)
        self._log.unlink(missing_ok=True)


def _hash_up_to(end: int, file: BinaryIO, hasher: Any) -> bool:
    """Hash on to byte ``end``; False when the file ends before, or has been read further."""
    if end <= file.tell():
        return False
    while (left := end - file.tell()) > 0:
        block = file.read(min(_READ, left))
        if not block:
            return False
        hasher.update(block)
    return True
