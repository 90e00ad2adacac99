"""A run in processes of its own: many give what one gives, and each failure is one sentence."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import training_world as world
from training_world import RECIPE
from typer.testing import CliRunner

from acula_model import checkpoint, recipes
from acula_model.recipes import Recipe
from acula_model.teachers import vectors as tables
from acula_model.training import job, loop, reading
from acula_model.training.errors import TrainingError
from pipeline.cli import app

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    vectors = world.write(root, groups=2)
    tables.write(root / "vectors.parquet", vectors, {"model": "made up"})
    world.given(root, vectors)
    return root


def make(root: Path, folder: Path, recipe: Recipe, **changes: Any) -> job.Job:
    given = world.given(root, tables.read(root / "vectors.parquet")[0])
    made = job.Job(
        recipe=recipe,
        folder=folder,
        shards=root,
        mels=root / "mels",
        vectors=root / "vectors.parquet",
        aligned=given.aligned,
        gauge=given.gauge,
        device="cpu",
    )
    return dataclasses.replace(made, **changes)


def quietly(arguments: Sequence[str]) -> None:
    subprocess.run(arguments, check=True, capture_output=True, env=job.environment(arguments))


def losses(result: loop.Result) -> list[float]:
    names = ("loss", "alignment_loss", "masked_loss", "held_out_cka", "report_recall_5")
    return [line[name] for line in result.history for name in names]


def test_two_processes_give_the_curve_of_one(root, tmp_path):
    """Same global batch; a queue, groups and accumulation are on."""
    recipe = dataclasses.replace(
        RECIPE,
        epochs=3,
        queue=24,
        batches="mixed",
        one_pass=False,
        micro_batch=16,
    )
    one = job.run(make(root, tmp_path / "one", recipe), 1, quietly)
    halves = dataclasses.replace(recipe, micro_batch=8)
    two = job.run(make(root, tmp_path / "two", halves), 2, quietly)
    assert losses(two) == pytest.approx(losses(one), abs=2e-4)
    weights = [checkpoint.load(r.folder).encoder.state_dict() for r in (one, two)]
    for name, tensor in weights[0].items():
        assert weights[1][name].numpy() == pytest.approx(tensor.numpy(), abs=2e-3), name


def test_shards_alone_give_what_the_cache_gives(root, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=2)
    cached = job.run(make(root, tmp_path / "cached", recipe), 1, quietly)
    bare = job.run(make(root, tmp_path / "bare", recipe, mels=None, workers=2), 1, quietly)
    assert losses(bare) == pytest.approx(losses(cached), abs=1e-3)


def test_a_killed_process_is_named_and_the_next_goes_on(root, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=200)
    made = make(root, tmp_path, recipe)

    def killed(arguments: Sequence[str]) -> None:
        child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
        while not (tmp_path / "state.pt").exists():
            time.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)
        raise subprocess.CalledProcessError(child.wait(), arguments)

    with pytest.raises(TrainingError, match=r"signal 9 .*goes on from its last saved state"):
        job.run(made, 1, killed)
    shorter = json.loads((tmp_path / "job.json").read_text())
    assert shorter["recipe"]["epochs"] == 200
    log = len((tmp_path / "log.jsonl").read_text().splitlines())
    child = subprocess.Popen(job.command(tmp_path / "job.json"), stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline().startswith("resuming after epoch")
    child.terminate()  # saves, says so, and ends
    assert child.wait(timeout=60) == 1
    assert "the same command goes on" in (tmp_path / job.ERROR).read_text()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) >= log


def test_one_process_of_two_that_dies_ends_the_run(root, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=200)

    def one_dies(arguments: Sequence[str]) -> None:
        child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (tmp_path / "state.pt").exists():
            time.sleep(0.05)
        threads = Path(f"/proc/{child.pid}/task").iterdir()
        ranks = [int(pid) for t in threads for pid in (t / "children").read_text().split()]
        os.kill(max(ranks), signal.SIGKILL)
        if code := child.wait(timeout=120):
            raise subprocess.CalledProcessError(code, arguments)

    with pytest.raises(TrainingError, match="goes on from its last saved state"):
        job.run(make(root, tmp_path, recipe), 2, one_dies)
    assert not (tmp_path / job.RESULT).exists() and (tmp_path / "state.pt").exists()


def test_a_process_ends_with_the_one_that_asked_for_it(root, tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    host = job.this_process()[0]
    recipe = dataclasses.replace(RECIPE, epochs=100_000)
    path = make(root, tmp_path, recipe, parent=(host, parent.pid)).write()
    child = subprocess.Popen(job.command(path), stdout=subprocess.DEVNULL)
    while not (tmp_path / "state.pt").exists():
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert child.wait(timeout=30) == 1


def test_errors_come_back_in_the_words_of_the_process(root, tmp_path):
    wrong = dataclasses.replace(RECIPE, weights=str(tmp_path / "absent.ckpt"))
    with pytest.raises(TrainingError, match=r"absent\.ckpt"):
        job.run(make(root, tmp_path / "weights", wrong), 1, quietly)
    larger = dataclasses.replace(RECIPE, epochs=1)
    first = job.run(make(root, tmp_path / "first", larger), 1, quietly)
    other = dataclasses.replace(
        larger, weights=str(first.folder), encoder_config=RECIPE.encoder_config | {"width": 64}
    )
    with pytest.raises(TrainingError, match="weights do not fit the model"):
        job.run(make(root, tmp_path / "shape", other), 1, quietly)
    (tmp_path / "job.json").write_text('{"recipe": {}}')
    with pytest.raises(TrainingError, match="no training job of this version"):
        job.Job.read(tmp_path / "job.json")


def test_shards_alone_are_enough_on_the_command_line(root, tmp_path, monkeypatch):
    tiny = dataclasses.replace(RECIPE, name="tiny", epochs=2)
    monkeypatch.setitem(recipes.RECIPES, "tiny", tiny)
    words = f"align --shards {root} --recipe tiny+bag_of_words --output-dir {tmp_path} --no-cache"
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, done.output
    (checkpoints,) = tmp_path.glob("run-*/checkpoint")
    meta = checkpoint.load(checkpoints).meta
    assert meta["recipe"]["name"] == "tiny+bag_of_words"
    assert meta["teacher"]["model"] == "bag_of_words"
    assert not (tmp_path / "mels").exists()
    for wrong, said in (
        (words.replace("tiny+", "tinny+"), "valid names"),
        (words.replace(str(root), str(tmp_path / "nowhere")), "no shards"),
        (f"{words} --tracker tensorboard", "known: mlflow, wandb"),
        (f"{words} --csv x.csv", "either --csv or --shards"),
    ):
        failed = CliRunner().invoke(app, wrong.split())
        assert failed.exit_code and said in " ".join(failed.output.split()), failed.output


def test_vectors_of_another_teacher_are_refused(root, tmp_path):
    """Same reports, same width: only what the table says of its teacher differs."""
    about = {"teacher": {"model": "made up"}}
    assert reading.given(make(root, tmp_path, RECIPE, about=about)).vectors
    about = {"teacher": {"model": "another"}}
    with pytest.raises(TrainingError, match=r"of the teacher made up@.*this run is of another@"):
        reading.given(make(root, tmp_path, RECIPE, about=about))


def test_a_replaced_table_of_vectors_is_refused(root, tmp_path):
    """Also one that says it is of the same teacher."""
    written, facts = tables.read(root / "vectors.parquet")
    path = tmp_path / "vectors.parquet"
    digest = tables.write(path, written, facts)
    made = make(root, tmp_path, RECIPE, vectors=path, vectors_digest=digest)
    assert reading.given(made).vectors
    tables.write(path, {h: v + 1 for h, v in written.items()}, facts)
    with pytest.raises(TrainingError, match="is not what was written for this run"):
        reading.given(made)


def test_a_compiler_that_is_missing_is_one_sentence(root, tmp_path, monkeypatch):
    """What torch.compile raises where there is none, without the ten seconds until it does."""
    from torch._dynamo.exc import TorchDynamoException

    def missing(*_: Any) -> None:
        raise TorchDynamoException("No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1")

    monkeypatch.setattr("torch.compile", lambda _: missing)
    given = world.given(root, tables.read(root / "vectors.parquet")[0])
    with pytest.raises(TrainingError, match=r"compiler found\. To go on, install a C") as said:
        loop.align(dataclasses.replace(RECIPE, compile=True), given, tmp_path, print, "cpu")
    assert "\n" not in str(said.value)
