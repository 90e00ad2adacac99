"""OPERA-GT gives the published numbers; the small one trains, resumes and stays in its clip."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from acula_model import encoders
from acula_model.encoders.opera_gt import OperaGT, OperaGTConfig, own_key
from acula_model.encoders.patches import sine_cosine
from acula_model.front_end import MelFrontEnd

GOLDEN = Path(__file__).parents[2] / "shared" / "golden" / "opera"
golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden files in {GOLDEN}")
RULES = runpy.run_path(str(GOLDEN / "rules.py")) if GOLDEN.is_dir() else {}
SMALL = [
    {},
    {"patch": (8, 16), "width": 64},
    {"patch": (8, 32), "stem": "conv", "stem_channels": 8},
    {"patch": (16, 16), "decoder_depth": 2},
]


def relative(got: torch.Tensor, want: np.ndarray) -> float:
    return float(np.linalg.norm(got.detach().numpy() - want) / np.linalg.norm(want))


def spectrogram(frames: int) -> torch.Tensor:
    return torch.from_numpy(RULES["spectrogram_input"](2, frames))


@pytest.fixture(scope="module")
def published() -> OperaGT:
    """The full size, filled by the golden files' rule through the published keys."""
    rows = json.loads((GOLDEN / "keys_operaGT.json").read_text())
    state = {
        row["key"]: torch.from_numpy(RULES["fill_value"](row["key"], row["shape"], row["dtype"]))
        for row in rows
    }
    encoder = encoders.build("opera_gt")
    encoder.load_state_dict(encoder.own_keys(state))
    assert isinstance(encoder, OperaGT)
    return encoder.eval()


def small(**config) -> OperaGT:
    torch.manual_seed(0)
    encoder = encoders.build("opera_gt_small", **config)
    assert isinstance(encoder, OperaGT)
    return encoder


def seeds(clips: int, seed: int = 0) -> torch.Tensor:
    return torch.arange(clips) + 1_000 * seed


@golden
@pytest.mark.parametrize("frames", [256, 251, 128, 16])
def test_feature(published: OperaGT, frames: int):
    want = np.load(GOLDEN / f"operaGT_feature_t{frames}.npy")
    with torch.no_grad():
        assert relative(published.embed(spectrogram(frames)), want) <= 2e-5


@golden
@pytest.mark.parametrize("frames", [256, 128])
def test_masked_loss_prediction_and_gradients(published: OperaGT, frames: int):
    want = json.loads((GOLDEN / "operaGT_mae.json").read_text())["mae"][f"t{frames}"]
    noise = torch.from_numpy(RULES["mask_noise"](2, 4 * frames))
    published.zero_grad()
    # Gradients at the shorter length only: at 256 frames they take half the time of this file.
    with torch.set_grad_enabled(frames == 128):
        found = published.masked(spectrogram(frames), seeds(2), noise)
    assert found.loss.item() == pytest.approx(want["loss"], rel=1e-6)
    assert found.hidden_BN.sum(1).tolist() == [want["masked"]] * 2
    prediction = np.load(GOLDEN / f"operaGT_mae_pred_t{frames}.npy")
    assert relative(found.predicted_BNP[:, ::4], prediction) <= 2e-5
    if frames == 128:
        found.loss.backward()
        parameters = dict(published.named_parameters())
        for key, norm in want["grad_norm"].items():
            gradient = parameters[own_key(key)].grad
            assert gradient is not None
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-4), key
    else:
        mask = np.load(GOLDEN / "operaGT_mae_mask_t256.npy")
        assert np.array_equal(found.hidden_BN.numpy(), mask == 1)
        latent = np.load(GOLDEN / "operaGT_mae_latent_t256.npy")
        assert relative(found.latent_BVD[0, :6], latent) <= 2e-5


