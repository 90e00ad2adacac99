"""pairs + teacher -> teacher vectors of the reports that training may read.

Each report is read once per teacher: vectors lie in a cache that all runs share, in parts that a
killed run leaves whole.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from acula_model import teachers
from acula_model.recipes import Recipe
from acula_model.teachers import cache, pooling, vectors
from pipeline.settings import Settings
from pipeline.steps import layout, store

BATCH = cache.CHUNK  # reports between two progress lines and two writes
Row = Mapping[str, Any]
STATE = "teacher.npz"


def folder(settings: Settings, recipe: Recipe) -> Path:
    """Where the vectors of one teacher, its options and the regime's texts lie."""
    key = store.digest([recipe.teacher, recipe.teacher_config, recipe.text])
    return layout.Corpus(settings.data_root).teachers / f"{recipe.teacher}-{recipe.text}-{key}"


def gauge_pairs(rows: Iterable[Row], task_rows: Iterable[Row]) -> list[str]:
    """Pairs of validation persons outside every task's test, in any variant."""
    tested = {t["person_id"] for t in task_rows if t["fold"] in ("test", "each")}
    return [r["pair_id"] for r in rows if r["split"] == "val" and r["person_id"] not in tested]


def embed(
    settings: Settings, recipe: Recipe, progress: Callable[[str], None] = print
) -> store.Outcome:
    """Embed the reports of alignment and gauge pairs; no text of a test person is read."""
    corpus = layout.Corpus(settings.data_root)
    place = folder(settings, recipe)
    inputs = {
        "pairs": store.version_at(corpus.stamp("pairs")),
        "teacher": [recipe.teacher, recipe.teacher_config],
        "code": store.code_version(
            teachers.module_of(recipe.teacher), teachers, pooling, cache, sys.modules[__name__]
        ),
    }
    output = table(settings, recipe)

    def work() -> tuple[str, dict[str, Any]]:
        pairs, columns = corpus.table("pairs"), ["pair_id", "person_id", "split"]
        gauge = gauge_pairs(
            store.read_rows(pairs, columns, pc.field("split") == "val"),
            store.read_rows(corpus.table("task_rows"), ["person_id", "fold"]),
        )
        fit_on, wanted = _reports(pairs, recipe.text, gauge)
        teacher = teachers.build(recipe.teacher, fit_on, **recipe.teacher_config)
        found, embedded = cache.embed(teacher, wanted, corpus.teachers / "vectors", progress, BATCH)
        place.mkdir(parents=True, exist_ok=True)
        if hasattr(teacher, "save"):  # so that the checkpoint can read new texts
            teacher.save(place / STATE)  # pyright: ignore[reportAttributeAccessIssue]
        return vectors.write(output, found, teachers.facts(teacher)), {
            "reports": len(wanted),
            "embedded_now": embedded,
            "width": found[wanted[0].hash].shape[-1],
            "teacher": teachers.identity(teacher),
            "truncated": getattr(teacher, "truncated", 0),
        }

    return store.cached(_stamp(settings, recipe), inputs, [output], work)


def table(settings: Settings, recipe: Recipe) -> Path:
    """Where the vectors of a recipe's teacher lie."""
    return folder(settings, recipe) / "vectors.parquet"


def teacher(settings: Settings, recipe: Recipe) -> dict[str, Any]:
    """Which teacher the vectors are of: model, revision, layer, pooling.

    Raises:
        ValueError: They are of another one than was asked for: the file was replaced.
    """
    path = table(settings, recipe)
    found = vectors.about(path)
    written = json.loads(_stamp(settings, recipe).read_text())["facts"]["teacher"]
    if (said := teachers.named(found)) != written:
        raise ValueError(
            f"{path} has vectors of the teacher {said}, this run asks for those of {written}: "
            "delete the file and materialise `report_embeddings` again"
        )
    return found


def version(settings: Settings, recipe: Recipe) -> str:
    """``vectors.digest`` of what was written."""
    return store.version_at(_stamp(settings, recipe))


def _stamp(settings: Settings, recipe: Recipe) -> Path:
    return folder(settings, recipe) / "stamp.json"


def state(settings: Settings, recipe: Recipe) -> Path | None:
    """What a fitted teacher left, to read new texts with."""
    path = folder(settings, recipe) / STATE
    return path if path.is_file() else None


def _reports(
    pairs: Path, text: str, gauge: Sequence[str]
) -> tuple[list[teachers.Report], list[teachers.Report]]:
    """Reports of alignment pairs; those and the ones of gauge pairs."""
    columns = ["pair_id", "align", *(f"{text}_{kind}" for kind in ("hash", "text", "terms"))]
    aligned: dict[str, teachers.Report] = {}
    every: dict[str, teachers.Report] = {}
    asked = pc.field("align") | store.one_of("pair_id", gauge)
    for row in store.read_rows(pairs, columns, asked):
        key, said, terms = (row[name] for name in columns[2:])
        every[key] = teachers.Report(key, said, tuple(map(sys.intern, terms)))
        if row["align"]:
            aligned[key] = every[key]
    return [aligned[h] for h in sorted(aligned)], [every[h] for h in sorted(every)]
