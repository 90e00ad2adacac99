"""subjects, pairs, quarantine, manifest -> what the results page says about each dataset."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.compute

from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import layout, store

pc: Any = pyarrow.compute  # its functions are made at import: no type checker sees them
IDENTITIES = ("id", "proxy", "none")


@dataclass(frozen=True, kw_only=True)
class Described:
    """Counts of one dataset. ``persons`` and ``splits`` are by identity kind and by split."""

    manifest: Manifest
    source: str
    recordings: int
    hours: float
    persons: Mapping[str, int]
    splits: Mapping[str, tuple[int, int]]  # recordings, persons
    aligned: int
    quarantine: Counter[str]

    @property
    def refused(self) -> int:
        return self.quarantine.total()


def describe(
    corpus: layout.Corpus, settings: Settings, manifests: Mapping[str, Manifest]
) -> list[Described]:
    """Every dataset of the run, in the order of the settings."""
    columns = ["dataset", "person_id", "identity", "split"]
    subjects = store.read_table(corpus.table("subjects"), columns)
    pairs = store.read_rows(corpus.table("pairs"), ["dataset", "align"], pc.field("align"))
    aligned = Counter(row["dataset"] for row in pairs)
    found: list[Described] = []
    for dataset in settings.evaluated:
        here = corpus.dataset(dataset)
        own = subjects.filter(pc.field("dataset") == dataset)
        seconds = store.read_table(here.recordings, ["duration_s"])["duration_s"].to_pylist()
        # Names of files are left where they are: some publishers write initials into them.
        refused = store.read_table(here.quarantine, ["reason"]).to_pylist()
        identity = dict(zip(own["person_id"].to_pylist(), own["identity"].to_pylist(), strict=True))
        sides = {s: own.filter(pc.field("split") == s) for s in ("train", "val", "test")}
        found.append(
            Described(
                manifest=manifests[dataset],
                source=store.stamped(here.archive_stamp)["facts"]["source"],
                recordings=len(own),
                hours=sum(seconds) / 3600,
                persons={k: n for k in IDENTITIES if (n := list(identity.values()).count(k))},
                splits={
                    s: (len(side), pc.count_distinct(side["person_id"]).as_py())
                    for s, side in sides.items()
                },
                aligned=aligned[dataset],
                quarantine=Counter(r["reason"] for r in refused),
            )
        )
    return found
