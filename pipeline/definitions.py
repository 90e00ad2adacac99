"""The one Definitions object that Dagster loads; assembles, and holds no logic."""

import os
from pathlib import Path

import dagster as dg

from pipeline import settings as configuration
from pipeline.defs import dataset_assets, model_assets
from pipeline.manifest import load_all

OWNERS = ["team:acula"]


def build(settings: configuration.Settings) -> dg.Definitions:
    """Definitions for the given settings; tests call this with their own."""
    manifests = {d: load_all()[d] for d in settings.datasets}
    executor = (
        dg.in_process_executor
        if settings.executor == "in_process"
        else dg.multiprocess_executor.configured(
            {"max_concurrent": 2, "start_method": {"forkserver": {}}}
        )
    )
    assets = [a for m in manifests.values() for a in dataset_assets.build(m, settings)]
    if settings.alignment:  # a choice of probe-only datasets has nothing to train on
        assets += model_assets.build(settings, manifests)
    assets = dg.map_asset_specs(lambda spec: spec.replace_attributes(owners=OWNERS), assets)
    clients = {"pipes_subprocess_client": dg.PipesSubprocessClient()}
    return dg.Definitions(assets=assets, executor=executor, resources=clients)


def _refuse_wrong_folder() -> None:
    """Elsewhere Dagster would record nothing and data would land in a stray folder."""
    at_root = Path("dagster.yaml").is_file() and Path("pyproject.toml").is_file()
    data_root = os.environ.get("ACULA_DATA_ROOT", "data")
    folder = os.environ.get("ACULA_WORK_FOLDER", "data") if "://" in data_root else data_root
    elsewhere_on_purpose = "DAGSTER_HOME" in os.environ and Path(folder).is_absolute()
    if not at_root and not elsewhere_on_purpose:
        raise RuntimeError(
            f"{Path.cwd()} is not the project root: there is no dagster.yaml, so this run would "
            "leave no history. Change to the folder that holds dagster.yaml, or set DAGSTER_HOME "
            "and an absolute ACULA_DATA_ROOT (for a URL, ACULA_WORK_FOLDER)"
        )


_refuse_wrong_folder()
defs = build(configuration.load())
