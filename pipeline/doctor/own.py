"""A task of this project, such as icbhi/copd -> its splits, one per variant."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow.compute as pc

from pipeline.doctor.columns import SplitError
from pipeline.doctor.table import Split
from pipeline.manifest import Manifest, load_all
from pipeline.settings import Settings
from pipeline.steps import layout, remote, store, task_rows

# Concept of a finding -> role of a column.
_ROLES = {
    "device": "device",
    "auscultation_site": "site",
    "age": "age",
    "sex": "sex",
    "recording_day": "date",
    "acquisition": "also acquisition",
    "enrolment": "also enrolment",
}
_FACTS = [
    "recording_id",
    "member",
    "raw_sha256",
    "audio_sha256",
    "native_rate",
    "native_format",
    "findings",
]


def is_task(name: str) -> bool:
    """Whether this is written like a task of a dataset of the project."""
    dataset, slash, task = name.partition("/")
    return bool(slash and task) and dataset in load_all()


def splits(settings: Settings, task: str) -> list[Split]:
    """The variants of a task, as ``subjects`` left them.

    Raises:
        SplitError: There is no such task, or its tables are not made yet.
    """
    dataset = task.partition("/")[0]
    manifest = load_all()[dataset]
    corpus = layout.Corpus(settings.data_root)
    tables = [
        corpus.table("task_rows"),
        corpus.table("subjects"),
        corpus.dataset(dataset).recordings,
    ]
    remote.need(*tables)
    for path in tables:
        if not path.is_file():
            raise SplitError(
                f"{path} is missing: run `dagster asset materialize --select '*subjects'` with "
                f"{dataset} among the datasets"
            )
    rows = list(store.read_rows(tables[0], task_rows.SCHEMA.names, pc.field("task") == task))
    if not rows:
        known = ", ".join(f"{dataset}/{name}" for name in manifest.tasks) or "none"
        raise SplitError(f"no recording has a label of {task}; tasks of {dataset}: {known}")
    asked = {r["recording_id"] for r in rows}
    identity = {
        r["recording_id"]: r["identity"]
        for r in store.read_rows(tables[1], ["recording_id", "identity"])
        if r["recording_id"] in asked
    }
    facts = {
        r["recording_id"]: r
        for r in store.read_rows(tables[2], _FACTS)
        if r["recording_id"] in asked
    }
    variants = sorted({r["variant"] for r in rows})
    return [
        of_rows(
            manifest, task, variant, [r for r in rows if r["variant"] == variant], identity, facts
        )
        for variant in variants
    ]


def of_rows(
    manifest: Manifest,
    task: str,
    variant: str,
    rows: list[dict[str, Any]],
    identity: Mapping[str, str],
    facts: Mapping[str, Mapping[str, Any]],
) -> Split:
    """One variant of a task.

    Args:
        manifest: Of its dataset.
        task: ``<dataset>/<task>``.
        variant: Of its splits.
        rows: ``TaskRow`` of both.
        identity: recording id -> how its person is known.
        facts: recording id -> its row of ``recordings``.
    """
    asked = manifest.tasks[task.partition("/")[2]]
    label, classes = asked.label, list(asked.codes)
    columns: dict[str, tuple[str, str]] = {}
    for name, spec in manifest.findings.items():
        role = _ROLES.get(spec.concept or "")
        if role and name != label and not spec.heard:
            columns.setdefault(role, (name, spec.label))
    shown = {role: title for role, (_, title) in columns.items()}
    shown |= {"also rate": "sample rate", "also format": "file format"}
    table: list[dict[str, Any]] = []
    for row in rows:
        key = row["recording_id"]
        fact, who = facts[key], identity[key]
        said = json.loads(fact["findings"])
        table.append(
            {
                "id": key,
                # Each person left out in turn: each is a side.
                "side": row["person_id"] if row["fold"] == "each" else row["fold"],
                "label": classes[int(row["label"])] if classes else None,
                "person": row["person_id"] if who == "id" else None,
                "proxy": row["person_id"] if who == "proxy" else None,
                "path": fact["member"],
                "raw": fact["raw_sha256"],
                "sound": fact["audio_sha256"],
                "also rate": str(fact["native_rate"]),
                "also format": fact["native_format"],
                **{
                    role: str(said[name]) if name in said else None
                    for role, (name, _) in columns.items()
                },
            }
        )
    sources = {"side": "fold", "label": label, "person": "person_id", "proxy": manifest.stand_in}
    return Split(
        name=f"{task} {variant}",
        rows=pd.DataFrame(table, dtype=object),
        shown=shown,
        sources=sources,
        exact=True,
    )
