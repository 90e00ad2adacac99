"""Alignment training: it learns a planted pairing, resumes exactly, and refuses nonsense."""

import dataclasses
import json
import os
import signal
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import training_world as world
from hypothesis import given as drawn_from
from hypothesis import strategies as st
from training_world import RECIPE, silent

from acula_model import checkpoint, recipes
from acula_model.recipes import Recipe
from acula_model.training import feed, loop, order, pairs, state
from acula_model.training.errors import InterruptedTrainingError, TrainingError

torch.set_num_threads(1)  # steps this small are slower on two


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> loop.Given:
    root = tmp_path_factory.mktemp("world")
    return world.given(root, world.write(root))


def run(given: loop.Given, folder: Any, recipe: Recipe = RECIPE, **options: Any) -> loop.Result:
    options = {"progress": silent, "device": "cpu"} | options
    return loop.align(recipe, given, folder, **options)


def same_weights(one: loop.Result, other: loop.Result) -> bool:
    first, second = (checkpoint.load(r.folder).encoder.state_dict() for r in (one, other))
    return all(torch.equal(first[k], second[k]) for k in first)


def comparable(result: loop.Result) -> list[dict[str, float]]:
    """History without what a clock decides."""
    clock = {"seconds", "waiting", "pairs_per_s"}
    return [{k: v for k, v in line.items() if k not in clock} for line in result.history]


