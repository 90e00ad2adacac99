"""What the measures beyond probes read of a finished run."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from acula_model import checkpoint, features, mels
from acula_model.encoders.base import AudioEncoder
from acula_model.recipes import Recipe
from acula_model.training import ranks
from acula_model.training.model import Aligner
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import layout, probing, remote, store, task_rows, training

Progress = Callable[[str], None]
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Embeddings of task recordings and test pairs by both encoders, and who is in which.

    Attributes:
        settings: Where everything lies.
        recipe: Of the run.
        manifests: Of the evaluated datasets.
        before: recording id -> [D], of the encoder before alignment.
        after: Of the aligned one.
        rows: Task -> its rows on the split that shares no person.
        pairs: ``<dataset>/<modality>`` -> pairs of test persons, with the recipe's text of each.
    """

    settings: Settings
    recipe: Recipe
    manifests: Mapping[str, Manifest]
    before: probing.Vectors
    after: probing.Vectors
    rows: Mapping[str, list[Row]]
    pairs: Mapping[str, list[Row]]


def read(
    settings: Settings,
    recipe: Recipe,
    manifests: Mapping[str, Manifest],
    run: str,
    progress: Progress,
) -> Inputs:
    """Embed what is not yet embedded, and sort the rows.

    Args:
        settings: Where everything lies.
        recipe: Of the run; says which encoder it began with.
        manifests: Of the evaluated datasets.
        run: Name of the run's folder.
        progress: Called with a line now and then.
    """
    corpus = layout.Corpus(settings.data_root)
    clean = pc.field("variant") == task_rows.CLEAN
    asked = clean & store.one_of("task", probing.tasks(manifests))
    rows: dict[str, list[Row]] = {}
    for row in store.read_rows(corpus.table("task_rows"), task_rows.SCHEMA.names, asked):
        rows.setdefault(row["task"], []).append(row)
    said = [f"{recipe.text}_{kind}" for kind in ("hash", "text", "terms")]
    columns = ["pair_id", "recording_id", "person_id", "dataset", "modality", "split", *said]
    pairs: dict[str, list[Row]] = {}
    for row in store.read_rows(corpus.table("pairs"), columns, pc.field("split") == "test"):
        pairs.setdefault(f"{row['dataset']}/{row['modality']}", []).append(row)
    encoders = {
        training.baseline_folder(settings, recipe).name: Aligner(recipe, text_width=1).encoder,
        run: checkpoint.load(corpus.runs / run / "checkpoint").encoder,
    }
    before, after = (
        _vectors(settings, encoder, key, pairs.values(), progress)
        for key, encoder in encoders.items()
    )
    return Inputs(
        settings=settings,
        recipe=recipe,
        manifests=manifests,
        before=before,
        after=after,
        rows=rows,
        pairs=pairs,
    )


def _vectors(
    settings: Settings,
    encoder: AudioEncoder,
    key: str,
    pairs: Iterable[list[Row]],
    progress: Progress,
) -> probing.Vectors:
    """Of task recordings, which are kept, and of test pairs that no task asks for."""
    found = probing.recording_vectors(settings, encoder, key, progress)
    left = {
        r["pair_id"]: r["recording_id"]
        for own in pairs
        for r in own
        if r["recording_id"] not in found
    }
    if left:
        corpus = layout.Corpus(settings.data_root)
        remote.need(corpus.shards, say=progress)
        source = mels.load(corpus.shards, corpus.mels, encoder.front_end, progress)
        new = features.embed(encoder.to(ranks.pick("auto")), source, sorted(left))
        found |= {left[pair]: vector for pair, vector in new.items()}
    return found


def attributes(run: Inputs) -> dict[str, dict[str, str]]:
    """Attribute -> recording id -> value, of what a sound should not tell: dataset and device.

    Within lung sounds, or heart sounds, the dataset is told by rooms, devices and persons; over
    all also by the organ.
    """
    corpus = layout.Corpus(run.settings.data_root)
    values: dict[str, dict[str, str]] = {"dataset": {}}
    for dataset, manifest in run.manifests.items():
        devices = [n for n, s in manifest.findings.items() if s.concept == "device"]
        columns = ["recording_id", "modality", "findings"]
        for row in store.read_rows(corpus.dataset(dataset).recordings, columns):
            key, stated = row["recording_id"], json.loads(row["findings"])
            values["dataset"][key] = dataset
            values.setdefault(f"dataset of {row['modality']} sounds", {})[key] = dataset
            for name in devices:
                if (device := stated.get(name, manifest.findings[name].always)) is not None:
                    values.setdefault(f"device of {dataset}", {})[key] = sys.intern(str(device))
    return {name: own for name, own in values.items() if len(set(own.values())) > 1}
