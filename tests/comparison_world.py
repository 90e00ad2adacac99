"""A made-up run on disk, as the steps leave it: tables, job file, scores before and after."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model.evaluation import run as evaluate
from acula_model.recipes import SAMPLE
from acula_model.training import job
from pipeline.manifest import load_all
from pipeline.records import pair_id
from pipeline.settings import Settings
from pipeline.steps import (
    comparison,
    label_leak,
    layout,
    pairs,
    persons,
    recordings,
    results_file,
    score_files,
    shortcuts,
    store,
    task_rows,
)
from pipeline.steps.results_schema import Results, Row

TASK = "icbhi/copd"
FOLDS = ("train", "train", "val", "test", "test")
Features = dict[str, npt.NDArray[np.float64]]
DEVICES = ("Meditron", "AKGC417L")


@dataclass
class World:
    """ICBHI with persons who have two recordings each; change it, then ``compared``."""

    settings: Settings
    persons: int = 120
    device_tells: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    aligned: set[str] = field(default_factory=set[str])
    heard: set[str] = field(default_factory=set[str])
    sounds: list[list[str]] | None = None

    def __post_init__(self) -> None:
        for n in range(self.persons):
            fold = FOLDS[n % len(FOLDS)]
            for take in range(2):
                self.rows.append(
                    {"task": TASK, "variant": "subject_clean", "person_id": f"icbhi/P{n:03}",
                     "recording_id": f"icbhi/P{n:03}_{take}", "case_id": f"icbhi/P{n:03}",
                     "fold": fold, "label": float(n // len(FOLDS) % 2)}
                )  # fmt: skip
        self.aligned = {r["recording_id"] for r in self.rows if r["fold"] == "train"}

    @property
    def run(self) -> Path:
        return layout.Corpus(self.settings.data_root).runs / "sample-00000000"

    @property
    def baseline(self) -> Path:
        return layout.Corpus(self.settings.data_root).baselines / "one"

    def embedded(self, signal: float, seed: int = 0) -> Features:
        """Noise of each person and recording, and the label in one direction."""
        rng = np.random.default_rng(seed)
        own: dict[str, npt.NDArray[np.float64]] = {}
        found: Features = {}
        for row in self.rows:
            person = own.setdefault(row["person_id"], rng.standard_normal(16))
            found[row["recording_id"]] = person + 0.3 * rng.standard_normal(16)
            found[row["recording_id"]][3] += signal * row["label"]
        return found

    def device(self, row: dict[str, Any]) -> str:
        """By label but for every eleventh person, or by nothing that matters."""
        number = int(row["person_id"][-3:])
        if not self.device_tells:
            return DEVICES[number % 2]
        return DEVICES[(int(row["label"]) + (number % 11 == 0)) % 2]

    def write_tables(self) -> None:
        """Everything that comes before scores."""
        corpus, rng = layout.Corpus(self.settings.data_root), np.random.default_rng(5)
        table, people, texts = [], [], []
        for row in {r["recording_id"]: r for r in self.rows}.values():
            key, native = row["recording_id"], row["recording_id"].partition("/")[2]
            said = {
                "age": int(rng.integers(20, 80)),
                "sex": "MF"[int(native[2]) % 2],
                "device": self.device(row),
                "location": ("Al", "Pr")[int(native[-1])],
                "diagnosis": ("Healthy", "COPD")[int(row["label"])],
            }
            table.append(
                {"recording_id": key, "dataset": "icbhi", "native_id": native, "member": native,
                 "findings": json.dumps(said), "native_rate": 4000, "native_format": "WAV",
                 "duration_s": 20.0, "rms_dbfs": float(rng.normal(-20, 3)), "peak": 0.5,
                 "clipped_fraction": 0.0, "raw_sha256": key, "audio_sha256": key}
            )  # fmt: skip
            who = {"recording_id": key, "dataset": "icbhi", "person_id": row["person_id"]}
            people.append(who | {"identity": "id", "split": row["fold"]})
            strict = f"A person of {said['age']} years."
            texts.append(
                {
                    **who,
                    "pair_id": pair_id(key),
                    "split": row["fold"],
                    "align": key in self.aligned,
                    "strict_text": strict,
                    "full_text": f"{strict} Diagnosis: {said['diagnosis']}.",
                }
            )
        written = [
            store.write_table(corpus.dataset("icbhi").recordings, table, recordings.SCHEMA),
            store.write_table(corpus.table("subjects"), people, persons.SCHEMA),
            store.write_table(corpus.table("pairs"), texts, pairs.SCHEMA),
            store.write_table(corpus.table("task_rows"), self.rows, task_rows.SCHEMA),
            store.write_table(corpus.table("task_notes"), [], task_rows.NOTES_SCHEMA),
        ]
        for stamp in (*map(corpus.stamp, ("subjects", "pairs")),
                      corpus.dataset("icbhi").recordings_stamp):  # fmt: skip
            store.write_json(stamp, {"version": store.digest(written)})
        if self.sounds is not None:
            near = {"groups": self.sounds, "unheard": 0, "reason": None}
            store.write_json(
                corpus.dataset("icbhi").split_checks, {"near": near, "certificates": {}}
            )

    def write_run(self, place: Path, features: Features) -> None:
        """A run's scores and what it was trained on."""
        scored(features, self.rows, place / "scores")
        given = {
            "aligned": [*map(pair_id, self.aligned)],
            "only_heard": [*map(pair_id, self.heard)],
        }
        store.write_json(place / job.JOB, given)
        version = store.digest([[k, v.tolist()] for k, v in features.items()] + [given])
        store.write_json(place / "stamp.json", {"version": version, "facts": {"best_epoch": 3}})

    def made(self, after: Features, before: Features) -> store.Outcome:
        """Write everything and compare."""
        self.write_tables()
        self.write_run(self.run, after)
        scored(before, self.rows, self.baseline / "encoder")
        known = {"icbhi": load_all()["icbhi"]}
        shortcuts.score(self.settings, known, self.baseline / "shortcut", silent)
        store.write_json(self.baseline / "stamp.json", {"version": store.digest(self.rows)})
        label_leak.measure(self.settings, known, silent)
        return self.again()

    def again(self) -> store.Outcome:
        """The step on what lies there."""
        at = comparison.Folders(
            run=self.run,
            baseline=self.baseline,
            label_leak=layout.Corpus(self.settings.data_root).label_leak,
        )
        known = {"icbhi": load_all()["icbhi"]}
        return comparison.make(self.settings, SAMPLE, known, silent, at)

    def compared(self, after: Features, before: Features) -> Results:
        """Write everything, compare, and read the results."""
        self.made(after, before)
        return results_file.read(self.run)

    def row(self, after: Features, before: Features | None = None) -> Row:
        """The headline row."""
        return headline(self.compared(after, before or self.embedded(0.5)).rows)


def headline(rows: Iterable[Row]) -> Row:
    (found,) = [r for r in rows if (r.task, r.protocol) == (TASK, "default")]
    return found


def silent(_: str) -> None:
    """Progress that nobody reads."""


def scored(features: Features, rows: list[dict[str, Any]], place: Path) -> None:
    """Scores of the default protocol, as a folder."""
    task = load_all()["icbhi"].evaluation_task("copd")
    score_files.write(place, *evaluate.run(features, rows, {task.id: task}, ("default",)))


Make = Callable[..., World]
