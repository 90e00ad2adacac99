"""All tasks of a dataset -> which recordings are one sound, and a certificate of every split.

Nothing here depends on a model, so it is made once per dataset and read by every run.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pipeline import doctor
from pipeline.doctor import drift, own
from pipeline.doctor.certificate import Certificate, certify
from pipeline.doctor.columns import SplitError
from pipeline.doctor.near import Group
from pipeline.doctor.sounds import near_duplicates_of
from pipeline.doctor.table import EACH
from pipeline.manifest import load_all
from pipeline.settings import Settings
from pipeline.steps import layout, store

# Sounds are not compared above this: fingerprints take a core a millisecond per second of
# sound, so that this much is an hour of one core.
MOST_HOURS = 1000.0
_MOST_LINES = 8  # of what a certificate lists
_EXAMPLE = re.compile(r"\.? For example .*$", re.DOTALL)


def check(
    settings: Settings,
    dataset: str,
    progress: Callable[[str], None] = print,
    most_hours: float = MOST_HOURS,
) -> store.Outcome:
    """Write ``<dataset>/split_checks.json`` unless it is there for the same tables.

    ``near.groups`` are recording ids of one sound each, or None with a ``near.reason``;
    ``certificates`` are by ``<task> <variant>`` and name no person.

    Raises:
        FileNotFoundError: Recordings or subjects are not made yet.
    """
    corpus = layout.Corpus(settings.data_root)
    here = corpus.dataset(dataset)
    inputs = {
        "recordings": store.version_at(here.recordings_stamp),
        "subjects": store.version_at(corpus.stamp("subjects")),
        "most_hours": most_hours,
        "code": store.package_version(doctor, sys.modules[__name__]),
    }

    def work() -> tuple[str, dict[str, Any]]:
        seconds = store.read_table(here.recordings, ["duration_s"])["duration_s"].to_pylist()
        hours = sum(seconds) / 3600
        groups: Sequence[Group] | None = None
        near: dict[str, Any] = {"groups": None, "unheard": None, "reason": None}
        if hours > most_hours:
            near["reason"] = f"{hours:,.0f} h of sound: more than {most_hours:,.0f} h to compare"
        else:
            heard = near_duplicates_of(settings, [dataset])
            groups, near["unheard"] = heard.groups, heard.unheard
            near["groups"] = [list(g.members) for g in groups]
        found: dict[str, dict[str, Any]] = {}
        for name in load_all()[dataset].tasks:
            try:
                splits = own.splits(settings, f"{dataset}/{name}")
            except SplitError as reason:  # no recording has the label: the task is not run either
                progress(f"{dataset}/{name}: not certified: {reason}")
                continue
            found |= {s.name: shortened(certify(s, groups, near["unheard"])) for s in splits}
        store.write_json(here.split_checks, {"near": near, "certificates": found})
        facts = {
            "certificates": len(found),
            "unsound": sorted(name for name, c in found.items() if not c["sound"]),
            "near_duplicates": None if groups is None else sum(len(g.members) for g in groups),
        }
        progress(f"{dataset}: {len(found)} splits certified")
        return store.digest([near, found]), facts

    stamp = here.folder / "split_checks.stamp.json"
    return store.cached(stamp, inputs, [here.split_checks], work)


def shortened(certificate: Certificate) -> dict[str, Any]:
    """What a page shows of a certificate: no person's or recording's name."""
    facts: dict[str, Any] = json.loads(json.dumps(certificate.facts()))
    notable = [d for d in facts["drift"] if abs(d["difference"]) >= drift.NOTABLE]
    return {
        "sound": facts["sound"],
        "sides": _sides(facts),
        "verdicts": [v | {"text": _EXAMPLE.sub(".", v["text"])} for v in facts["verdicts"]],
        "alone": [
            {"column": a["column"], "auroc": a["auroc"], "is_label": a["is_label"]}
            for a in facts["alone"][:_MOST_LINES]
        ],
        "drift": notable[:_MOST_LINES],
        "power": facts["power"],
        "notes": facts["notes"],
    }


def _sides(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Where each person is left out in turn, the sides are called as the persons are: one sum."""
    sides: list[dict[str, Any]] = facts["sides"]
    if facts["tested"] != EACH or len(sides) < 2:
        return sides
    labels = Counter[str]()
    for side in sides:
        labels.update(side["labels"])
    known = [s["persons"] for s in sides if s["persons"] is not None]
    return [
        {
            "name": f"{len(sides)} sides",
            "recordings": sum(s["recordings"] for s in sides),
            "persons": sum(known) if known else None,
            "labels": dict(sorted(labels.items())),
        }
    ]
