"""What every encoder promises, held for each name in the registry; a new one is tested by its line.

Sizes are the real ones, with fewer blocks where a processor would take minutes.
"""

import copy
import json
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from costs import imported
from torch import nn

from acula_model import checkpoint, encoders
from acula_model.encoders.base import AudioEncoder
from acula_model.encoders.preservation import PreservingEncoder
from acula_model.encoders.two_crop import CROP, TwoCropEncoder, crops
from acula_model.front_end import MelFrontEnd

FEWER_BLOCKS: dict[str, dict[str, Any]] = {
    "ast": {"depth": 1},
    "clap": {"depths": (1, 2, 1, 1)},
    "opera_ct": {"depths": (1, 2, 1, 1)},
    "opera_gt": {"depth": 2, "decoder_depth": 2},
}
# Encoders with a choice of objective are held to the promises with each.
DISTILLED = {
    f"{name}, distilled": (name, FEWER_BLOCKS.get(name, {}) | {"objective": "distillation"})
    for name in ("opera_ce", "opera_ct")
}
BUILDS = {name: (name, FEWER_BLOCKS.get(name, {})) for name in encoders.ENCODERS} | DISTILLED
# Attention is blind to what is added to all keys: such a bias gets rounding noise at most.
BLIND = re.compile(r"\.(k_proj|key)\.bias$")


@lru_cache(maxsize=1)
def _built(build: str) -> AudioEncoder:
    torch.manual_seed(0)
    name, config = BUILDS[build]
    encoder = encoders.build(name, **config)
    encoder.remember()
    return encoder


@pytest.fixture(params=sorted(BUILDS))
def encoder(request: pytest.FixtureRequest) -> AudioEncoder:
    """Of each name, in eval mode, with random weights."""
    return copy.deepcopy(_built(request.param)).eval()


def windows(encoder: AudioEncoder) -> torch.Tensor:
    """[2, T, M] of a short and a long noise."""
    rng, window = np.random.default_rng(0), encoder.front_end.window_samples
    waves = [0.1 * rng.standard_normal(length) for length in (window // 2, window)]
    return torch.cat([encoder.front_end.windows(wave) for wave in waves])


def seeds(clips: int, seed: int = 0) -> torch.Tensor:
    return torch.arange(clips) + 1_000 * seed


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).norm() <= 1e-5 * other.norm())


def test_shapes_determinism_and_batch_invariance(encoder: AudioEncoder):
    mel_BTM = windows(encoder)
    front_end = encoder.front_end
    assert mel_BTM.shape == (2, front_end.frames, front_end.n_mels)
    for mode in (False, True):  # in training too: alignment compares rows of one batch
        encoder.train(mode)
        with torch.no_grad():
            together = encoder.embed(mel_BTM)
            assert torch.equal(together, encoder.embed(mel_BTM))
            alone = torch.cat([encoder.embed(clip[None]) for clip in mel_BTM])
        assert together.shape == (2, encoder.width)
        assert together.dtype == torch.float32
        assert torch.isfinite(together).all()
        assert close(together, alone)
        assert not close(together[:1], together[1:2])
    with pytest.raises(ValueError, match=r"takes \[B, "):
        encoder.embed(mel_BTM[..., :-1])


def test_tokens_have_the_width_of_embeddings(encoder: AudioEncoder):
    mel_BTM = windows(encoder)
    try:
        with torch.no_grad():
            tokens_BND = encoder.tokens(mel_BTM)
    except NotImplementedError as error:
        assert encoder.name in str(error)
    else:
        assert tokens_BND.shape[::2] == (2, encoder.width)
        assert tokens_BND.shape[1] > 1


