"""Settings: a misspelling is an error that lists what is valid, and the environment wins."""

from collections.abc import Callable
from pathlib import Path

import pytest

from acula_model.recipes import RECIPES
from pipeline import settings as configuration
from pipeline.manifest import load_all
from pipeline.settings import Settings, SettingsError

Make = Callable[..., Settings]


@pytest.fixture
def load(settings: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Load with these environment variables and this acula.toml, and nothing else."""

    def run(toml: str = "", **environment: str) -> Settings:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        if toml:
            configuration.FILE.write_text(toml)
        return configuration.load()

    return run


def test_defaults(load: Callable[..., Settings]) -> None:
    found = load()
    assert found.data_root == Path("data") and found.archives == "sample"
    assert found.recipe in RECIPES
    assert set(found.datasets) == {m.id for m in load_all().values() if m.use == "alignment"}


def test_the_environment_wins_over_the_file_and_an_argument_over_both(
    load: Callable[..., Settings],
) -> None:
    toml = 'data_root = "from file"\nsample_seed = 7\ndatasets = ["icbhi", "circor"]\n'
    found = load(toml, ACULA_DATA_ROOT="from environment", ACULA_WORKERS="3")
    assert (found.data_root, found.sample_seed, found.workers) == (Path("from environment"), 7, 3)
    assert found.datasets == ("icbhi", "circor")
    assert configuration.load(workers=5).workers == 5


@pytest.mark.parametrize("value", ["icbhi,circor", " icbhi , circor,", "icbhi,circor,icbhi"])
def test_datasets_are_a_list_with_commas(load: Callable[..., Settings], value: str) -> None:
    assert load(ACULA_DATASETS=value).datasets == ("icbhi", "circor")
    assert load(f'datasets = "{value}"').datasets == ("icbhi", "circor")


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({"ACULA_DATASET": "icbhi"}, r"no setting ACULA_DATASET; valid: .*ACULA_DATASETS"),
        ({"acula_dataset": "icbhi"}, r"no setting acula_dataset; valid: .*ACULA_DATASETS"),
        ({"ACULA_DATASETS": "icbhi,circr"}, r"no dataset circr; valid ids: .*circor.*icbhi"),
        ({"ACULA_DATASETS": " , "}, r"at least one dataset of: .*icbhi"),
        ({"ACULA_RECIPE": "dmo"}, r"no recipe 'dmo'; valid names: .*demo.*paper"),
        ({"ACULA_ARCHIVES": "smple"}, r"'smple' is neither `sample` nor `download` nor an exist"),
        ({"ACULA_EXECUTOR": "threads"}, r"executor: .*'in_process' or 'multiprocess'"),
        ({"ACULA_WORKERS": "0"}, r"workers: .*greater than or equal to 1"),
        ({"ACULA_SAMPLE_SCALE": "0"}, r"sample_scale: .*greater than 0"),
        ({"ACULA_SAMPLE_SCALE": "nan"}, r"sample_scale: "),
        ({"ACULA_SAMPLE_SEED": "one"}, r"sample_seed: .*integer"),
    ],
)
def test_a_wrong_variable_is_named_with_what_is_valid(
    load: Callable[..., Settings], environment: dict[str, str], error: str
) -> None:
    with pytest.raises(SettingsError, match=error):
        load(**environment)


@pytest.mark.parametrize(
    ("toml", "error"),
    [
        ('dataset = "icbhi"', r"dataset: .*valid settings: .*datasets"),
        ('recipe = "dmo"', r"no recipe 'dmo'; valid names: "),
        ("datasets = 3", r"datasets: .*3"),
        ('[settings]\nrecipe = "demo"', r"settings: .*valid settings: "),
        ("recipe = demo", r"acula\.toml: "),
    ],
)
def test_a_wrong_file_is_an_error_too(load: Callable[..., Settings], toml: str, error: str) -> None:
    with pytest.raises(SettingsError, match=error):
        load(toml)


def test_an_existing_folder_is_an_archive(load: Callable[..., Settings], tmp_path: Path) -> None:
    assert load(ACULA_ARCHIVES=str(tmp_path)).archives == str(tmp_path)