@golden
def test_stages(published: OperaGT):
    want = np.load(GOLDEN / "operaGT_stages_t256.npz")
    found = {}
    hooks = [
        block.register_forward_hook(lambda _m, _i, out, i=i: found.update({i: out[0, :4]}))
        for i, block in enumerate(published.blocks)
    ]
    hooks.append(
        published.blocks[0].register_forward_pre_hook(
            lambda _m, inputs: found.update({"patches": inputs[0][0, 1:5]})
        )
    )
    with torch.no_grad():
        published.embed(spectrogram(256)[:1])
    for hook in hooks:
        hook.remove()
    assert relative(found["patches"], want["patch_plus_position"]) <= 2e-5
    for i in (0, 5, 11):
        assert relative(found[i], want[f"after_block_{i}"]) <= 2e-5


@golden
def test_position_tables_from_scratch_have_the_published_quirk():
    want = np.load(GOLDEN / "operaGT_position_tables.npz")
    for side, width in (("encoder", 384), ("decoder", 256)):
        table = sine_cosine(*OperaGTConfig().raster, width)[0, want["rows"]]
        # numpy's single-precision power differs by its last bit between processors (2**-24), and
        # the farthest of 64 positions makes 63 times that of it.
        assert np.abs(table.numpy() - want[side]).max() <= 4e-6


@golden
def test_parameter_counts_and_norm_epsilon(published: OperaGT):
    want = json.loads((GOLDEN / "operaGT_mae.json").read_text())["counts"]["operaGT"]
    state = published.state_dict()
    assert len(state) == want["entries"]
    assert sum(tensor.numel() for tensor in state.values()) == want["parameters"]
    assert sum(p.numel() for p in published.parameters()) == want["trainable"]
    norms = [m for m in published.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-6}


@golden
def test_windows_decoder_refuses_lengths_that_mix_clips(published: OperaGT):
    with pytest.raises(ValueError, match="multiple of 64 frames"):
        published.self_supervised_loss(spectrogram(96), seeds(2))


@golden
def test_published_dropout_comes_from_the_seed(published: OperaGT):
    mel_BTM, noise_BN = spectrogram(64)[:1], torch.linspace(0, 1, 256)[None]
    published.train()
    with torch.no_grad():
        first, again, other = (
            published.masked(mel_BTM, seeds(1, seed), noise_BN).loss for seed in (0, 0, 1)
        )
        published.eval()
        whole = published.masked(mel_BTM, seeds(1), noise_BN).loss
    assert first == again
    assert len({first.item(), other.item(), whole.item()}) == 3


@pytest.mark.parametrize("config", SMALL)
def test_masked_loss_repeats_with_its_seeds_alone(config: dict):
    encoder, mel_BTM = small(**config).train(), torch.rand(3, 256, 64)
    torch.manual_seed(1)
    first = encoder.self_supervised_loss(mel_BTM, seeds(3))
    before = torch.get_rng_state()
    again = encoder.self_supervised_loss(mel_BTM, seeds(3))
    assert torch.equal(before, torch.get_rng_state())
    assert first == again != encoder.self_supervised_loss(mel_BTM, seeds(3, 1))


@pytest.mark.parametrize("config", SMALL)
def test_masks_hide_the_right_share_and_differ_by_clip(config: dict):
    encoder, mel_BTM = small(**config).eval(), torch.rand(1, 256, 64).expand(64, -1, -1)
    with torch.no_grad():
        hidden_BN = encoder.masked(mel_BTM, seeds(64)).hidden_BN
    count = hidden_BN.shape[1]
    assert set(hidden_BN.sum(1).tolist()) == {count - int(count * (1 - encoder.sizes.mask_ratio))}
    assert len({tuple(row) for row in hidden_BN.tolist()}) == 64
    share_N = hidden_BN.float().mean(0)  # each place is hidden as often as any other
    assert (share_N - share_N.mean()).abs().max() < 5 * 0.5 / 64**0.5