def test_gradient_reaches_what_is_trained_and_nothing_else(encoder: AudioEncoder):
    mel_BTM, names = windows(encoder), [n for n, _ in encoder.named_parameters()]

    def reached() -> set[str]:
        encoder.train().zero_grad(set_to_none=True)
        loss, embedding_BD = encoder.masked_pass(mel_BTM, seeds(2))
        (loss + (embedding_BD * torch.linspace(-1, 2, encoder.width)).sum()).backward()
        found = {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}
        return {n for n, grad in found.items() if grad.any() or BLIND.search(n)}

    assert reached() == {n for n, p in encoder.named_parameters() if p.requires_grad}
    frozen = set(names[: len(names) // 2])
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(name not in frozen)
    assert reached() == set(names) - frozen
    assert all(p.grad is None for n, p in encoder.named_parameters() if n in frozen)


def test_modes_are_respected(encoder: AudioEncoder):
    mel_BTM = windows(encoder)
    for mode in (True, False):
        encoder.train(mode)
        modes = [m.training for m in encoder.modules()]
        assert encoder.training == mode
        assert mode in modes
        assert mode or not any(modes)
        before = {k: v.clone() for k, v in encoder.state_dict().items()}
        with torch.no_grad():
            encoder.embed(mel_BTM)
            encoder.self_supervised_loss(mel_BTM, seeds(2))
        assert [m.training for m in encoder.modules()] == modes
        assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_own_objective_is_a_number_that_repeats(encoder: AudioEncoder):
    mel_BTM = windows(encoder)
    encoder.train()
    with torch.no_grad():
        first, again = (encoder.self_supervised_loss(mel_BTM, seeds(2)) for _ in range(2))
        both, embedding_BD = encoder.masked_pass(mel_BTM, seeds(2))
    assert first.shape == ()
    assert first == again == both
    assert torch.isfinite(first)
    assert embedding_BD.shape == (2, encoder.width)


def test_own_objective_of_a_clip_follows_its_seed_and_not_the_batch(encoder: AudioEncoder):
    """In any split and order; contrasts compare clips, which is all that the batch may decide."""
    mel_BTM, seed_B = windows(encoder), seeds(2)
    with torch.no_grad():
        for parameter in encoder.parameters():  # away from the original, where there is one
            parameter += 0.05 * parameter.abs().mean()
        together, rows_BD = encoder.masked_pass(mel_BTM, seed_B)
        parts = [encoder.masked_pass(mel_BTM[i : i + 1], seed_B[i : i + 1]) for i in (1, 0)]
        other, other_BD = encoder.masked_pass(mel_BTM, seeds(2, 1))
    losses, alone = [p[0].item() for p in parts], torch.cat([p[1] for p in parts[::-1]])
    assert close(rows_BD, alone)
    assert together > 0
    if encoder.objective_compares_clips:
        assert losses == [0, 0]
    else:
        assert together.item() == pytest.approx(np.mean(losses), rel=1e-4)
        assert losses[0] != losses[1]
    drawn = not (isinstance(encoder, PreservingEncoder) and encoder._original)
    assert (together != other) == drawn
    assert torch.equal(rows_BD, other_BD) != drawn


def test_state_round_trip(encoder: AudioEncoder, tmp_path: Path):
    mel_BTM = windows(encoder)
    checkpoint.save(tmp_path / "a", encoder, {}, {})
    found = checkpoint.load(tmp_path / "a").encoder
    assert type(found) is type(encoder)
    assert (found.front_end, found.config) == (encoder.front_end, encoder.config)
    assert found.state_dict().keys() == encoder.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(found.embed(mel_BTM), encoder.embed(mel_BTM))


@pytest.mark.parametrize("share", [0.001, 0.6, 1.0, 2.5])
def test_recordings_of_any_length_are_the_mean_over_their_windows(
    encoder: AudioEncoder, share: float
):
    front_end = encoder.front_end
    length = int(share * front_end.window_samples)
    wave = 0.1 * np.random.default_rng(0).standard_normal(length)
    with torch.no_grad():
        cut = front_end.windows(wave)
        assert cut.shape == (max(1, round(share + 0.1)), front_end.frames, front_end.n_mels)
        want = encoder.embed(cut).mean(0, keepdim=True)
        assert close(encoder.embed_recordings([wave], front_end.sample_rate), want)


def test_what_is_lossless_is_converted_and_the_rest_refused(encoder: AudioEncoder):
    rate = encoder.front_end.sample_rate
    pcm = np.random.default_rng(0).integers(-3_000, 3_000, rate // 2).astype(np.int16)
    with torch.no_grad():
        both = encoder.embed_recordings([pcm, pcm[:, None].repeat(2, axis=1)], rate)
        want = encoder.embed_recordings([pcm / np.float32(32_768)], rate)
        assert close(both, want.expand(2, -1))
        assert torch.isfinite(encoder.embed_recordings([pcm], rate // 2)).all()
    for bad in (pcm[:0], np.zeros(rate), np.full(rate, np.nan), pcm.reshape(-1, 2)):
        with pytest.raises(ValueError):
            encoder.embed_recordings([bad], rate)
    with pytest.raises(ValueError, match="resample it first"):
        encoder.embed_recordings([pcm], 2 * rate)


def test_description_is_json_that_says_weights_and_windows(encoder: AudioEncoder):
    said = json.loads(json.dumps(encoder.description))
    assert said["encoder"] == encoder.name
    assert said["parameters"] == sum(p.numel() for p in encoder.parameters())
    assert said["weights"]["source"] == "random"
    assert re.search(r"\d s.*mean over all", said["windows"])
    assert said["front_end"]["key"] == encoder.front_end.key
    if encoder.name != "opera_gt_small":
        assert encoder.published is not None
        assert encoder.published.licence


def test_preservation_starts_at_zero_grows_and_teaches_the_encoder_only(encoder: AudioEncoder):
    if not isinstance(encoder, PreservingEncoder) or encoder.objective_compares_clips:
        pytest.skip(f"{encoder.name} has an objective of its own")
    encoder.train()
    mel_BTM = windows(encoder)[:1]
    assert encoder.preservation_loss(mel_BTM).item() == 0
    values: list[float] = []
    for _ in range(3):  # a walk in one direction
        with torch.no_grad():
            for parameter in encoder.parameters():
                way = torch.linspace(-1, 1, parameter.numel()).view_as(parameter)
                parameter += 0.02 * parameter.abs().mean() * way
            values.append(encoder.preservation_loss(mel_BTM).item())
    assert 0 < values[0] < values[1] < values[2]
    encoder.preservation_loss(mel_BTM).backward()
    assert any(p.grad is not None and p.grad.any() for p in encoder.parameters())
    (original,) = encoder._original
    assert all(p.grad is None and not p.requires_grad for p in original.parameters())
    assert not any(m.training for m in original.modules())
    assert not any("original" in key for key in encoder.state_dict())
    encoder.remember()  # the encoder as it is now, and without an original of its own
    assert encoder.preservation_loss(mel_BTM).item() == 0
    assert encoder._original[0]._original == []
    encoder._original.clear()
    with pytest.raises(RuntimeError, match="remember"):
        encoder.self_supervised_loss(mel_BTM, seeds(1))


class MeanSpectrum(TwoCropEncoder):
    """A linear map of the mean spectrum: enough to tell colours apart."""

    def __init__(self):
        super().__init__(16, "two_crop")
        self.map = nn.Linear(64, 16)

    def embed(self, mel_BTM: torch.Tensor) -> torch.Tensor:
        return self.map(mel_BTM.mean(1))


def test_contrast_learns_which_crops_are_of_one_recording():
    torch.manual_seed(0)
    encoder = MeanSpectrum().train()
    encoder.remember()
    assert encoder.objective_compares_clips and not encoder._original
    colour_BM = torch.randn(6, 64)  # of six recordings
    mel_BTM = colour_BM[:, None] + 0.5 * torch.randn(6, 256, 64)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=3e-3)
    values = []
    for step in range(60):
        loss = encoder.self_supervised_loss(mel_BTM, seeds(6, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    # log 6 is what chance gets, and all that recordings which are alike can give.
    assert values[-1] < 0.1 * math.log(6) < values[0]
    alike = encoder.self_supervised_loss(mel_BTM[:1].expand(6, -1, -1), torch.zeros(6).long())
    assert alike.item() == pytest.approx(math.log(6), abs=1e-3)


@pytest.mark.parametrize("frames", [1, 7, 256])
def test_crops_are_stretches_of_their_window_at_every_place(frames: int):
    mel_BTM = torch.arange(frames).float()[None, :, None].expand(400, -1, 2)
    mel_BTM = mel_BTM + 1_000 * torch.arange(400)[:, None, None]
    one_BLM, other_BLM = crops(mel_BTM, seeds(400))
    length = max(1, round(CROP * frames))
    assert one_BLM.shape == other_BLM.shape == (400, length, 2)
    for crop_BLM in (one_BLM, other_BLM):
        start_B = crop_BLM[:, 0, 0] % 1_000
        starts = [int(start) for start in start_B]
        expected = [w[s : s + length] for w, s in zip(mel_BTM, starts, strict=True)]
        assert torch.equal(crop_BLM, torch.stack(expected))
        assert start_B.min() <= frames // 50 and start_B.max() >= (frames - length) * 49 // 50
    assert frames == 1 or not torch.equal(one_BLM, other_BLM)


def test_batch_norms_follow_the_batches_when_trained_from_scratch():
    encoder = encoders.build("opera_ce", frozen_statistics=False).train()
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.training and norm.momentum == 0.01 for norm in norms)
    encoder.embed(windows(encoder))
    assert all(norm.num_batches_tracked == 1 for norm in norms)


def test_a_front_end_of_another_kind_or_shape_is_refused():
    for name in sorted(encoders.ENCODERS):
        with pytest.raises((TypeError, ValueError)):
            encoders.build(name, front_end=MelFrontEnd(n_mels=32), **FEWER_BLOCKS.get(name, {}))
        with pytest.raises(TypeError):
            encoders.build(name, no_such_setting=1)
    for name in ("opera_ce", "opera_ct"):
        with pytest.raises(ValueError, match="known: two_crop, distillation"):
            encoders.build(name, objective="guess")


def test_names_cost_nothing_until_they_are_built():
    names = "acula_model, acula_model.encoders, acula_model.front_end, acula_model.recipes"
    cost, modules = imported(f"import {names}")
    assert cost < 7
    assert not {"torch", "transformers", "librosa"} & modules
