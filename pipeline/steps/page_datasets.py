"""subjects, pairs, quarantine, manifest -> what the results page says about each dataset."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import layout, store

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
    corpus: layout.Corpus,
    settings: Settings,
    manifests: Mapping[str, Manifest],
    pairs: Sequence[Mapping[str, Any]],
) -> list[Described]:
    """Every dataset of the run, in the order of the settings."""
    by_dataset: dict[str, list[Mapping[str, Any]]] = {d: [] for d in settings.evaluated}
    for row in store.read_table(corpus.table("subjects")).to_pylist():
        by_dataset[row["dataset"]].append(row)
    aligned = Counter(row["dataset"] for row in pairs if row["align"])
    found: list[Described] = []
    for dataset, own in by_dataset.items():
        here = corpus.dataset(dataset)
        seconds = store.read_table(here.recordings, ["duration_s"])["duration_s"].to_pylist()
        # Names of files are left where they are: some publishers write initials into them.
        refused = store.read_table(here.quarantine, ["reason"]).to_pylist()
        identity = {r["person_id"]: r["identity"] for r in own}
        sides = {s: [r for r in own if r["split"] == s] for s in ("train", "val", "test")}
        found.append(
            Described(
                manifest=manifests[dataset],
                source=store.stamped(here.archive_stamp)["facts"]["source"],
                recordings=len(own),
                hours=sum(seconds) / 3600,
                persons={k: n for k in IDENTITIES if (n := list(identity.values()).count(k))},
                splits={s: (len(r), len({p["person_id"] for p in r})) for s, r in sides.items()},
                aligned=aligned[dataset],
                quarantine=Counter(r["reason"] for r in refused),
            )
        )
    return found
