"""OPERA-CT and OPERA-CE give the published features from a file with the published keys."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from acula_model import checkpoint, encoders
from acula_model.encoders.base import AudioEncoder
from acula_model.encoders.htsat import crop_starts
from acula_model.encoders.two_crop import TwoCropEncoder
from acula_model.front_end import MelFrontEnd
from acula_model.weights import CheckpointError

State = dict[str, torch.Tensor]


def as_built(key: str, shape: list[int], dtype: str) -> torch.Tensor:
    """What the golden rule leaves to the constructor: of these, only the index table is read."""
    if not key.endswith("relative_position_index"):
        return torch.zeros(shape, dtype=getattr(torch, dtype))
    side = int(shape[0] ** 0.5)  # Swin, Liu et al., 2021: offsets of two cells, row-major
    cells = np.array([(y, x) for y in range(side) for x in range(side)])
    offset = cells[:, None] - cells + side - 1
    return torch.from_numpy(offset[..., 0] * (2 * side - 1) + offset[..., 1])


@pytest.fixture(scope="module", params=["CT", "CE"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def rules(shared: Path) -> dict:
    return runpy.run_path(str(shared / "golden" / "opera" / "rules.py"))


@pytest.fixture(scope="module")
def published(kind: str, shared: Path, rules: dict) -> State:
    """A state dict with the published keys and shapes, filled by the golden files' rule."""
    rows = json.loads((shared / "golden" / "opera" / f"keys_opera{kind}.json").read_text())
    found: State = {}
    for row in rows:
        value = rules["fill_value"](row["key"], row["shape"], row["dtype"])
        told = (row["key"], row["shape"], row["dtype"])
        found[row["key"]] = as_built(*told) if value is None else torch.from_numpy(value)
    return found


@pytest.fixture(scope="module")
def encoder(kind: str, published: State, tmp_path_factory: pytest.TempPathFactory) -> AudioEncoder:
    """Read back from a Lightning file, as OPERA publishes them."""
    path = tmp_path_factory.mktemp("published") / f"encoder-opera{kind}.ckpt"
    layout = {"epoch": 1, "pytorch-lightning_version": "2.6", "state_dict": published}
    torch.save(layout, path)
    found = encoders.build(f"opera_{kind.lower()}")
    checkpoint.restore(found, path)
    assert str(found.weights.source).endswith(path.name)
    assert found.weights.revision is not None
    assert found.published is not None
    assert found.weights.licence == found.published.licence
    return found.eval()


def test_features_at_every_length(kind: str, encoder: AudioEncoder, rules: dict, shared: Path):
    found = sorted((shared / "golden" / "opera").glob(f"opera{kind}_feature_t*.npy"))
    assert len(found) == {"CT": 5, "CE": 3}[kind]
    for path in found:
        want, frames = np.load(path), int(path.stem.rsplit("_t", 1)[1])
        mel_BTM = torch.from_numpy(rules["spectrogram_input"](len(want), frames))
        with torch.no_grad():
            got = encoder.embed(mel_BTM).numpy()
        assert np.linalg.norm(got - want) <= 2e-5 * np.linalg.norm(want), path.name


def test_projection(kind: str, encoder: AudioEncoder, published: State, rules: dict, shared: Path):
    want = np.load(shared / "golden" / "opera" / f"opera{kind}_projection512_t256.npy")
    with torch.no_grad():
        feature = encoder.embed(torch.from_numpy(rules["spectrogram_input"](len(want), 256)))
        got = torch.nn.functional.linear(feature, published["g.weight"], published["g.bias"])
    assert np.linalg.norm(got.numpy() - want) <= 2e-5 * np.linalg.norm(want)