def test_a_planted_pairing_is_learned_and_a_shuffled_one_is_not(given, tmp_path):
    true = run(given, tmp_path / "true")
    shuffled = dataclasses.replace(RECIPE, shuffle_reports=True)
    control = run(given, tmp_path / "shuffled", shuffled)
    best = max(line["held_out_cka"] for line in true.history)
    assert best > 0.3
    assert control.history[-1]["held_out_cka"] < best - 0.25
    assert true.history[true.best_epoch - 1]["held_out_cka"] == best
    last = true.history[-1]
    assert last["audio_rank"] > 1 and last["uniformity"] < 0 and last["held_out_masked_loss"] > 0
    assert last["report_recall_10"] >= control.history[-1]["report_recall_10"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "queue": 48,
            "micro_batch": 8,
            "ema": 0.9,
            "batches": "mixed",
            "temperature": 0.5,
            "one_pass": False,
            "decay": "linear",
            "alignment_loss": "infonce",
            "augment": {"gain": 1.0, "time_masks": 1, "noise": 0.5},
        },
    ],
    ids=["as it comes", "everything on"],
)
def test_a_run_killed_anywhere_ends_with_the_same_bits(given, tmp_path, changes, monkeypatch):
    recipe = dataclasses.replace(RECIPE, epochs=4, **changes)
    whole = run(given, tmp_path / "whole", recipe)
    steps = 0
    real = loop.Trainer.step

    def killed(self: Any, *args: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps > victim:
            raise KeyboardInterrupt
        return real(self, *args)

    for victim in (1, 2, 2):  # noqa: B007 - read in `killed`; inside an epoch, and at its end
        steps = 0
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(loop.Trainer, "step", killed)
            run(given, tmp_path / "cut", recipe, save_seconds=0.0)
    resumed = run(given, tmp_path / "cut", recipe)
    assert comparable(resumed) == comparable(whole)
    assert same_weights(whole, resumed)


def test_a_stopped_run_saves_and_says_how_to_go_on(given, tmp_path, monkeypatch):
    recipe = dataclasses.replace(RECIPE, epochs=2)
    whole = run(given, tmp_path / "whole", recipe)
    real = loop.Trainer.step

    def told_to_stop(*args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "step", told_to_stop)
        with pytest.raises(InterruptedTrainingError, match="the same command goes on"):
            run(given, tmp_path / "cut", recipe)
    said: list[str] = []
    resumed = run(given, tmp_path / "cut", recipe, progress=said.append)
    assert said[0] == "resuming after epoch 0 and 1 steps of 2"
    assert same_weights(whole, resumed)


def test_encoders_without_an_objective_of_their_own_stay_near_their_start(given, tmp_path):
    recipe = dataclasses.replace(
        RECIPE,
        encoder="opera_ct",
        encoder_config={
            "patch_width": 8,
            "depths": (1, 1),
            "heads": (1, 1),
            "objective": "distillation",
        },
        masked_weight=3.0,
        epochs=2,
    )
    whole = run(given, tmp_path / "held", recipe)
    first, last = (line["masked_loss"] for line in whole.history)
    free = run(given, tmp_path / "free", dataclasses.replace(recipe, masked_weight=1e-9))
    assert first > 0 and last < free.history[-1]["masked_loss"]


def test_masked_modelling_alone_needs_no_alignment(given, tmp_path):
    result = run(given, tmp_path, dataclasses.replace(RECIPE, alignment_weight=0.0, epochs=2))
    assert result.best_epoch == 2
    assert result.history[1]["masked_loss"] < result.history[0]["masked_loss"]


def test_sounds_that_are_only_heard_move_the_encoder_and_have_no_text(given, tmp_path):
    """The transductive regime: no vector of theirs exists, and the run is another run."""
    heard = given.aligned[48:]
    without = {
        h: v
        for h, v in given.vectors.items()
        if h not in {given.source.meta[i]["full_hash"] for i in heard}
    }
    recipe = dataclasses.replace(RECIPE, epochs=1, batches="mixed")
    less = dataclasses.replace(given, aligned=given.aligned[:48], vectors=without)
    more = dataclasses.replace(less, only_heard=heard)
    plain, wide = run(less, tmp_path / "less", recipe), run(more, tmp_path / "more", recipe)
    assert not same_weights(plain, wide)
    with pytest.raises(TrainingError, match="16 of 64 pairs have no teacher vector"):
        run(dataclasses.replace(less, aligned=given.aligned), tmp_path / "bare", recipe)


def test_several_layers_of_a_teacher_are_aligned_together(given, tmp_path):
    layers = {h: np.stack([v, v[::-1]]) for h, v in given.vectors.items()}
    recipe = dataclasses.replace(RECIPE, epochs=2, queue=32)
    found = run(dataclasses.replace(given, vectors=layers), tmp_path, recipe)
    assert {"text_head", "text_head_1"} <= checkpoint.load(found.folder).heads.keys()


def test_accumulated_gradients_are_those_of_the_whole_batch(given):
    """Of the masked loss, a mean over pairs: cut in four, or at once, the same step."""

    def weights(micro: int | None) -> torch.Tensor:
        recipe = dataclasses.replace(
            RECIPE, alignment_weight=0.0, micro_batch=micro, one_pass=False, epochs=1
        )
        learn = pairs.Pairs(given.source.meta, given.vectors, given.aligned, "full")
        trainer = loop.Trainer(recipe, loop.Aligner(recipe, 8), 1, "cpu")
        (batch,) = order.epoch(learn.groups, 64, (0, 1))
        step = order.micro(batch, recipe.micro_batch, 1)
        assert len(step) == (1 if micro is None else 4)
        trainer.step(list(feed.Feed(given.source, learn, 0, 0, 1)([step], 1)), "here")
        return torch.cat([p.grad.flatten() for p in trainer.parameters if p.grad is not None])

    torch.testing.assert_close(weights(16), weights(None), atol=1e-6, rtol=1e-4)


def test_what_cannot_go_on_says_why_and_keeps_the_best(given, tmp_path):
    broken = {k: np.full_like(v, np.nan) for k, v in given.vectors.items()}
    with pytest.raises(TrainingError, match="64 of 64 teacher vectors are not finite"):
        run(dataclasses.replace(given, vectors=broken), tmp_path / "nan")
    wild = dataclasses.replace(RECIPE, learning_rate=1e30, clip_norm=1e30)
    with pytest.raises(TrainingError, match=r"(loss is|not numbers).*in epoch 1|epoch 1.*numbers"):
        run(given, tmp_path / "wild", wild)
    with pytest.raises(TrainingError, match="no group has 8"):
        run(dataclasses.replace(given, aligned=given.aligned[:5]), tmp_path / "few")
    with pytest.raises(TrainingError, match="1 of 65 pairs are not in the shards"):
        run(dataclasses.replace(given, aligned=[*given.aligned, "0"]), tmp_path / "lost")
    mixed = dict(given.vectors) | {"report0": np.zeros(3, np.float32)}
    with pytest.raises(TrainingError, match="different shapes"):
        run(dataclasses.replace(given, vectors=mixed), tmp_path / "mixed")
    bare = {k: v for k, v in given.vectors.items() if k != "report0"}
    with pytest.raises(TrainingError, match="pairs have no teacher vector"):
        run(dataclasses.replace(given, vectors=bare), tmp_path / "bare")
    recipe = dataclasses.replace(RECIPE, epochs=2)
    run(given, tmp_path / "other", recipe)
    with pytest.raises(TrainingError, match="is of another run"):
        run(given, tmp_path / "other", dataclasses.replace(recipe, epochs=3))
    (tmp_path / "other" / state.STATE).write_bytes(b"cut short")
    with pytest.raises(TrainingError, match="delete it to start this run over"):
        run(given, tmp_path / "other", recipe)


def test_a_collapse_ends_the_run_with_the_best_state(given, tmp_path, monkeypatch):
    """One vector for all pairs from the second epoch on."""
    real, calls = loop.held_out.Gauges.measure, 0

    def collapsing(self: Any, model: Any, where: str) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls > 2:
            with torch.no_grad():
                model.audio_head[2].weight.zero_()
        return real(self, model, where)

    monkeypatch.setattr(loop.held_out.Gauges, "measure", collapsing)
    with pytest.raises(TrainingError, match=r"(?s)collapse.*best state so far, of epoch [12]"):
        run(given, tmp_path)
    assert checkpoint.load(tmp_path / "checkpoint").meta["best_epoch"] in (1, 2)


def test_a_full_disk_leaves_the_state_of_before(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    state.save(path, {"key": "k", "value": 1})
    monkeypatch.setattr(state.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(TrainingError, match="make room"):
        state.save(path, {"key": "k", "value": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]
    assert (state.load(path, "k", "cpu") or {})["value"] == 1
    monkeypatch.setattr(state.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(TrainingError, match=r"training needs .* are free"):
        state.room(tmp_path, torch.nn.Linear(99, 99))


def test_a_state_is_to_be_deleted_only_where_it_is_damaged(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    state.save(path, {"key": "k"})
    with monkeypatch.context() as full:
        full.setattr(
            state.torch,
            "load",
            lambda *_, **__: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError()),
        )
        with pytest.raises(torch.cuda.OutOfMemoryError):  # of the card
            state.load(path, "k", "cpu")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(TrainingError, match="delete it to start this run over"):
        state.load(path, "k", "cpu")


def test_half_precision_trains_as_full_precision_does(given, tmp_path):
    losses = {
        precision: run(
            given,
            tmp_path / precision,
            dataclasses.replace(RECIPE, epochs=4, precision=precision),
        ).history
        for precision in ("bf16", "fp32")
    }
    half, full = ([line["loss"] for line in losses[p]] for p in ("bf16", "fp32"))
    assert half != full and half[-1] < half[0]
    assert half == pytest.approx(full, abs=0.1)


def test_numbers_of_every_step_and_epoch_are_in_the_log(given, tmp_path):
    result = run(given, tmp_path, dataclasses.replace(RECIPE, epochs=2))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["step", "step", "epoch"] * 2
    assert lines[-1]["held_out_cka"] == result.history[-1]["held_out_cka"]
    assert lines[0]["learning_rate"] <= RECIPE.learning_rate and lines[0]["pairs_per_s"] > 0


@drawn_from(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 90), min_size=1),
    st.integers(4, 64),
    st.sampled_from(["grouped", "mixed"]),
    st.integers(1, 4),
)
def test_every_pair_comes_once_an_epoch_on_any_number_of_processes(sizes, size, batches, world):
    groups = {g: [f"{g}{i}" for i in range(n)] for g, n in sizes.items()}
    plan = order.epoch(groups, size, (0, 1), batches)
    expected = Counter(i for m in groups.values() if len(m) >= order.MIN_GROUP for i in m)
    assert Counter(i for b in plan for i in b) == expected
    assert plan == order.epoch(groups, size, (0, 1), batches)
    if batches == "grouped":
        assert all(len({i[0] for i in b}) == 1 for b in plan)
    for batch in plan:
        cut = order.micro(batch, 5, world)
        together = [i for part in cut for i in part]
        assert together == batch[: len(together)] and len(batch) - len(together) < world
        assert all(len(part) % world == 0 and 0 < len(part) <= 5 * world + world for part in cut)


def test_temperature_moves_draws_from_large_groups_to_small_ones():
    groups = {"a": [f"a{i}" for i in range(900)], "b": [f"b{i}" for i in range(100)]}

    def counts(temperature: float) -> Counter[str]:
        return Counter(i for b in order.epoch(groups, 50, (0, 1), "mixed", temperature) for i in b)

    small = {t: sum(n for i, n in counts(t).items() if i[0] == "b") for t in (1.0, 0.5, 0.0)}
    assert small[1.0] == 100 and 240 <= small[0.5] <= 260 and small[0.0] == 500
    times = [n for i, n in counts(0.0).items() if i[0] == "b"]
    assert max(times) - min(times) <= 1


def test_recipes_change_by_name():
    found = recipes.named("sample+strict+shuffled_reports")
    assert (found.regime, found.shuffle_reports) == ("strict", True)
    assert found.key != recipes.SAMPLE.key and recipes.named("sample") == recipes.SAMPLE
    assert recipes.named("release").alignment_loss == "release_cov"
    assert recipes.named("strict").key == recipes.named("paper+strict").key
    for wrong in ("smaple", "sample+strickt"):
        with pytest.raises(ValueError, match="valid"):
            recipes.named(wrong)
    with pytest.raises(ValueError, match="batch_size"):
        dataclasses.replace(RECIPE, batch_size=0)
