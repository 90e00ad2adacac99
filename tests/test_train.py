"""Alignment training: it learns a planted pairing, resumes exactly, and refuses nonsense."""

import dataclasses
import io

import numpy as np
import pytest
import soundfile
import torch

from acula_model import mels, shards, train
from acula_model.front_end import MelFrontEnd
from acula_model.recipes import DEMO

torch.set_num_threads(1)  # steps this small are slower on two

TINY = {
    "patch": (8, 64),
    "width": 32,
    "depth": 1,
    "heads": 2,
    "decoder_width": 16,
    "decoder_heads": 2,
}
RECIPE = dataclasses.replace(
    DEMO,
    name="tiny",
    encoder_config=TINY,
    epochs=12,
    batch_size=32,
    projection=(32, 16),
    learning_rate=1e-2,
)


def _sound(r: np.random.Generator, kind: int) -> bytes:
    """Two seconds: clicks or none, under noise and a hum whose levels say nothing."""
    time = np.arange(32_000) / 16_000
    wave = r.uniform(0.005, 0.03) * r.standard_normal(32_000)
    wave += r.uniform(0.01, 0.05) * np.sin(2 * np.pi * r.uniform(100, 3000) * time)
    if kind:
        wave[:: int(r.integers(2500, 4000))] += 0.9
    file = io.BytesIO()
    soundfile.write(file, wave, 16_000, format="FLAC")
    return file.getvalue()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    """96 pairs of two kinds; the report says the kind, and its vector is noisy."""
    root = tmp_path_factory.mktemp("world")
    r = np.random.default_rng(0)
    pairs, vectors = [], {}
    for i in range(96):
        kind = i % 2
        report = f"report{i}"
        pairs.append(
            shards.Pair(
                flac=_sound(r, kind),
                meta={
                    "pair_id": f"{i:016x}",
                    "dataset": "d",
                    "modality": "lung",
                    "split": "train",
                    "align": True,
                    "audio_sha256": f"{i}",
                    "full_hash": report,
                    "strict_hash": report,
                    "recording_id": f"d/{i}",
                },
            )
        )
        vectors[report] = (
            np.array([kind, 1 - kind, 0, 0, 0, 0, 0, 0]) + 0.2 * r.standard_normal(8)
        ).astype(np.float32)
    shards.write(root / "a.tar", pairs)
    found = mels.load(root, root / "mels", MelFrontEnd())
    ids = [p.pair_id for p in pairs]
    return found, vectors, ids[:64], ids[64:]


def _run(world, folder, recipe=RECIPE, stop_after: int | None = None):
    found, vectors, aligned, gauge = world

    def progress(line: str) -> None:
        if stop_after and line.startswith(f"epoch {stop_after} "):
            raise KeyboardInterrupt  # the state of this epoch is on disk, as after a kill

    return train.align(recipe, found, vectors, aligned, gauge, folder, progress, device="cpu")


def test_a_planted_pairing_is_learned_and_a_shuffled_one_is_not(world, tmp_path):
    true = _run(world, tmp_path / "true")
    shuffled = _run(world, tmp_path / "shuffled", dataclasses.replace(RECIPE, shuffle_reports=True))
    best = max(line["held_out_cka"] for line in true.history)
    assert best > 0.3
    assert shuffled.history[-1]["held_out_cka"] < best - 0.25
    assert true.history[true.best_epoch - 1]["held_out_cka"] == best


def test_a_killed_run_resumes_with_the_same_result(world, tmp_path):
    whole = _run(world, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _run(world, tmp_path / "cut", stop_after=3)
    resumed = _run(world, tmp_path / "cut")
    assert resumed.history == whole.history
    one, other = (train.checkpoint.load(r.folder).encoder.state_dict() for r in (whole, resumed))
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_an_encoder_without_an_objective_stays_near_its_start_after_a_kill_too(world, tmp_path):
    recipe = dataclasses.replace(
        RECIPE,
        encoder="opera_ct",
        encoder_config={"patch_width": 8, "depths": (1, 1), "heads": (1, 1)},
        one_pass=True,
        masked_weight=3.0,
        epochs=2,
    )
    whole = _run(world, tmp_path / "whole", recipe)
    with pytest.raises(KeyboardInterrupt):
        _run(world, tmp_path / "cut", recipe, stop_after=1)
    assert _run(world, tmp_path / "cut", recipe).history == whole.history
    first, last = (line["masked_loss"] for line in whole.history)
    assert first > 0
    free = _run(world, tmp_path / "free", dataclasses.replace(recipe, masked_weight=0.0))
    assert last < free.history[-1]["masked_loss"]


def test_masked_modelling_alone_needs_no_alignment(world, tmp_path):
    result = _run(world, tmp_path, dataclasses.replace(RECIPE, alignment_weight=0.0, epochs=2))
    assert result.best_epoch == 2
    assert result.history[1]["masked_loss"] < result.history[0]["masked_loss"]


def test_a_loss_that_is_not_a_number_stops_the_run(world, tmp_path):
    found, vectors, aligned, gauge = world
    broken = {k: np.full_like(v, np.nan) for k, v in vectors.items()}
    with pytest.raises(train.TrainingError, match="loss is nan"):
        train.align(RECIPE, found, broken, aligned, gauge, tmp_path, lambda _: None, device="cpu")


def test_too_few_pairs_are_refused(world, tmp_path):
    found, vectors, aligned, gauge = world
    with pytest.raises(train.TrainingError, match="no group has 8"):
        train.align(RECIPE, found, vectors, aligned[:5], gauge, tmp_path, lambda _: None)


def test_every_pair_is_in_one_batch_of_its_own_group():
    groups = {"a": [f"a{i}" for i in range(70)], "b": [f"b{i}" for i in range(9)], "c": ["c0"]}
    plan = train.batches(groups, 32, np.random.default_rng(0))
    assert sorted(i for b in plan for i in b) == sorted(groups["a"] + groups["b"])
    assert all(len({i[0] for i in b}) == 1 for b in plan)


def test_log_mels_are_cached_by_sound_not_by_report(world, tmp_path):
    r = np.random.default_rng(1)
    flac = _sound(r, 0)
    lines: list[str] = []
    for text in ("one report", "another report"):
        meta = {"pair_id": "0" * 16, "audio_sha256": "same", "full_hash": text}
        shards.write(tmp_path / "a.tar", [shards.Pair(flac=flac, meta=meta)])
        loaded = mels.load(tmp_path, tmp_path / "mels", MelFrontEnd(), lines.append)
        assert loaded.meta["0" * 16]["full_hash"] == text
    assert len(lines) == 1
