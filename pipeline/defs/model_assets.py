"""All datasets together -> subjects, pairs, shards, teacher vectors, scores, results page."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from acula_model import recipes
from pipeline import RESOURCES
from pipeline.defs import corpus_checks, shown
from pipeline.defs.outcome import result, table
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import label_leak, layout, pairs, store, subjects, task_rows
from pipeline.steps import shards as shard_step

PAGE_TEMPLATE = RESOURCES / "templates" / "results_page.html.j2"


def build(settings: Settings, manifests: Mapping[str, Manifest]) -> Sequence[dg.AssetsDefinition]:
    """The assets behind the datasets' own, for one recipe."""
    corpus = layout.Corpus(settings.data_root)
    recipe = recipes.named(settings.recipe)
    recordings = [dg.AssetKey([d, "recordings"]) for d in settings.evaluated]
    reports = [dg.AssetKey([d, "reports"]) for d in settings.alignment]

    @dg.asset(
        name="subjects",
        deps=recordings,
        group_name="pairs",
        kinds={"parquet"},
        tags={"stage": "subjects"},
        code_version=store.code_version(subjects, task_rows),
        description="Who is who over all datasets, each person's one split, and the rows of every "
        "probe task. The only place that decides sides.",
    )
    def _subjects(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return result(
            context,
            lambda: subjects.decide(settings, manifests),
            uri=corpus.table("subjects"),
            rows="recordings",
        )

    @dg.asset(
        name="pairs",
        deps=[*reports, _subjects],
        group_name="pairs",
        kinds={"parquet"},
        tags={"stage": "pairs"},
        check_specs=[corpus_checks.LEAK],
        code_version=store.code_version(pairs),
        description="One row per report-audio pair with the hashes of everything it came from. "
        "`align` is true for persons of train whom no task holds out.",
    )
    def _pairs(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return result(
            context,
            lambda: pairs.join(settings),
            uri=corpus.table("pairs"),
            rows="pairs",
            more=shown.pairs(corpus, manifests),
            checks=lambda _: corpus_checks.leaks(corpus),
        )

    @dg.asset(
        name="shards",
        deps=[_pairs],
        group_name="pairs",
        kinds={"webdataset"},
        tags={"stage": "shards"},
        code_version=store.code_version(shard_step),
        description="The pairs as WebDataset tars per split, for any loader: `<pair_id>.flac` is "
        "the sound, `<pair_id>.json` the report and where both came from.",
    )
    def _shards(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return result(
            context,
            lambda: shard_step.write(settings, manifests, context.log.info),
            uri=corpus.shards,
            rows="pairs",
        )

    @dg.asset(
        name="report_embeddings",
        deps=[_pairs],
        group_name="alignment",
        pool="gpu",
        kinds={"huggingface"},
        tags={"stage": "teacher"},
        code_version=recipe.key,
        description="Vectors of the reports by the frozen teacher, computed once. Reports of test "
        "persons are not read.",
    )
    def _embeddings(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from pipeline.steps import embeddings

        return result(
            context,
            lambda: embeddings.embed(settings, recipe, context.log.info),
            uri=embeddings.folder(settings, recipe),
            rows="reports",
        )

    @dg.asset(
        name="baseline_scores",
        deps=[_shards],
        group_name="evaluation",
        pool="gpu",
        kinds={"pytorch"},
        tags={"stage": "probe"},
        code_version=recipe.key,
        description="Probe scores of the encoder before alignment, and of metadata that hear no "
        "sound: the floors beside every score.",
    )
    def _baseline(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from pipeline.steps import training

        return result(
            context, lambda: training.baseline(settings, recipe, manifests, context.log.info)
        )

    @dg.asset(
        name="label_leak",
        deps=[_pairs],
        group_name="evaluation",
        kinds={"scikitlearn"},
        tags={"stage": "probe"},
        code_version=store.code_version(label_leak),
        description="What the reports' words give away of each task's label: a bag-of-words "
        "probe on full and strict reports, beside one on the findings that a strict report states.",
    )
    def _leak(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return result(context, lambda: label_leak.measure(settings, manifests, context.log.info))

    @dg.asset(
        name="train_alignment",
        deps=[_shards, _embeddings],
        group_name="alignment",
        pool="gpu",
        kinds={"pytorch"},
        tags={"stage": "train"},
        code_version=recipe.key,
        description="Aligns the audio encoder with the teacher's vectors, then probes it on every "
        "task. Refuses to start when a person of the alignment set is held out by a task.",
    )
    def _train(
        context: dg.AssetExecutionContext, pipes_subprocess_client: dg.PipesSubprocessClient
    ) -> dg.MaterializeResult:
        from pipeline.defs import launching, plots
        from pipeline.steps import training

        def scored() -> dict[str, Any]:
            run = training.run_folder(settings, recipe, manifests)
            return {
                "scores": table(plots.score_rows(run / "scores")),
                "curves": plots.curves(run / "history.json"),
            }

        return result(
            context,
            lambda: training.align(
                settings,
                recipe,
                manifests,
                context.log.info,
                launching.through_pipes(context, pipes_subprocess_client),
            ),
            more=scored,
        )

    @dg.asset(
        name="comparison",
        deps=[_train, _baseline, _leak],
        group_name="evaluation",
        kinds={"parquet"},
        tags={"stage": "compare"},
        check_specs=corpus_checks.COMPARISON,
        code_version=recipe.key,
        description="Every score beside the one before alignment and its floors: paired "
        "differences, leakage counted from the tables, subgroups, and a verdict in words.",
    )
    def _comparison(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from pipeline.doctor import datasets
        from pipeline.steps import beyond, comparison

        def made() -> store.Outcome:
            for dataset in settings.evaluated:
                datasets.check(settings, dataset, context.log.info)
            beyond.measure(settings, recipe, manifests, context.log.info)
            return comparison.make(settings, recipe, manifests, context.log.info)

        return result(context, made, rows="rows", checks=corpus_checks.compared)

    @dg.asset(
        name="results_page",
        deps=[_train, _baseline, _leak, _comparison],
        group_name="evaluation",
        kinds={"html"},
        tags={"stage": "page"},
        code_version=store.digest(PAGE_TEMPLATE.read_text(encoding="utf-8")),
        description="One self-contained page: scores beside their floors, curves, counts, "
        "quarantine, example pairs to look at and listen to.",
    )
    def _page(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from pipeline.steps import results_page

        return result(
            context,
            lambda: results_page.make(settings, recipe, manifests),
            uri=corpus.page,
            more=lambda: {"page": dg.MetadataValue.path(corpus.page.resolve())},
        )

    return [_subjects, _pairs, _shards, _embeddings, _baseline, _leak, _train, _comparison, _page]