def test_contrast_has_the_published_head(
    kind: str, encoder: AudioEncoder, published: State, shared: Path, rules: dict, tmp_path: Path
):
    """Its projection is the golden one; a file without a head leaves the one that is there."""
    assert isinstance(encoder, TwoCropEncoder) and encoder.contrast is not None
    want = np.load(shared / "golden" / "opera" / f"opera{kind}_projection512_t256.npy")
    with torch.no_grad():
        feature = encoder.embed(torch.from_numpy(rules["spectrogram_input"](len(want), 256)))
        got = encoder.contrast.g(feature).numpy()
        assert np.linalg.norm(got - want) <= 2e-5 * np.linalg.norm(want)
        # Saeed et al., 2021: g(x) W g(x'), by hand in double precision.
        x_BD, w = torch.randn(2, 3, encoder.width), {k: v.double() for k, v in published.items()}
        one, other = x_BD.double() @ w["g.weight"].T + w["g.bias"]
        norm = (w["layer_norm.weight"], w["layer_norm.bias"])
        one, other = (torch.tanh(torch.layer_norm(x, [512], *norm)) for x in (one, other))
        likely = (one @ w["linear.weight"].T @ other.T).log_softmax(1).diagonal()
        assert encoder.contrast(*x_BD).item() == pytest.approx(-likely.mean().item(), rel=1e-4)
    headless = {k: v for k, v in published.items() if k.startswith("encoder.")}
    torch.save(headless, tmp_path / "headless.pt")
    fresh = encoders.build(encoder.name)
    assert isinstance(fresh, TwoCropEncoder) and fresh.contrast is not None
    before = {k: v.clone() for k, v in fresh.contrast.state_dict().items()}
    checkpoint.restore(fresh, tmp_path / "headless.pt")
    assert all(torch.equal(v, before[k]) for k, v in fresh.contrast.state_dict().items())
    torch.save({k: v for k, v in published.items() if k != "g.bias"}, tmp_path / "part.pt")
    with pytest.raises(CheckpointError, match=r"missing: contrast\.g\.bias"):
        checkpoint.restore(fresh, tmp_path / "part.pt")


def test_either_objective_starts_from_a_checkpoint_of_the_other(tmp_path: Path):
    mel_BTM = torch.rand(1, 64, 64)
    for one, other in (("two_crop", "distillation"), ("distillation", "two_crop")):
        start = encoders.build("opera_ce", objective=one).eval()
        checkpoint.save(tmp_path / one, start, {}, {})
        found = encoders.build("opera_ce", objective=other).eval()
        checkpoint.restore(found, tmp_path / one)
        with torch.no_grad():
            assert torch.equal(found.embed(mel_BTM), start.embed(mel_BTM))
        assert checkpoint.load(tmp_path / one).encoder.config["objective"] == one


def test_every_key_that_does_not_fit_is_named(
    kind: str, encoder: AudioEncoder, published: State, tmp_path: Path
):
    tower = {"CT": "encoder.encoder.htsat.", "CE": "encoder.efficientnet."}[kind]
    first, last = {
        "CT": ("bn0.weight", "layers.3.blocks.1.attn.qkv.weight"),
        "CE": ("_conv_stem.weight", "_blocks.15._bn2.running_var"),
    }[kind]
    wrong = {k: v for k, v in published.items() if k != tower + last}
    wrong |= {tower + first: torch.zeros(3), tower + "novel.weight": torch.zeros(1)}
    torch.save(wrong, tmp_path / "wrong.pt")
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        checkpoint.restore(encoder, tmp_path / "wrong.pt")
    said = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]]
    assert said == ["missing", "unexpected", "of another shape"]
    assert "novel.weight" in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_another_encoders_file_is_refused(kind: str, published: State, tmp_path: Path):
    torch.save({"state_dict": published}, tmp_path / "other.ckpt")
    other = encoders.build({"CT": "opera_ce", "CE": "opera_ct"}[kind])
    with pytest.raises(CheckpointError, match=r"missing: .*\n.*unexpected: "):
        checkpoint.restore(other, tmp_path / "other.ckpt")


@pytest.mark.parametrize(
    ("frames", "starts"),
    [(1, [0]), (1_024, [0]), (1_025, [0]), (1_300, [0]), (1_537, [0]), (1_538, [0, 512])],
)
def test_long_inputs_are_cropped_as_published(frames: int, starts: list[int]):
    assert crop_starts(frames) == starts


def test_published_evaluation_hears_whole_recordings():
    """Any length in one window, a short one filled up to 8 s; ours are windows of 8.16 s."""
    encoder = encoders.build("opera_ce", front_end=MelFrontEnd(profile="opera-whole", frames=251))
    wave = 0.1 * np.random.default_rng(0).standard_normal(20 * 16_000)
    lengths = [encoder.front_end.windows(wave[: s * 16_000]).shape for s in (2, 8, 20)]
    assert lengths == [(1, 251, 64), (1, 251, 64), (1, 626, 64)]
    with torch.no_grad():
        assert encoder.eval().embed_recordings([wave], 16_000).shape == (1, 1_280)
    assert "silence trimmed" in encoder.description["windows"]
