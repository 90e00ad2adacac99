"""Evidence -> links about what training did with a pair: teacher vectors and runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from acula_model.teachers import vectors
from pipeline.lineage.chain import Link
from pipeline.lineage.evidence import Evidence

CONFIG, WEIGHTS = "config.json", "weights.safetensors"  # acula_model.checkpoint's; torch is slow


def of(evidence: Evidence) -> Iterator[Link]:
    """One link per teacher that has read the report, one per run."""
    for table in sorted(evidence.tables.corpus.teachers.glob("*/vectors.parquet")):
        if link := _vector(table, evidence):
            yield link
    for folder in sorted(evidence.tables.corpus.runs.glob("*")):
        if (folder / "job.json").is_file():
            yield _run(folder, evidence)


def _vector(table: Path, evidence: Evidence) -> Link | None:
    report = evidence.report or {}
    hashes = [h for h in (report.get("full_hash"), report.get("strict_hash")) if h]
    found = pq.read_table(table, columns=["report_hash"], filters=[("report_hash", "in", hashes)])
    if not len(found):
        return None
    stamp = evidence.tables.stamp(table.with_name("stamp.json"))
    facts = {
        "key": found["report_hash"][0].as_py(),
        "table": table.relative_to(evidence.tables.corpus.data_root).as_posix(),
        "version": stamp.get("version"),
        "teacher": vectors.about(table),
    }
    return Link(name="teacher_vector", title="Teacher vector", facts=facts)


def _run(folder: Path, evidence: Evidence) -> Link:
    tables = evidence.tables
    job: dict[str, Any] = json.loads((folder / "job.json").read_text())
    roles = {"aligned": "trained on", "gauge": "gauge of validation", "only_heard": "only heard"}
    role = next((said for key, said in roles.items() if evidence.pair_id in job[key]), "not used")
    trained = tables.stamp(folder / "trained.json")
    inputs = trained.get("inputs", {})
    facts: dict[str, Any] = {
        "run": folder.name,
        "role": role,
        "recipe": job["recipe"]["name"],
        "regime": job["recipe"]["regime"],
        "seed": job["recipe"]["seed"],
        "teacher": job["about"].get("teacher"),
        "best_epoch": trained.get("facts", {}).get("best_epoch"),
        "of_shards": inputs.get("shards"),
        "of_vectors": inputs.get("vectors"),
    }
    if (config := folder / "checkpoint" / CONFIG).is_file():
        facts["weights_sha256"] = json.loads(config.read_text())["sha256"]
    link = Link(name="run", title="Training run", facts=facts)
    now = tables.stamp(tables.corpus.stamp("shards")).get("version")
    if inputs and inputs.get("shards") != now:
        return link.judged("recorded", f"trained on earlier shards; those here are {now}")
    return link if trained else link.judged("recorded", "the run has not ended")
