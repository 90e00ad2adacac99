"""The catalog and the marks as they are now: read again when a file of theirs has changed."""

import threading
import time
from pathlib import Path

from pipeline.explorer import catalog as catalogs
from pipeline.explorer.catalog import Catalog
from pipeline.lineage.evidence import Evidence, gather
from pipeline.steps import marks

_LOOK = 2.0  # s between two looks at the tables


class Corpus:
    """Shared by all requests of one server."""

    def __init__(self, data_root: Path):
        self._root = data_root
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None
        self._looked = 0.0
        self._marks: tuple[tuple[float, int], dict[str, marks.Mark]] | None = None
        self._terms: dict[str, dict[str, str]] = {}

    @property
    def catalog(self) -> Catalog:
        """All rows; read anew after a step has written a table."""
        with self._lock:
            now, known = time.monotonic(), self._catalog
            if known and now - self._looked < _LOOK:
                return known
            self._looked = now
            if known is None or catalogs.state(known.tables) != known.state:
                return self._read()
            return known

    def open(self) -> None:
        """Read the tables.

        Raises:
            LineageError: They cannot be read; says what to run.
        """
        with self._lock:
            self._read()

    def _read(self) -> Catalog:
        self._catalog = Catalog(self._root)
        self._terms = {}
        return self._catalog

    def doubtful(self, path: Path) -> dict[str, marks.Mark]:
        """Marks in force by recording; another explorer may have written one just now."""
        stat = path.stat() if path.is_file() else None
        state = (stat.st_mtime, stat.st_size) if stat else (0.0, 0)
        if self._marks is None or self._marks[0] != state:
            self._marks = state, catalogs.marked(path)
        return self._marks[1]

    def terms(self, dataset: str) -> dict[str, str]:
        """Findings to filter by, in words; those of one dataset, or all."""
        if dataset not in self._terms:
            self._terms[dataset] = self.catalog.terms_of(dataset)
        return self._terms[dataset]

    def evidence(self, name: str) -> Evidence | None:
        """The rows of one recording."""
        tables = self.catalog.tables
        if not (dataset := tables.dataset(name)):
            return None
        row = tables.row("recordings", dataset, recording_id=name)
        return gather(tables, row) if row else None
