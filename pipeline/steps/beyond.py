"""a trained run -> what its space is good for beyond probes: ``<run>/beyond.json``.

Reports of test persons are read here, by the teacher, after training and for these numbers only;
their vectors lie in a folder of their own (``layout.Corpus.measured_texts``) that no training
reads. ``N`` below is ``{"value", "low", "high"}``, a 95 % interval over persons, with ``"p"`` where
it is a difference (after - before; of an MAE, below zero is better). Each ENTRY that was not run is
``{"reason": one sentence}`` instead.

```
{"schema": 1, "regime", "text": full | strict, "teacher", "heard_test_sounds": bool,
 "zero_shot": {task: {"auroc": N, "chance": 0.5, "random_low", "random_high", "units", "persons",
     "prompts": {class: [text]}}},                       # after alignment; before there is none
 "retrieval": {"<dataset>/<modality>": {"report" (from sound), "sound" (from report): {"queries",
     "persons", "recall": {"1" | "5" | "10": N}, "chance": {"1", "5", "10"}, "median_rank": N,
     "chance_rank"}}},                                # any report with the same findings is a hit
 "label_efficiency": {task: {"metric": auroc | mae, "shares": [{"share", "persons",
     "before": N, "after": N, "difference": N}]}},       # means over draws of persons
 "transfer": [{"question", "source", "target", "chance": 0.5, "before": N, "after": N,
     "difference": N, "own": {"before", "after", "difference"} | null}],
 "confound": {"device of <dataset>" | "dataset" | "dataset of <modality> sounds": {"chance": 0.5,
     "before": N, "after": N, "difference": N, "values": {value: test persons}, "left_out": []}},
 "agreement": {"<dataset>/<modality>": {"before": N, "after": N, "difference": N, "encoders": N,
     "floor_before", "floor_after", "pairs", "persons"}}}   # debiased CKA with the teacher
```
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from acula_model import checkpoint, gauges, heads, retrieval
from acula_model.evaluation import (
    agreement,
    confound,
    label_efficiency,
    retrieved,
    transfer,
    zero_shot,
)
from acula_model.evaluation.examples import NotRun
from acula_model.recipes import Recipe
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import (
    beyond_inputs,
    beyond_texts,
    layout,
    plain,
    probing,
    prompts,
    reports,
    store,
    training,
)
from pipeline.steps.beyond_inputs import Inputs, Row

Progress = Callable[[str], None]
CHANCE = 0.5


def measure(
    settings: Settings,
    recipe: Recipe,
    manifests: Mapping[str, Manifest],
    progress: Progress = print,
) -> store.Outcome:
    """Write ``<run>/beyond.json`` of the recipe's finished run.

    Args:
        settings: Where everything lies.
        recipe: Of the run.
        manifests: Of the datasets of this run.
        progress: Called with a line now and then.

    Raises:
        FileNotFoundError: The run is not finished; names the command.
    """
    corpus = layout.Corpus(settings.data_root)
    place = training.run_folder(settings, recipe, manifests)
    evaluated = {d: manifests[d] for d in settings.evaluated}
    inputs = {
        "trained": store.version_at(place / "trained.json"),
        "subjects": store.version_at(corpus.stamp("subjects")),
        "pairs": store.version_at(corpus.stamp("pairs")),
        "manifests": {d: store.digest(m.model_dump()) for d, m in evaluated.items()},
        "templates": {d: reports.template_version(d) for d in settings.alignment},
        "code": [
            probing.code(),
            store.code_version(
                retrieval,
                gauges,
                heads,
                beyond_inputs,
                beyond_texts,
                plain,
                prompts,
                sys.modules[__name__],
            ),
        ],
    }

    def work() -> tuple[str, dict[str, Any]]:
        run = beyond_inputs.read(settings, recipe, evaluated, place.name, progress)
        found = {"schema": 1, **_all(run, checkpoint.load(place / "checkpoint"), progress)}
        made = plain.of(found)
        store.write_json(place / "beyond.json", made)
        return store.digest(made), _facts(made)

    return store.cached(place / "beyond.stamp.json", inputs, [place / "beyond.json"], work)


def _all(run: Inputs, aligned: checkpoint.Checkpoint, progress: Progress) -> dict[str, Any]:
    said = {f"{d}/{n}": prompts.of_task(m, n) for d, m in run.manifests.items() for n in m.tasks}
    texts = beyond_texts.read(
        aligned,
        run.recipe,
        [p for classes in said.values() for own in classes for p in own],
        [r for own in run.pairs.values() for r in own],
        layout.Corpus(run.settings.data_root).measured_texts,
        progress,
    )
    found: dict[str, Any] = {
        "regime": run.recipe.regime,
        "text": run.recipe.text,
        "teacher": run.recipe.teacher,
        "heard_test_sounds": run.recipe.regime == "transductive",
        "zero_shot": {t: _or_reason(lambda t=t: _zero_shot(run, texts, t, said[t])) for t in said},
        "retrieval": {
            g: _or_reason(lambda own=own: _retrieval(run, texts, own))
            for g, own in run.pairs.items()
        },
        "agreement": {
            g: _or_reason(lambda own=own: _agreement(run, texts, own))
            for g, own in run.pairs.items()
        },
    }
    progress("prompts, retrieval and agreement with the teacher measured")
    tasks = probing.tasks(run.manifests)
    found["label_efficiency"] = {
        t: _or_reason(
            lambda t=t: {
                "metric": tasks[t].metric,
                "shares": [
                    {"share": s.share, "persons": s.persons} | vars(s.compared)
                    for s in label_efficiency.curve(
                        run.before, run.after, run.rows.get(t, []), tasks[t]
                    )
                ],
            }
        )
        for t in tasks
    }
    progress("label efficiency measured")
    questions = {
        f"{d}/{n}": task.question
        for d, m in run.manifests.items()
        for n, task in m.tasks.items()
        if task.question
    }
    rows = [r for own in run.rows.values() for r in own]
    moved = transfer.between(run.before, run.after, rows, tasks, questions)
    found["transfer"] = [_moved(one) for one in moved]
    found["confound"] = _confound(run)
    progress("transfer and confounders measured")
    return found


def _or_reason(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except NotRun as reason:
        return {"reason": str(reason)}


def _zero_shot(
    run: Inputs, texts: beyond_texts.Texts, task: str, said: list[Any]
) -> dict[str, Any]:
    how = probing.tasks(run.manifests)[task]
    ids = [r["recording_id"] for r in run.rows.get(task, []) if r["fold"] == "test"]
    sounds = dict(zip(ids, texts.sounds([run.after[i] for i in ids]), strict=True)) if ids else {}
    classes = [texts.reports([r.hash for r in own]) for own in said]
    found = zero_shot.score(how, run.rows.get(task, []), sounds, classes)
    names = dict(zip(how.classes, said, strict=True))
    return vars(found) | {
        "chance": CHANCE,
        "prompts": {name: [r.text for r in own] for name, own in names.items()},
    }


def _retrieval(run: Inputs, texts: beyond_texts.Texts, own: list[Row]) -> dict[str, Any]:
    text = run.recipe.text
    stated = [tuple(r[f"{text}_terms"]) or (r[f"{text}_hash"],) for r in own]
    number = {terms: n for n, terms in enumerate(sorted(set(stated)))}
    return dict(
        retrieved.both_ways(
            torch.from_numpy(texts.sounds([run.after[r["recording_id"]] for r in own])),
            torch.from_numpy(texts.reports([r[f"{text}_hash"] for r in own])),
            torch.tensor([number[terms] for terms in stated]),
            [r["person_id"] for r in own],
        )
    )


def _agreement(run: Inputs, texts: beyond_texts.Texts, own: list[Row]) -> agreement.Agreement:
    before, after = (
        np.stack([vectors[r["recording_id"]] for r in own]) for vectors in (run.before, run.after)
    )
    read = texts.raw([r[f"{run.recipe.text}_hash"] for r in own])
    return agreement.measure(before, after, read, [r["person_id"] for r in own])


def _moved(one: transfer.Transfer) -> dict[str, Any]:
    found: dict[str, Any] = {k: getattr(one, k) for k in ("question", "source", "target")}
    if one.compared is None:
        return found | {"reason": one.reason}
    return found | vars(one.compared) | {"chance": CHANCE, "own": one.own}


def _confound(run: Inputs) -> dict[str, Any]:
    corpus = layout.Corpus(run.settings.data_root)
    columns = ["recording_id", "case_id", "person_id", "split"]
    everybody = store.read_rows(corpus.table("subjects"), columns)
    subjects = [r for r in everybody if r["recording_id"] in run.before]
    return {
        name: _or_reason(
            lambda name=name, own=own: _read_off(
                confound.measure(run.before, run.after, name, own, subjects)
            )
        )
        for name, own in beyond_inputs.attributes(run).items()
    }


def _read_off(found: confound.Confound) -> dict[str, Any]:
    return vars(found.compared) | {
        "chance": CHANCE,
        "values": found.values,
        "left_out": found.left_out,
    }


def _facts(made: Mapping[str, Any]) -> dict[str, Any]:
    """Small enough for a log."""
    run = {t: e for t, e in made["zero_shot"].items() if "auroc" in e}
    return {
        "zero_shot": {t: round(e["auroc"]["value"], 3) for t, e in run.items()},
        "report_recall_10": {
            g: round(e["report"]["recall"]["10"]["value"], 3)
            for g, e in made["retrieval"].items()
            if "report" in e
        },
        "agreement": {
            g: [round(e[k]["value"], 3) for k in ("before", "after")]
            for g, e in made["agreement"].items()
            if "after" in e
        },
        "transfers": sum("after" in e for e in made["transfer"]),
    }
