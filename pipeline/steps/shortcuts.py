"""recordings -> features that hear no sound: device, site, date, age, sex, duration, loudness.

What a probe reads from these is the floor of a medical claim: on the published COPD task the
device alone scores 0.987. Left out are findings that somebody heard in the sound (``heard`` in
the manifest), the task's own label and masks, and other tasks' labels, unless these say who the
person is or how they were recorded: a second diagnosis is no shortcut, the sex is one.
"""

# N recordings, D features

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model.evaluation import run as evaluate
from acula_model.evaluation.score import Prediction, Score
from pipeline.findings import resolve
from pipeline.manifest import Manifest
from pipeline.records import Value
from pipeline.settings import Settings
from pipeline.steps import layout, score_files, store
from pipeline.vocabulary import Concept

SOUND_FACTS = ("duration_s", "rms_dbfs", "peak", "clipped_fraction")
FILE_FACTS = ("native_rate", "native_format")
COLUMNS = ["recording_id", "dataset", "findings", *FILE_FACTS, *SOUND_FACTS]
# What says who somebody is, or how they were recorded, even where another task asks for it.
CONTEXT: frozenset[Concept] = frozenset(
    (
        "age", "sex", "height", "weight", "body_mass_index", "pregnancy", "smoking", "vaccination",
        "sound", "auscultation_site", "device", "acquisition", "duration", "enrolment",
        "recording_day",
    )
)  # fmt: skip
_BINS = 10
_SINCE = re.compile(r"days since (\d{4}-\d{2}-\d{2})")
Row = Mapping[str, Any]
Features = dict[str, npt.NDArray[np.float32]]


def score(
    settings: Settings,
    manifests: Mapping[str, Manifest],
    place: Path,
    progress: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Score every task and variant of the evaluated datasets by metadata; writes two tables.

    Returns:
        Task -> metric on the split without shared persons.
    """
    corpus = layout.Corpus(settings.data_root)
    asked: dict[str, list[Row]] = {}
    for row in store.read_table(corpus.table("task_rows")).to_pylist():
        asked.setdefault(row["task"], []).append(row)
    scores: list[Score] = []
    predictions: list[Prediction] = []
    for dataset in settings.evaluated:
        manifest = manifests[dataset]
        recordings = store.read_table(corpus.dataset(dataset).recordings, COLUMNS).to_pylist()
        for name in sorted(manifest.tasks):
            task = manifest.evaluation_task(name)
            own = asked.get(task.id, [])
            wanted = {r["recording_id"] for r in own}
            silent = features(
                [r for r in recordings if r["recording_id"] in wanted], manifest, name
            )
            found = evaluate.run(silent, own, {task.id: task}, ("default",), name="shortcut")
            scores += found[0]
            predictions += found[1]
        progress(f"{dataset}: {len(manifest.tasks)} tasks scored by metadata alone")
    score_files.write(place, scores, predictions)
    clean = [s for s in scores if s.variant == "subject_clean" and s.value is not None]
    return {s.task: round(s.value or 0.0, 4) for s in clean}


def allowed(manifest: Manifest, task: str) -> list[str]:
    """Names of the findings that a task's shortcut may read, sorted."""
    asked = manifest.tasks[task]
    others = {n for n in manifest.strict_masks if manifest.findings[n].concept not in CONTEXT}
    out = {asked.label, *asked.masks} | others
    return sorted(n for n, s in manifest.findings.items() if not s.heard and n not in out)


def features(recordings: Sequence[Row], manifest: Manifest, task: str) -> Features:
    """What the metadata say of each recording of one dataset.

    Args:
        recordings: Rows of its recordings table, with ``COLUMNS``. Findings count whether or not
            a report states them: a date of recording is no clinical fact, yet it predicts.
        manifest: Of the dataset.
        task: Its name in the manifest.

    Returns:
        recording id -> [D]: a column per code, and for each number its value, its rank and its
        tenth (a linear head reads no curve off a number); ``nothing said`` is a code, too.
        No label is used. Ranks and tenths are over the recordings given.
    """
    names = allowed(manifest, task)
    findings: list[Mapping[str, Value]] = [json.loads(r["findings"]) for r in recordings]
    terms: list[set[str]] = []
    for row, said in zip(recordings, findings, strict=True):
        known = resolve(manifest, said)
        own = {f"{f}={row[f]}" for f in FILE_FACTS}
        for name in names:
            own |= {*known[name].terms} or {f"{name}?"}
            own |= _calendar(manifest.findings[name].unit, said.get(name))
        terms.append(own)
    columns = sorted(set[str]().union(*terms))
    index = {t: i for i, t in enumerate(columns)}
    table_ND = np.zeros((len(recordings), len(columns)), np.float32)
    for n, own in enumerate(terms):
        table_ND[n, [index[t] for t in own]] = 1
    numbers = [n for n in names if manifest.findings[n].kind == "number"]
    blocks = [table_ND]
    blocks += [spread(np.array([s.get(n, np.nan) for s in findings], float)) for n in numbers]
    blocks += [spread(np.array([r[f] for r in recordings], float)) for f in SOUND_FACTS]
    all_ND = np.concatenate(blocks, axis=1)
    return {r["recording_id"]: v for r, v in zip(recordings, all_ND, strict=True)}


def spread(values_N: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Value, rank in [0, 1] and tenth of numbers: [N, 2 + up to 10]; unknown ones (nan) are zero.

    Tied numbers share a rank and a tenth.
    """
    known = np.isfinite(values_N)
    if not known.any():
        return np.zeros((len(values_N), 0), np.float32)
    said = values_N[known]
    edges = np.unique(np.quantile(said, np.arange(1, _BINS) / _BINS))
    table = np.zeros((len(values_N), 3 + len(edges)), np.float32)
    ordered = np.sort(said)
    middle = np.searchsorted(ordered, said, "left") + np.searchsorted(ordered, said, "right")
    table[known, 0] = said - np.median(said)
    table[known, 1] = middle / (2 * len(said))
    table[np.flatnonzero(known), 2 + np.searchsorted(edges, said, "right")] = 1
    return table


def _calendar(unit: str | None, value: Value | None) -> set[str]:
    """Weekday and month of a number in ``days since <date>``; nothing of others."""
    since = _SINCE.match(unit or "")
    if since is None or not isinstance(value, int | float):
        return set()
    day = date.fromisoformat(since[1]) + timedelta(days=int(value))
    return {f"weekday={day.weekday()}", f"month={day:%Y-%m}"}
