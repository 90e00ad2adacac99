"""Settings: a misspelling is an error that lists what is valid, and the environment wins."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from acula_model.evaluation import run as evaluate
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
    assert set(found.datasets) == set(load_all()) and len(found.alignment) == 7
    assert {m.use for d, m in load_all().items() if d in found.alignment} == {"alignment"}


def test_the_environment_wins_over_the_file_and_an_argument_over_both(
    load: Callable[..., Settings],
) -> None:
    toml = 'data_root = "from file"\nsample_seed = 7\ndatasets = ["icbhi", "circor"]\n'
    found = load(toml, ACULA_DATA_ROOT="from environment", ACULA_WORKERS="3")
    assert (found.data_root, found.sample_seed, found.workers) == (Path("from environment"), 7, 3)
    assert found.datasets == ("icbhi", "circor")
    assert configuration.load(workers=5).workers == 5


@pytest.mark.parametrize("value", ["mlp", "mlp,linear", " linear , mlp,mlp"])
def test_the_linear_head_is_always_there_and_order_says_nothing(
    load: Callable[..., Settings], value: str
) -> None:
    assert load(ACULA_HEADS=value).heads == ("linear", "mlp")
    assert get_args(configuration.Head) == (*evaluate.HEADS, "finetune")


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
        ({"ACULA_HEADS": "mpl"}, r"heads.*'linear', 'mlp', 'attentive' or 'finetune'"),
        ({"ACULA_DATASETS": " , "}, r"at least one dataset of: .*icbhi"),
        ({"ACULA_RECIPE": "dmo"}, r"no recipe 'dmo'; valid names: sample, paper"),
        ({"ACULA_ARCHIVES": "smple"}, r"'smple' is neither `sample` nor `download` nor an exist"),
        ({"ACULA_ARCHIVES": "sample,icbhi=smple"}, r"'smple' is neither"),
        ({"ACULA_ARCHIVES": "sample,icbih=."}, r"no dataset icbih"),
        ({"ACULA_AGREED": "mmlng"}, r"no dataset mmlng"),
        ({"ACULA_EDITIONS": "coughvid=v9"}, r"coughvid has no edition 'v9'; valid: v3"),
        ({"ACULA_EDITIONS": "icbhi=v2"}, r"icbhi has no edition 'v2'; valid: none"),
        ({"ACULA_DOWNLOADS_AT_ONCE": "0"}, r"downloads_at_once: "),
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
        ('[settings]\nrecipe = "sample"', r"settings: .*valid settings: "),
        ("recipe = demo", r"acula\.toml: "),
    ],
)
def test_a_wrong_file_is_an_error_too(load: Callable[..., Settings], toml: str, error: str) -> None:
    with pytest.raises(SettingsError, match=error):
        load(toml)


def test_an_existing_folder_is_an_archive(load: Callable[..., Settings], tmp_path: Path) -> None:
    assert load(ACULA_ARCHIVES=str(tmp_path)).archives == str(tmp_path)


def test_one_dataset_may_come_from_elsewhere(load: Callable[..., Settings], tmp_path: Path) -> None:
    found = load(ACULA_ARCHIVES=f"download, mmlung={tmp_path},icbhi=sample")
    assert found.archive_of("mmlung") == str(tmp_path)
    assert (found.archive_of("icbhi"), found.archive_of("circor")) == ("sample", "download")
    assert load(ACULA_ARCHIVES=str(tmp_path)).archive_of("circor") == str(tmp_path / "circor")


def test_editions_and_mirror(load: Callable[..., Settings]) -> None:
    found = load(ACULA_EDITIONS="coughvid=v3,uk_covid19=published", ACULA_MIRROR="https://m.org/x/")
    assert (found.edition_of("coughvid"), found.edition_of("icbhi")) == ("v3", None)
    assert found.mirrored("kauh", "Data annotation.xlsx") == [
        "https://m.org/x/kauh/Data%20annotation.xlsx"
    ]
    assert load(ACULA_MIRROR="/data").mirrored("kauh", "a b.zip") == ["/data/kauh/a b.zip"]
