"""The asset graph: its keys, its groups, its blocking check, and what a wrong folder gets."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from pipeline import definitions
from pipeline.manifest import load_all
from pipeline.steps import layout, store, task_rows

ALIGNED = ("circor", "coughvid", "hflung", "icbhi", "sprsound", "uk_covid19", "zchsound")
PROBED = ("coswara", "kauh", "mmlung", "nosemic", "respiratory_tr")
DATASETS = (*ALIGNED, *PROBED)
JOINT = (
    "subjects",
    "pairs",
    "shards",
    "report_embeddings",
    "label_leak",
    "baseline_scores",
    "train_alignment",
    "comparison",
    "results_page",
)


def test_the_graph_has_exactly_these_assets(settings):
    graph = definitions.build(settings()).resolve_asset_graph()
    expected = {f"{d}/{step}" for d in DATASETS for step in ("archive", "recordings")}
    expected |= {f"{d}/reports" for d in ALIGNED}
    assert {k.to_user_string() for k in graph.get_all_asset_keys()} == expected | set(JOINT)
    groups = {graph.get(k).group_name for k in graph.get_all_asset_keys()}
    assert groups == {*DATASETS, "pairs", "alignment", "evaluation"}


def test_every_asset_says_what_it_is(settings):
    graph = definitions.build(settings()).resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description and len(node.description.split()) >= 10, key
        assert node.code_version, key  # without one, Dagster calls every run a code change
        assert node.kinds and node.owners and node.tags.get("stage") and node.group_name, key


def test_every_check_asks_something_and_says_what_a_failure_means(settings):
    graph = definitions.build(settings()).resolve_asset_graph()
    assert graph.asset_check_keys
    for key in graph.asset_check_keys:
        check = graph.get_check_spec(key)
        asks, mark, means = check.description.partition("?")
        assert mark and len(asks.split()) >= 5, key
        assert ("A failure means" if check.blocking else "A warning means") in means, key
    checked = {key.asset_key.to_user_string() for key in graph.asset_check_keys}
    assert checked >= {f"{d}/recordings" for d in DATASETS} | {f"{d}/reports" for d in ALIGNED}


def test_only_the_chosen_datasets_are_in_the_graph(settings):
    graph = definitions.build(settings(datasets="icbhi")).resolve_asset_graph()
    assert {k.path[0] for k in graph.get_all_asset_keys() if len(k.path) > 1} == {"icbhi"}


def test_a_leak_fails_the_check_and_stops_what_follows(tiny_settings, monkeypatch):
    """With a rule that forgets held-out persons, nothing behind `pairs` may be made."""
    monkeypatch.setattr("pipeline.steps.pairs.held_out_persons", _forgetful())
    result = dg.materialize(
        definitions.build(tiny_settings).assets or [],
        selection="*shards",
        resources={"pipes_subprocess_client": dg.PipesSubprocessClient()},
        instance=dg.DagsterInstance.ephemeral(),
        raise_on_error=False,
    )
    assert not result.success
    evaluations = result.get_asset_check_evaluations()
    (check,) = [e for e in evaluations if e.check_name == "no_person_on_both_sides"]
    assert not check.passed and check.metadata["persons"].value > 0
    assert not layout.Corpus(tiny_settings.data_root).shard_index.exists()


def _forgetful():
    """`held_out_persons` that is blind while the align flags are set, and sees again after."""
    from pipeline.steps import pairs

    real, calls = pairs.held_out_persons, []

    def held_out(rows):
        calls.append(1)
        return {} if len(calls) == 1 else real(rows)

    return held_out


def test_training_repeats_the_check(tiny_settings, materialise):
    """The headline command never runs the check on `pairs`: training must refuse by itself."""
    from acula_model.recipes import SAMPLE
    from pipeline.steps import embeddings, pairs, training

    materialise("shards")
    known = {"icbhi": load_all()["icbhi"]}
    embeddings.embed(tiny_settings, SAMPLE, lambda _: None)
    corpus = layout.Corpus(tiny_settings.data_root)
    rows = store.read_table(corpus.table("task_rows")).to_pylist()
    for row in rows:
        row["fold"] = "test"
    store.write_table(corpus.table("task_rows"), rows, task_rows.SCHEMA)
    with pytest.raises(pairs.LeakageError, match="icbhi/10"):
        training.align(tiny_settings, SAMPLE, known, lambda _: None)


@pytest.mark.parametrize("nested", [False, True], ids=["elsewhere", "subfolder of the project"])
def test_a_wrong_folder_is_an_error_that_says_so(tmp_path: Path, nested: bool):
    folder = Path(__file__).parents[1] / "tests" if nested else tmp_path
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER_", "ACULA_"))}
    command = [str(Path(sys.executable).parent / "dagster"), "asset", "materialize"]
    target = [] if nested else ["-m", "pipeline.definitions"]
    run = subprocess.run(
        [*command, *target, "--select", "train_alignment"],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert "is not the project root" in run.stdout + run.stderr
