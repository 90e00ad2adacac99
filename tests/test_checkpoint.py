"""Checkpoints come back whole or not at all; published layouts all give the same encoder."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from acula_model import checkpoint, encoders
from acula_model.checkpoint import CheckpointError
from acula_model.encoders.base import AudioEncoder
from acula_model.front_end import MelFrontEnd

TINY = {"patch": (32, 32), "width": 16, "depth": 1, "heads": 2, "decoder_width": 16}
MEL = torch.rand(2, 256, 64, generator=torch.Generator().manual_seed(0))


def tiny(seed: int = 0) -> AudioEncoder:
    torch.manual_seed(seed)
    return encoders.build("opera_gt_small", **TINY).eval()


def published_keys(encoder: AudioEncoder) -> dict[str, Tensor]:
    """Own keys -> the keys that OPERA's files have."""
    names = (
        ("self_attn.in_proj_", "attn.qkv."), ("self_attn.out_proj.", "attn.proj."),
        ("linear1.", "mlp.fc1."), ("linear2.", "mlp.fc2."),
    )  # fmt: skip
    state = {}
    for key, tensor in encoder.state_dict().items():
        if key.startswith("blocks."):
            for ours, published in names:
                key = key.replace(ours, published)
        key = "mask_token" if key == "decoder.mask_token" else key.replace("decoder.", "decoder_")
        state[key] = tensor
    return state


def test_round_trip(tmp_path: Path):
    front_end = MelFrontEnd(profile="opera-eval")
    torch.manual_seed(0)
    encoder = encoders.build("opera_gt_small", front_end=front_end, **TINY).eval()
    heads = {"audio": nn.Linear(16, 3), "text": nn.Linear(5, 3)}
    checkpoint.save(tmp_path / "a" / "best", encoder, heads, {"epoch": 3})
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["best"]
    found = checkpoint.load(tmp_path / "a" / "best")
    assert torch.equal(found.encoder.embed(MEL), encoder.embed(MEL))
    assert found.encoder.front_end == front_end
    assert found.encoder.config == encoder.config
    assert found.meta == {"epoch": 3}
    for name, head in heads.items():
        again = nn.Linear(head.in_features, head.out_features)
        checkpoint.load_strictly(again, found.heads[name])
        assert torch.equal(again.weight, head.weight)


def test_saving_again_replaces(tmp_path: Path):
    for seed in (0, 1):
        checkpoint.save(tmp_path / "last", tiny(seed), {}, {"seed": seed})
    assert [p.name for p in tmp_path.iterdir()] == ["last"]
    found = checkpoint.load(tmp_path / "last")
    assert found.meta == {"seed": 1}
    assert torch.equal(found.encoder.embed(MEL), tiny(1).embed(MEL))


def test_a_failed_save_leaves_the_old_one(tmp_path: Path):
    checkpoint.save(tmp_path / "last", tiny(), {}, {"epoch": 1})
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "last", tiny(), {}, {"epoch": object()})
    assert checkpoint.load(tmp_path / "last").meta == {"epoch": 1}


def test_every_key_that_does_not_fit_is_named():
    encoder = tiny()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    state = {k: v + 1 for k, v in before.items() if k != "norm.bias"}
    state |= {"extra.weight": torch.zeros(1), "cls_token": torch.zeros(1, 1, 8)}
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_strictly(encoder, state)
    lines = str(caught.value).splitlines()[1:]
    assert [line.strip() for line in lines] == [
        "missing: norm.bias",
        "unexpected: extra.weight",
        "of another shape: cls_token [1, 1, 8] for [1, 1, 16]",
    ]
    assert all(torch.equal(encoder.state_dict()[k], v) for k, v in before.items())
    with pytest.raises(CheckpointError, match=r"missing: norm\.bias$"):
        checkpoint.load_strictly(encoder, state, accept={"extra.weight", "cls_token"})
    checkpoint.load_strictly(encoder, state, accept={"extra.weight", "cls_token", "norm.bias"})
    after = encoder.state_dict()
    assert torch.equal(after["norm.weight"], before["norm.weight"] + 1)
    assert torch.equal(after["cls_token"], before["cls_token"])


def test_all_layouts_give_the_same_features(tmp_path: Path):
    encoder = tiny()
    published = published_keys(encoder)
    assert published.keys() != encoder.state_dict().keys()
    lightning = {
        "epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.6", "state_dict": published,
        "loops": {}, "callbacks": {"a": {"best": torch.tensor(1.0)}}, "optimizer_states": [{}],
    }  # fmt: skip
    acula = {
        "epoch": 3, "audio_model_state_dict": published, "scheduler_state_dict": {"step": 1},
        "audio_projection_mlp_state_dict": {"0.weight": torch.zeros(2)},
    }  # fmt: skip
    torch.save(published, tmp_path / "bare.pt")
    torch.save(lightning, tmp_path / "lightning.ckpt")
    torch.save(acula, tmp_path / "acula.pt")
    save_file({k: v.contiguous() for k, v in published.items()}, tmp_path / "p.safetensors")
    save_file(encoder.state_dict(), tmp_path / "own.safetensors")
    checkpoint.save(tmp_path / "folder", encoder, {}, {})
    names = ("bare.pt", "lightning.ckpt", "acula.pt", "p.safetensors", "own.safetensors", "folder")
    for name in names:
        other = tiny(1)
        assert not torch.equal(other.embed(MEL), encoder.embed(MEL))
        checkpoint.restore(other, tmp_path / name)
        assert torch.equal(other.embed(MEL), encoder.embed(MEL)), name


def test_a_file_without_its_decoder_is_refused_unless_accepted(tmp_path: Path):
    encoder = tiny()
    state = {k: v for k, v in encoder.state_dict().items() if not k.startswith("decoder.")}
    torch.save(state, tmp_path / "encoder.pt")
    with pytest.raises(CheckpointError, match="missing: decoder"):
        checkpoint.restore(tiny(1), tmp_path / "encoder.pt")
    other = tiny(1)
    decoder = [k for k in other.state_dict() if k.startswith("decoder.")]
    checkpoint.restore(other, tmp_path / "encoder.pt", accept=decoder)
    assert torch.equal(other.embed(MEL), encoder.embed(MEL))


class Payload:
    """Unpickling this would run code."""

    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize(
    "content",
    [Payload(), [1, 2], {}, {"state_dict": {}}, {"model": {"a": torch.zeros(1)}},
     {"state_dict": {"a": 1}}],
)  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, content: object, capsys: pytest.CaptureFixture):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError):
        checkpoint.load_state(tmp_path / "other.pt")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors"])
def test_broken_files_are_refused(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load_state(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        checkpoint.load_state(tmp_path / f"no_{name}")


def test_damage_and_other_formats_are_refused(tmp_path: Path):
    folder = tmp_path / "a"
    checkpoint.save(folder, tiny(), {}, {})
    other = tmp_path / "b"
    checkpoint.save(other, tiny(1), {}, {})
    config = json.loads((folder / "config.json").read_text())
    (folder / "weights.safetensors").write_bytes((other / "weights.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="is not the file"):
        checkpoint.load(folder)
    (folder / "config.json").write_text(json.dumps(config | {"format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoint.load(folder)
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="dots"):
        checkpoint.save(other, tiny(), {"a.b": nn.Linear(1, 1)}, {})