@pytest.mark.parametrize("config", SMALL)
def test_gradient_reaches_every_parameter(config: dict):
    encoder, mel_BTM = small(**config).train(), torch.rand(3, 256, 64)
    encoder.self_supervised_loss(mel_BTM, seeds(3)).backward()
    without = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    encoder.zero_grad()
    (encoder.embed(mel_BTM) * torch.randn(encoder.width)).sum().backward()
    without = [
        n
        for n, p in encoder.named_parameters()
        if not n.startswith("decoder.") and (p.grad is None or not p.grad.any())
    ]
    assert without == []


@pytest.mark.parametrize("config", SMALL)
@pytest.mark.parametrize("frames", [256, 64])
def test_embedding_does_not_depend_on_the_batch(config: dict, frames: int):
    encoder, mel_BTM = small(**config).eval(), torch.rand(5, frames, 64)
    with torch.no_grad():
        together = encoder.embed(mel_BTM)
        alone = torch.cat([encoder.embed(clip[None]) for clip in mel_BTM])
    assert together.shape == (5, encoder.width)
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("config", SMALL)
def test_hidden_patches_do_not_reach_the_encoder(config: dict):
    # Standardising is part of the input: it sees the window's mean spectrum, masked or not.
    encoder = small(**config, standardise="none").eval()
    mel_BTM = torch.rand(1, 256, 64)
    time, bins = encoder.sizes.patch
    with torch.no_grad():
        before = encoder.masked(mel_BTM, seeds(1))
        hidden = before.hidden_BN.reshape(256 // time, 64 // bins)
        cells = hidden.repeat_interleave(time, 0).repeat_interleave(bins, 1)
        after = encoder.masked(torch.where(cells, torch.rand(256, 64), mel_BTM), seeds(1))
    assert torch.equal(before.latent_BVD, after.latent_BVD)
    assert before.loss != after.loss


def test_standardising_takes_out_the_colour_and_level_of_a_window():
    encoder = small().eval()
    mel_BTM = torch.rand(2, 256, 64)
    coloured = 0.3 * mel_BTM + torch.linspace(0, 0.7, 64)
    with torch.no_grad():
        assert torch.allclose(encoder.embed(mel_BTM), encoder.embed(coloured), atol=0.02)
        plain = small(standardise="none").eval()
        assert not torch.allclose(plain.embed(mel_BTM), plain.embed(coloured), atol=0.02)


def test_small_encoder_learns_to_fill_in():
    encoder = small(patch=(16, 32), width=32, depth=1, heads=2).train()
    time, bins = torch.arange(256)[:, None], torch.arange(64)
    mel_BTM = (0.5 + 0.5 * torch.sin(0.1 * time + 0.2 * bins)).expand(8, -1, -1)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=3e-3)
    values = []
    for step in range(40):
        loss = encoder.self_supervised_loss(mel_BTM, seeds(8, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert np.mean(values[-5:]) < 0.5 * np.mean(values[:5])


def test_config_rebuilds_the_encoder_through_json():
    encoder = small(patch=(8, 32), stem="conv")
    config = json.loads(json.dumps(encoder.config))
    again = encoders.build(encoder.name, front_end=encoder.front_end, **config)
    again.load_state_dict(encoder.state_dict())
    mel_BTM = torch.rand(2, 256, 64)
    assert torch.equal(encoder.eval().embed(mel_BTM), again.eval().embed(mel_BTM))


def test_names_and_sizes_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"known: .*opera_gt, opera_gt_small"):
        encoders.build("opera")
    with pytest.raises(ValueError, match="tile"):
        small(patch=(7, 64))
    with pytest.raises(ValueError, match="heads"):
        small(width=90)
    with pytest.raises(ValueError, match="front end"):
        small(front_end=MelFrontEnd(n_mels=32))
    with pytest.raises(ValueError, match="frames"):
        small().embed(torch.rand(1, 300, 64))
    with pytest.raises(ValueError, match=r"\[B, T, 64\]"):
        small().embed(torch.rand(1, 256, 32))
