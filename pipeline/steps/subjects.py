"""all recordings -> persons and splits; then the rows of every probe task.

The only place that decides who is who and who is on which side (design: keys and splits).
"""

import sys
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute

from pipeline import tasks
from pipeline.manifest import Manifest, load_all
from pipeline.settings import Settings
from pipeline.steps import layout, persons, published, store, task_rows

pc: Any = pyarrow.compute  # its functions are made at import: no type checker sees them


def decide(settings: Settings, manifests: Mapping[str, Manifest]) -> store.Outcome:
    """Write ``subjects``, ``task_rows`` and ``task_notes`` for the datasets of this run.

    Datasets that are only probed are part of it, so that somebody whom a probe tests is known
    where the same sound lies in a corpus that alignment hears.

    Args:
        settings: Which datasets.
        manifests: Theirs; further ones are those of the project.
    """
    corpus = layout.Corpus(settings.data_root)
    known = {**load_all(), **manifests}
    chosen = {d: known[d] for d in settings.evaluated}
    lists = published.at_hand(chosen.values(), settings)
    inputs = {
        "recordings": {d: store.version_at(corpus.dataset(d).recordings_stamp) for d in chosen},
        # Variants stand in the notes of datasets that are not part of the run, too.
        "tasks": {d: store.digest(m.model_dump()["tasks"]) for d, m in sorted(known.items())},
        "lists": {d: [sorted(own.values), own.missing] for d, own in lists.items()},
        "code": store.code_version(published, persons, task_rows, tasks, sys.modules[__name__]),
    }
    outputs = [corpus.table(n) for n in ("subjects", "task_rows", "task_notes")]

    def work() -> tuple[str, dict[str, Any]]:
        tables = {d: corpus.dataset(d).recordings for d in chosen}
        subjects = persons.group(
            pa.concat_tables([store.read_table(t, persons.COLUMNS) for t in tables.values()])
        )
        versions = [store.write_table(outputs[0], subjects, persons.SCHEMA)]
        built = task_rows.Built(task_rows.SCHEMA.empty_table(), [])
        for dataset, manifest in sorted(chosen.items()):
            own = store.read_batches(tables[dataset], task_rows.COLUMNS)
            built += task_rows.build(manifest, own, subjects, lists[dataset])
        for dataset in sorted(known.keys() - chosen.keys()):
            built.notes.extend(task_rows.absent(known[dataset], _why_absent(known[dataset])))
        versions.append(store.write_table(outputs[1], built.rows, task_rows.SCHEMA))
        versions.append(store.write_table(outputs[2], built.notes, task_rows.NOTES_SCHEMA))
        return store.digest(versions), _facts(subjects, built, chosen)

    return store.cached(corpus.stamp("subjects"), inputs, outputs, work, stored=outputs)


def _why_absent(manifest: Manifest) -> str:
    if manifest.access == "request":
        return f"{manifest.id} is not part of this run. {manifest.instructions.strip()}"
    return f"{manifest.id} is not part of this run: add it to ACULA_DATASETS"


def _facts(
    subjects: pa.Table, built: task_rows.Built, manifests: Mapping[str, Manifest]
) -> dict[str, Any]:
    people = subjects.group_by(["person_id", "split"]).aggregate([])
    count = people["split"].to_pylist().count
    sizes: dict[str, dict[str, int]] = {}
    shared: dict[str, int] = {}
    for task, variant, _ in _counted(built.rows, "task", "variant"):
        dataset, name = task.split("/")
        classes = list(manifests[dataset].tasks[name].codes)
        own = built.rows.filter((pc.field("task") == task) & (pc.field("variant") == variant))
        cell = sizes.setdefault(f"{task} {variant}", {})
        for fold, label, number in _counted(own, "fold", "label"):
            key = f"{fold}_{classes[int(label)]}" if classes else fold
            cell[key] = cell.get(key, 0) + number
        if number := _shared(own):
            shared[f"{task} {variant}"] = number
    notes: dict[str, dict[str, int]] = {}
    not_run: list[str] = []
    for note in built.notes:
        key = f"{note['task']} {note['variant']}"
        if note["note"] == task_rows.NOT_RUN:
            not_run.append(key)
        else:
            notes.setdefault(key, {})[note["note"]] = note["count"]
    return {
        "recordings": len(subjects),
        "persons": len(people),
        **{f"persons_{side}": count(side) for side in ("train", "val", "test")},
        "task_rows": len(built.rows),
        "tasks": sizes,
        "shared_persons": shared,
        "notes": notes,
        "not_run": not_run,
    }


def _shared(rows: pa.Table) -> int:
    """Persons who are tested and on another side, too."""
    tested = rows.filter(pc.field("fold") == "test")["person_id"].unique()
    learned = rows.filter(pc.field("fold").isin(["train", "val"]))["person_id"].unique()
    return pc.sum(pc.is_in(tested, value_set=learned)).as_py() or 0


def _counted(rows: pa.Table, *columns: str) -> list[tuple[Any, ...]]:
    """Distinct values of columns and their number of rows, in the order of appearance."""
    found = rows.select(columns).group_by(list(columns), use_threads=False)
    return [tuple(r.values()) for r in found.aggregate([([], "count_all")]).to_pylist()]
