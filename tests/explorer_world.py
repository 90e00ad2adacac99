"""A small corpus of two datasets with everything that an explorer shows, and its pages."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from pipeline import settings as configuration
from pipeline.explorer.app import Explorer
from pipeline.lineage import Tables
from pipeline.manifest import load_all
from pipeline.steps import archive, pairs, recordings, report_table, shards, subjects

DATASETS = ("hflung", "icbhi", "kauh")  # the last is only probed
ADDRESS = "http://127.0.0.1"


def silent(_: str) -> None:
    """Progress that nobody reads."""


@dataclass(frozen=True)
class World:
    """A data root, its tables as plain rows, and a client of its explorer."""

    settings: configuration.Settings

    @property
    def root(self) -> Path:
        return self.settings.data_root

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Recordings by id, with person, split and report."""
        tables = Tables(self.root)
        found = {r["recording_id"]: r for d in DATASETS for r in tables.rows("recordings", d)}
        for table in ("subjects", "pairs"):
            for row in tables.rows(table):
                found[row["recording_id"]] |= row
        return found

    @cached_property
    def refused(self) -> list[dict[str, Any]]:
        tables = Tables(self.root)
        return [r for d in DATASETS for r in tables.rows("quarantine", d)]

    def client(self) -> TestClient:
        """Another explorer of the same data root."""
        return TestClient(Explorer(self.settings).app(), ADDRESS, follow_redirects=False)


def world(root: Path) -> World:
    """Make the corpus with the pipeline's own steps."""
    settings = configuration.load(
        data_root=root, archives="sample", datasets=",".join(DATASETS), sample_scale=0.1, workers=1
    )
    known = {d: load_all()[d] for d in DATASETS}
    for manifest in known.values():
        archive.obtain(manifest, settings)
        recordings.prepare(manifest, settings, silent)
        if manifest.use == "alignment":
            report_table.make(manifest, settings)
    subjects.decide(settings, known)
    pairs.join(settings)
    shards.write(settings, known, silent)
    return World(settings)
