"""MLflow and Weights & Biases get curves and settings, and cannot end a run."""

import dataclasses
import importlib
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import training_world as world

from acula_model.training import loop, trackers
from acula_model.training.errors import TrainingError

torch.set_num_threads(1)
RECIPE = dataclasses.replace(world.RECIPE, epochs=2)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> loop.Given:
    root = tmp_path_factory.mktemp("world")
    return world.given(root, world.write(root))


def run(given: loop.Given, folder: Path, name: trackers.TrackerName, lines: Any = print) -> Any:
    return loop.align(RECIPE, given, folder, lines, "cpu", trackers=(name,))


def test_mlflow_gets_curves_and_settings_and_a_resumed_run_goes_on(given, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow", reason="an option: pip install mlflow-skinny")
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    folder = tmp_path / "sample-1"
    result = run(given, folder, "mlflow")
    run(given, folder, "mlflow")
    (found,) = mlflow.search_runs(experiment_names=["acula"], output_format="list")
    assert (found.info.run_name, found.info.status) == ("sample-1", "FINISHED")
    assert found.data.params["alignment_loss"] == RECIPE.alignment_loss
    curve = mlflow.MlflowClient().get_metric_history(found.info.run_id, "epoch/held_out_cka")
    assert [p.value for p in curve] == [line["held_out_cka"] for line in result.history]
    steps = mlflow.MlflowClient().get_metric_history(found.info.run_id, "step/loss")
    assert [p.step for p in steps] == list(range(1, 1 + curve[-1].step))


def test_weights_and_biases_gets_curves_and_settings(given, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="an option: pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    result = run(given, tmp_path / "sample-1", "wandb")
    (written,) = (tmp_path / "sample-1" / "wandb").glob("offline-run-*/*.wandb")
    deadline, found = time.monotonic() + 60, list[float]()
    values, settings = read(written)  # by a process of the client's, which may be behind
    while len(found) < RECIPE.epochs and time.monotonic() < deadline:
        values, settings = read(written)
        found = [float(v["epoch/held_out_cka"]) for v in values if "epoch/held_out_cka" in v]
        time.sleep(0.1)
    assert found == pytest.approx([line["held_out_cka"] for line in result.history])
    assert settings["alignment_loss"] == f'"{RECIPE.alignment_loss}"'
    assert sum("step/loss" in v for v in values) > len(found)


def read(path: Path) -> tuple[list[dict[str, str]], dict[str, str]]:
    """History and settings of an offline run, as JSON."""
    record = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    values, settings = list[dict[str, str]](), dict[str, str]()
    for found in map(record.FromString, records(path.read_bytes())):
        settings |= {u.key: u.value_json for u in found.run.config.update}
        if rows := found.history.item:
            values.append({i.key or "/".join(i.nested_key): i.value_json for i in rows})
    return values, settings


def records(log: bytes) -> Iterator[bytes]:
    """Of LevelDB's log format (blocks of 32 KiB, records in pieces), after a header of 7 bytes."""
    at, record = 7, b""
    while at + 7 <= len(log):
        if (left := -at % 2**15) < 7:
            at += left
        size, kind = struct.unpack("<HB", log[at + 4 : at + 7])
        record += log[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


def test_a_tracker_that_fails_is_said_and_training_goes_on(given, tmp_path, monkeypatch):
    """Hours of training outlive a server; one that cannot start is said before they begin."""
    ended: list[int] = []

    class Gone(Exception):
        pass

    def log(values: Any, step: int) -> None:
        if step > 2:
            raise Gone("no route to host")

    def init(**options: Any) -> Any:
        if options["name"] == "never":
            raise Gone("no API key")
        return SimpleNamespace(log=log, finish=lambda exit_code: ended.append(exit_code))

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Error=Gone, init=init))
    lines: list[str] = []
    assert len(run(given, tmp_path / "gone", "wandb", lines.append).history) == RECIPE.epochs
    assert [n for n in lines if "wandb failed" in n and "no route" in n] and not ended
    with pytest.raises(TrainingError, match="wandb cannot start: no API key"):
        run(given, tmp_path / "never", "wandb")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrainingError, match="pip install mlflow-skinny"):
        run(given, tmp_path / "absent", "mlflow")
