"""Everything that the tables say about one recording, gathered for the links."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.lineage.tables import Row, Tables
from pipeline.manifest import Manifest
from pipeline.records import pair_id
from pipeline.steps.layout import Dataset


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Rows of one recording; None where a step has not run or does not know it."""

    tables: Tables
    manifest: Manifest
    recording: Row
    subject: Row | None
    report: Row | None
    pair: Row | None
    place: Row | None

    @property
    def here(self) -> Dataset:
        return self.tables.corpus.dataset(self.manifest.id)

    @property
    def pair_id(self) -> str:
        return pair_id(self.recording["recording_id"])

    @property
    def findings(self) -> dict[str, Any]:
        """As recorded: name -> code or number."""
        return json.loads(self.recording["findings"])

    @property
    def member(self) -> Path:
        """The file in the archive, whether or not it is there."""
        return archive_root(self.tables, self.manifest.id) / self.recording["member"]


def archive_root(tables: Tables, dataset: str) -> Path:
    """Where a dataset's archive lies now: a data root that was moved takes its archives along."""
    here = tables.corpus.dataset(dataset)
    root = Path(tables.stamp(here.archive_stamp).get("facts", {}).get("root", here.archive))
    return root if root.is_dir() or not here.archive.is_dir() else here.archive


def gather(tables: Tables, recording: Row) -> Evidence:
    """Look up the rows that belong to a row of the recordings table."""
    dataset, key = recording["dataset"], recording["recording_id"]
    return Evidence(
        tables=tables,
        manifest=tables.manifests[dataset],
        recording=recording,
        subject=tables.row("subjects", recording_id=key),
        report=tables.row("reports", dataset, recording_id=key),
        pair=tables.row("pairs", pair_id=pair_id(key)),
        place=tables.row("shards", pair_id=pair_id(key)),
    )
