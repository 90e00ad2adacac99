"""One manifest -> its assets: archive, recordings, reports (where used for alignment)."""

from itertools import islice
from typing import Any

import dagster as dg

from pipeline import fetch
from pipeline.defs import recording_checks, report_checks, shown
from pipeline.defs.outcome import result, table
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import (
    acquire,
    archive,
    audio,
    collect,
    layout,
    recordings,
    report_table,
    reports,
    reports_page,
    store,
)


def build(manifest: Manifest, settings: Settings) -> list[dg.AssetsDefinition]:
    """Assets ``<id>/archive``, ``<id>/recordings`` and, unless probed only, ``<id>/reports``."""
    here = layout.Dataset(settings.data_root, manifest.id)
    about = {
        "title": manifest.title,
        "licence": manifest.licence.name,
        "attribution": manifest.attribution,
        "homepage": dg.MetadataValue.url(manifest.homepage),
    }

    @dg.asset(
        key_prefix=manifest.id,
        group_name=manifest.id,
        name="archive",
        kinds={"file"},
        tags={"stage": "archive"},
        metadata=about,
        code_version=store.package_version(fetch, archive, acquire, collect),
        description=f"{manifest.title}: the raw archive, unpacked as its publisher ships it. "
        f"{manifest.description}",
    )
    def _archive(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return result(context, lambda: archive.obtain(manifest, settings, context.log.info))

    @dg.asset(
        key_prefix=manifest.id,
        group_name=manifest.id,
        name="recordings",
        deps=[_archive],
        kinds={"flac", "parquet"},
        tags={"stage": "recordings"},
        check_specs=[recording_checks.spec(dg.AssetKey([manifest.id, "recordings"]))],
        code_version=f"{audio.VERSION}",
        description="Every usable recording as 16 kHz mono FLAC with its findings and facts about "
        "the original file. What could not be used is in the quarantine table, with the reason.",
    )
    def _recordings(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return result(
            context,
            lambda: recordings.prepare(manifest, settings, context.log.info),
            uri=here.recordings,
            rows="recordings",
            more=shown.recordings(here),
            checks=recording_checks.results,
        )

    if manifest.use == "probes":
        return [_archive, _recordings]

    @dg.asset(
        key_prefix=manifest.id,
        group_name=manifest.id,
        name="reports",
        deps=[_recordings],
        kinds={"jinja", "parquet"},
        tags={"stage": "reports"},
        check_specs=report_checks.specs(dg.AssetKey([manifest.id, "reports"])),
        code_version=reports.template_version(manifest.id),
        description="One clinical report per recording, rendered from its findings alone; each "
        "sentence keeps the findings it states. The strict version leaves out the task labels.",
    )
    def _reports(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        def texts() -> dict[str, Any]:
            columns = ["recording_id", "full_text", "strict_text"]
            rows = list(islice(store.read_rows(here.reports, columns), 5))
            reports_page.make(manifest, settings)
            page = dg.MetadataValue.path(here.reports_page.resolve())
            return {"examples": table(rows), "twenty_reports": page}

        return result(
            context,
            lambda: report_table.make(manifest, settings, progress=context.log.info),
            uri=here.reports,
            rows="reports",
            more=texts,
            checks=report_checks.results,
        )

    return [_archive, _recordings, _reports]
