"""A small data root for the results page: tables by the real steps, scores by the real probe."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import soundfile

from acula_model import encoders
from acula_model.recipes import SAMPLE, Recipe
from pipeline.manifest import Manifest
from pipeline.records import recording_id
from pipeline.settings import Settings
from pipeline.settings import load as load_settings
from pipeline.steps import (
    comparison,
    embeddings,
    layout,
    pairs,
    part_audio,
    parts,
    probing,
    recordings,
    report_table,
    results_page,
    shards,
    store,
    subjects,
    training,
)

SCRIPT = "<script>alert('coarse crackles')</script>"
RECIPE = replace(SAMPLE, name="demo & small", epochs=4)


def manifest(dataset: str, label: str, tasks: dict[str, dict[str, Any]]) -> Manifest:
    words = {"yes": "present", "no": "absent", "odd": "something else"}
    return Manifest.model_validate(
        {
            "id": dataset,
            "title": f"The {dataset} corpus",
            "description": "-",
            "homepage": "https://example.org/",
            "version": "1",
            "licence": {"name": "CC BY 4.0", "source": "its page"},
            "attribution": f"{dataset} & colleagues, verbatim",
            "citation": ["A. Author, A Corpus, 2020"],
            "files": [{"name": "a.zip", "urls": ["https://example.org/a.zip"]}],
            "findings": {
                "age": {"kind": "number", "label": "age", "unit": "years", "concept": "age"},
                "device": {
                    "kind": "code",
                    "label": "device",
                    "concept": "device",
                    "words": {"A": "the first device", "B": "the second device"},
                },
                label: {"kind": "code", "label": f"{label} label", "words": words},
            },
            "tasks": {k: {"label": label, "negative": ["no"], **v} for k, v in tasks.items()},
        }
    )


COPD = {"title": "COPD vs healthy", "positive": ["yes"],
        "variants": {"as_published": "official"}}  # fmt: skip
RARE = {"title": "Something rare", "positive": ["odd"]}
MANIFESTS = {
    "icbhi": manifest("icbhi", "copd", {"copd": COPD, "rare": RARE}),
    "circor": manifest("circor", "murmur", {"murmur": {"title": "Murmur", "positive": ["yes"]}}),
    "hflung": manifest("hflung", "wheeze", {"wheeze": {"title": "Wheeze", "positive": ["yes"]}}),
}


BEYOND = {
    "schema": 1,
    "zero_shot": {
        "icbhi/copd": {
            "auroc": {"value": 0.714, "low": 0.61, "high": 0.83},
            "chance": 0.5,
            "units": 31,
            "prompts": {"positive": ["The patient has <COPD>."]},
        },
        "icbhi/rare": {"reason": "no sentence stands for a class"},
    },
    "label_efficiency": {
        "icbhi/copd": {
            "metric": "auroc",
            "shares": [
                {"share": 0.1, "persons": 3, "after": {"value": 0.6, "low": None, "high": None}},
                {"share": 1.0, "persons": 30, "after": {"value": 0.9, "low": 0.8, "high": 0.95}},
            ],
        }
    },
}


@dataclass(frozen=True)
class World:
    settings: Settings
    recipe: Recipe
    manifests: dict[str, Manifest]

    @property
    def corpus(self) -> layout.Corpus:
        return layout.Corpus(self.settings.data_root)

    @property
    def run(self) -> Path:
        return training.run_folder(self.settings, self.recipe, self.manifests)

    @property
    def floor(self) -> Path:
        return training.baseline_folder(self.settings, self.recipe)

    def make(self) -> store.Outcome:
        comparison.make(self.settings, self.recipe, self.manifests, lambda line: None)
        return results_page.make(self.settings, self.recipe, self.manifests)


def rows(dataset: str) -> list[dict[str, Any]]:
    """icbhi: two recordings per person and an official split that cuts p00 in two; one odd
    diagnosis. circor: nobody knows who is who."""
    label = {"icbhi": "copd", "circor": "murmur"}[dataset]
    found = []
    for i in range(80):
        person = f"p{i // 2:02d}" if dataset == "icbhi" else None
        value = "odd" if dataset == "icbhi" and i == 8 else ("no", "yes")[i // 2 % 2]
        side = "test" if i // 2 > 18 or i == 1 else "train"
        found.append(
            {
                "native_id": f"r{i:02d}",
                "member": f"r{i:02d}.wav",
                "dataset": dataset,
                "modality": "lung",
                "case_id": person or f"c{i}",
                "person": person,
                "linked": [],
                "proxy": None,
                "official_split": side if dataset == "icbhi" else None,
                "recording_id": recording_id(dataset, f"r{i:02d}"),
                "row": "{}",
                "findings": json.dumps(
                    {"age": 50 + i % 9, "device": "AB"[i // 3 % 2], label: value}
                ),
            }
        )
    return found


def write_dataset(here: layout.Dataset, label: str) -> None:
    """Sounds by ``part_audio.make``; tables by the schemas of the steps that own them."""
    table = rows(here.id)
    here.archive.mkdir(parents=True)
    rng = np.random.default_rng(len(here.id))  # equal sounds would be one person
    for row in table:
        wave = rng.normal(0, 0.1, 8_800 if row["native_id"] != "r00" else 140_000)
        soundfile.write(here.archive / row["member"], wave, 16_000)
    items = [(r["native_id"], r["member"], 0, 0) for r in table]
    here.parts.mkdir()
    parts.record(here.parts, *part_audio.make(here.archive, here.parts, here.id, "part", items))
    facts = {f["native_id"]: f for f in pq.read_table(here.parts / "part.parquet").to_pylist()}
    store.write_table(
        here.recordings, [facts[r["native_id"]] | r for r in table], recordings.SCHEMA
    )
    refused = [
        {
            "dataset": here.id,
            "name": f"bad{i:02d}.wav",
            "reason": "silent",
            "detail": "peak 0",
            "meaning": "-",
        }
        for i in range(53)
    ]
    store.write_table(here.quarantine, refused, recordings.QUARANTINE)
    full = [
        {"text": "The patient is 50 years old.", "findings": ["age"]},
        {"text": f"The label is {SCRIPT}.", "findings": [label]},
    ]
    texts = {
        f"{regime}_{k}": v
        for regime, own in (("full", full), ("strict", full[:1]))
        for k, v in {
            "text": " ".join(s["text"] for s in own),
            "hash": regime * 4,
            "terms": ["age~1"],
            "sentences": json.dumps(own),
        }.items()
    }
    store.write_table(
        here.reports,
        [
            {"recording_id": r["recording_id"], "dataset": here.id, "template_version": "0f" * 8}
            | texts
            for r in table
        ],
        report_table.SCHEMA,
    )
    stamp(here.archive_stamp, {"source": "sample"})
    stamp(here.recordings_stamp, {})
    stamp(here.reports_stamp, {})


def stamp(path: Path, facts: dict[str, Any], version: str = "v1") -> None:
    store.write_json(path, {"version": version, "facts": facts})


def write_scores(here: World, place: Path, vectors: dict[str, Any]) -> None:
    """The real probe."""
    probing.score(
        vectors, here.settings, here.manifests, place, "encoder", ("default",), lambda line: None
    )


def carrying(rows: list[dict[str, Any]], signal: float) -> dict[str, Any]:
    """Vectors that carry the label with this strength."""
    rng = np.random.default_rng(1)
    label = {r["recording_id"]: r["label"] for r in rows}
    return {i: rng.normal(size=4) + signal * y * np.eye(4)[0] for i, y in label.items()}


def keep_vectors(here: World, key: str, vectors: dict[str, Any]) -> None:
    front_end = encoders.build(RECIPE.encoder, **RECIPE.encoder_config).front_end.key
    for dataset in ("icbhi", "circor"):
        ids = sorted(i for i in vectors if i.startswith(dataset))
        path = probing.vectors_file(here.settings, dataset, ids, front_end, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, ids=np.array(ids), vectors=np.stack([vectors[i] for i in ids]))


def world(root: Path, heads: tuple[str, ...] = ("linear",)) -> World:
    """Everything that lies under the data root when the page is due."""
    settings = load_settings(data_root=root, datasets=("icbhi", "circor"), workers=1, heads=heads)
    here = World(settings, RECIPE, MANIFESTS)
    for dataset, label in (("icbhi", "copd"), ("circor", "murmur")):
        write_dataset(here.corpus.dataset(dataset), label)
    subjects.decide(settings, MANIFESTS)
    pairs.join(settings)
    shards.write(settings, MANIFESTS, lambda line: None)
    stamp(
        embeddings.folder(settings, RECIPE) / "stamp.json",
        {"reports": 90, "width": 64, "teacher": "lsa@lsa-1/layer=0/mean", "truncated": 0},
    )
    task_rows = probing.task_rows(settings)
    for name, signal in (("encoder", 0.5), ("shortcut", 0.0)):
        write_scores(here, here.floor / name, carrying(task_rows, signal))
    stamp(here.floor / "stamp.json", {})
    write_scores(here, here.run / "scores", carrying(task_rows, 3.0))
    keep_vectors(here, here.floor.name, carrying(task_rows, 0.5))
    keep_vectors(here, here.run.name, carrying(task_rows, 3.0))
    for name, signal in (("full", 9.0), ("strict", 3.0), ("findings", 0.0)):
        write_scores(here, here.corpus.label_leak / name, carrying(task_rows, signal))
    stamp(here.corpus.label_leak / "stamp.json", {})
    store.write_json(here.run / "history.json", history((0.05, 0.21, 0.3214, 0.3)))
    known = store.read_table(here.corpus.table("pairs")).to_pylist()
    store.write_json(
        here.run / "job.json", {"aligned": [p["pair_id"] for p in known if p["align"]]}
    )
    store.write_json(here.run / "beyond.json", BEYOND)
    stamp(here.run / "stamp.json", {"best_epoch": 3, "held_out_cka": 0.3214})
    return here


def history(gauges: tuple[float, ...]) -> list[dict[str, float]]:
    return [
        {
            "epoch": e,
            "loss": 2 / e,
            "alignment_loss": 1 / e,
            "masked_loss": 1 / e,
            "held_out_masked_loss": 1.5 / e,
            "held_out_cka": cka,
            "group_floor": 0.6,
            "report_recall_5": 0.1 * e,
            "report_recall_5_chance": 0.125,
            "audio_rank": 7.5,
        }
        for e, cka in enumerate(gauges, 1)
    ]


def rows_of(made: World) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of results.parquet, with their nested columns read."""
    found = {}
    for row in pq.read_table(made.run / "results.parquet").to_pylist():
        found[row["task"], row["variant"]] = row
    return found
