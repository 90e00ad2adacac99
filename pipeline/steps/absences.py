"""What could not be fetched, and when that was found: nobody waits for it again in every run."""

import json
import time
from pathlib import Path
from typing import Any

from pipeline.fetch.errors import FetchError
from pipeline.steps import store

ASK_AGAIN = 600.0  # seconds after which a source that failed is asked once more


class Absences:
    """Notes of failed fetches, by name, in a file of the data root.

    A note holds for the sources it was made of: another mirror or another checksum is asked
    at once. The first explanation is kept as long as the kind of failure stays the same, so
    that asking again in vain changes no table.

    Args:
        path: JSON file; absent where nothing was missed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        text = path.read_text() if path.is_file() else ""  # a reboot may leave an empty one
        self._notes: dict[str, dict[str, Any]] = json.loads(text or "{}")
        self._before = json.dumps(self._notes)

    def known(self, name: str, sources: str) -> FetchError | None:
        """Why it could not be had the last time, from the same sources."""
        note = self._notes.get(name)
        if note is None or note["sources"] != sources:
            return None
        return FetchError(note["code"], note["what"], note["detail"])

    def recent(self, name: str) -> bool:
        """The last failure is so young that asking again is not worth a wait."""
        return 0 <= time.time() - self._notes[name]["at"] < ASK_AGAIN

    def add(self, name: str, sources: str, error: FetchError) -> FetchError:
        """Note a failure of now; returns the error that explains it."""
        known = self.known(name, sources)
        error = known if known is not None and known.code == error.code else error
        self._notes[name] = {
            "sources": sources, "code": error.code, "what": error.what, "detail": error.detail,
            "at": time.time(),
        }  # fmt: skip
        return error

    def forget(self, name: str) -> None:
        """It is here now."""
        self._notes.pop(name, None)

    def save(self) -> None:
        """Write the file, where anything has changed."""
        if json.dumps(self._notes) != self._before:
            store.write_json(self._path, self._notes)
