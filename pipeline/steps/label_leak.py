"""reports + task rows -> how well the words alone give each label away.

A bag-of-words probe reads the label off the full and off the strict report. Beside it stands a
probe on the findings that a strict report may state: what they give away (age alone tells
ICBHI's COPD) is the dataset's doing, and the words must not give away more.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from acula_model import evaluation
from acula_model.evaluation import run as evaluate
from acula_model.evaluation.score import Prediction, Score
from pipeline import findings
from pipeline.manifest import Manifest
from pipeline.records import Value
from pipeline.settings import Settings
from pipeline.steps import layout, score_files, store, task_rows

# What a probe reads: words of the full report, of the strict one, and the findings left in it.
SOURCES = ("full", "strict", "findings")
# The most frequent words of the training texts; rarer ones are numbers and place names.
MAX_WORDS = 800
Row = Mapping[str, Any]
Features = dict[str, npt.NDArray[np.float32]]


def measure(
    settings: Settings, manifests: Mapping[str, Manifest], progress: Callable[[str], None] = print
) -> store.Outcome:
    """Probe every task of the run's datasets from words and from the findings left."""
    corpus = layout.Corpus(settings.data_root)
    inputs = {
        "pairs": store.version_at(corpus.stamp("pairs")),
        "subjects": store.version_at(corpus.stamp("subjects")),
        "manifests": {d: store.digest(manifests[d].model_dump()) for d in settings.alignment},
        "code": store.package_version(evaluation, findings, score_files, sys.modules[__name__]),
    }
    place = corpus.label_leak

    def work() -> tuple[str, dict[str, Any]]:
        found: dict[str, tuple[list[Score], list[Prediction]]] = {s: ([], []) for s in SOURCES}
        for dataset in settings.alignment:
            manifest = manifests[dataset]
            texts = _texts(corpus, dataset)
            known = _findings(corpus.dataset(dataset))
            stated = {i: known[i] for i in texts["full"]}
            for name in manifest.tasks:
                task = manifest.evaluation_task(name)
                own = pc.field("task") == task.id
                columns = task_rows.SCHEMA.names
                rows = list(store.read_rows(corpus.table("task_rows"), columns, own))
                # Who is left out in turn has no fold: words are chosen without labels anyway.
                train = {r["recording_id"] for r in rows if r["fold"] in ("train", "each")}
                for source in SOURCES:
                    if source == "findings":
                        features = terms(manifest, stated, train)
                    else:
                        features = bag_of_words(texts[source], train)
                    scores, predictions = evaluate.run(
                        features, rows, {task.id: task}, ("default",), name=source
                    )
                    found[source][0].extend(scores)
                    found[source][1].extend(predictions)
            progress(f"{dataset}: label leak of {len(manifest.tasks)} tasks measured")
        for source, (scores, predictions) in found.items():
            score_files.write(place / source, scores, predictions)
        facts = {
            s: {
                x.task: round(x.value, 3)
                for x in found[s][0]
                if x.value is not None and x.variant == "subject_clean"
            }
            for s in SOURCES
        }
        return store.digest(facts), facts

    outputs = [place / s / "scores.parquet" for s in SOURCES]
    return store.cached(place / "stamp.json", inputs, outputs, work)


def _texts(corpus: layout.Corpus, dataset: str) -> dict[str, dict[str, str]]:
    """Full and strict -> recording id -> text, of one dataset."""
    found: dict[str, dict[str, str]] = {"full": {}, "strict": {}}
    columns = ["recording_id", "dataset", "full_text", "strict_text"]
    own = pc.field("dataset") == dataset
    for row in store.read_rows(corpus.table("pairs"), columns, own):
        for version, texts in found.items():
            texts[row["recording_id"]] = row[f"{version}_text"]
    return found


def _findings(here: layout.Dataset) -> dict[str, dict[str, Value]]:
    rows = store.read_rows(here.recordings, ["recording_id", "findings"])
    return {r["recording_id"]: json.loads(r["findings"]) for r in rows}


def bag_of_words(texts: Mapping[str, str], train: Iterable[str]) -> Features:
    """Which of the training texts' most frequent words each text has.

    Args:
        texts: recording id -> text.
        train: Recordings whose texts make the vocabulary.

    Returns:
        recording id -> [D] of zeros and ones; one constant column where no word was learned.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    learned = [texts[i] for i in sorted(train) if i in texts]
    if not any(learned):
        return {i: np.zeros(1, np.float32) for i in texts}
    vectorizer = CountVectorizer(
        token_pattern=r"[\w./-]+",
        binary=True,
        max_features=MAX_WORDS,
        dtype=np.float32,  # pyright: ignore[reportArgumentType]  # taken for an integer
    )
    vectorizer.fit(learned)
    table = vectorizer.transform(texts.values()).toarray()
    return dict(zip(texts, table, strict=True))


def terms(
    manifest: Manifest, values: Mapping[str, Mapping[str, Value]], train: Iterable[str]
) -> Features:
    """What a strict report may state, without its words: codes, bands and exact numbers."""
    allowed = set(manifest.findings) - manifest.strict_masks
    said: dict[str, str] = {}
    for key, found in values.items():
        known = findings.resolve(manifest, found)
        pieces = [t for n in sorted(allowed) for t in known[n].terms]
        pieces += [f"{n}:{found[n]}" for n in sorted(allowed) if n in found]
        said[key] = " ".join(p.replace(" ", "_") for p in pieces)
    return _exact(said, train)


def _exact(said: Mapping[str, str], train: Iterable[str]) -> Features:
    columns = sorted({t for i in train if i in said for t in said[i].split()})
    index = {t: n for n, t in enumerate(columns)}
    table: Features = {}
    for key, text in said.items():
        vector = np.zeros(max(len(columns), 1), np.float32)
        vector[[index[t] for t in text.split() if t in index]] = 1
        table[key] = vector
    return table
