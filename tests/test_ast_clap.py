"""AST and CLAP: front ends equal to the published ones, strict loading from their own format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
)

from acula_model import checkpoint, encoders
from acula_model.encoders.ast import AST, ASTFrontEnd
from acula_model.encoders.clap import Clap, ClapFrontEnd
from acula_model.front_end import FrontEnd
from acula_model.weights import CheckpointError

TINY_AST = {"width": 32, "depth": 2, "heads": 2, "hidden": 64, "stride": 16}
TINY_HTSAT = {"patch_width": 16, "depths": (2, 1), "heads": (2, 4)}
TEXT = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


def noise(samples: int) -> np.ndarray:
    wave = np.random.default_rng(0).standard_normal(samples)
    return (0.1 * wave * np.linspace(0, 1, samples)).astype(np.float32)


@pytest.mark.filterwarnings("ignore:At least one mel filter")  # true of the published AST
@pytest.mark.parametrize("samples", [500, 50_000, 164_080, 200_000])
def test_ast_front_end_equals_the_published_one(samples: int):
    want = ASTFeatureExtractor()(noise(samples), sampling_rate=16_000)["input_values"][0]
    got = ASTFrontEnd(profile="published").windows(noise(samples))
    assert got.shape == (1, 1_024, 128)
    assert np.abs(got[0].numpy() - want).max() <= 1e-5


@pytest.mark.parametrize("samples", [500, 100_000, 300_000, 480_000])
def test_clap_front_end_equals_the_published_one(samples: int):
    # The numbers of laion/clap-htsat-unfused; those of the class are of the fused variant.
    published = ClapFeatureExtractor(
        frequency_min=50, frequency_max=14_000, truncation="rand_trunc", padding="repeatpad"
    )
    want = published(noise(samples), sampling_rate=48_000)["input_features"][0][0]
    got = ClapFrontEnd(profile="published").windows(noise(samples))
    assert got.shape == (1, 1_001, 64)
    assert np.abs(got[0].numpy() - want).max() <= 1e-4  # dB


@pytest.mark.parametrize("front_end", [ASTFrontEnd(), ClapFrontEnd()], ids=["ast", "clap"])
@pytest.mark.parametrize("hertz", [100, 1_000, 4_000])
def test_a_picture_marks_a_tone_where_it_sounds(front_end: FrontEnd, hertz: int):
    """By the filters of the front end itself: AST's are Kaldi's, not Slaney's."""
    tone = 0.5 * np.sin(2 * np.pi * hertz * np.arange(32_000) / front_end.sample_rate)
    loudest = int(front_end.spectrum(tone)[0].mean(0).argmax())
    assert abs(front_end.heights([hertz])[0] * front_end.n_mels - (loudest + 0.5)) < 2


def test_raised_rate_keeps_the_sound():
    """16 kHz recordings reach CLAP with nothing above 8 kHz and the rest as it was."""
    encoder = encoders.build("clap", **TINY_HTSAT).eval()
    time = np.arange(48_000) / 48_000
    tone = 0.3 * np.sin(2 * np.pi * 440 * time)
    with torch.no_grad():
        low = encoder.embed_recordings([tone[::3]], 16_000)
        high = encoder.embed_recordings([tone], 48_000)
    assert (low - high).norm() < 0.02 * high.norm()


def ast_folder(folder: Path, **changes: int) -> ASTForAudioClassification:
    torch.manual_seed(1)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 64, "frequency_stride": 16, "time_stride": 16} | changes
    model = ASTForAudioClassification(ASTConfig(**sizes)).eval()
    torch.nn.init.normal_(model.audio_spectrogram_transformer.embeddings.position_embeddings)
    model.save_pretrained(folder)
    return model


def clap_folder(folder: Path, **changes: object) -> ClapModel:
    torch.manual_seed(1)
    audio = {"patch_embeds_hidden_size": 16, "depths": [2, 1], "num_attention_heads": [2, 4]}
    audio |= {"hidden_size": 32, "num_hidden_layers": 2} | changes
    config = ClapConfig(text_config=TEXT, audio_config=ClapAudioConfig(**audio).to_dict())
    model = ClapModel(config).eval()
    model.save_pretrained(folder)
    return model


def test_ast_reads_its_checkpoint(tmp_path: Path):
    published = ast_folder(tmp_path)
    encoder = encoders.build("ast", **TINY_AST).eval()
    checkpoint.restore(encoder, tmp_path)
    mel_BTM = encoder.front_end.windows(noise(200_000))
    with torch.no_grad():
        want = published.audio_spectrogram_transformer(mel_BTM).pooler_output
        assert torch.allclose(encoder.embed(mel_BTM), want, atol=1e-6)
    assert (encoder.weights.source, encoder.weights.licence) == (str(tmp_path), "BSD-3-Clause")
    assert str(encoder.weights.revision).startswith("sha256:")


def test_clap_reads_its_checkpoint(tmp_path: Path):
    published = clap_folder(tmp_path)
    encoder = encoders.build("clap", **TINY_HTSAT).eval()
    checkpoint.restore(encoder, tmp_path)
    mel_BTM = encoder.front_end.windows(noise(600_000))
    with torch.no_grad():
        want = published.audio_model(input_features=mel_BTM[:, None]).pooler_output
        assert torch.allclose(encoder.embed(mel_BTM), want, atol=1e-6)
    assert encoder.weights.licence == "Apache-2.0"
    checkpoint.save(tmp_path / "ours", encoder, {}, {})
    with torch.no_grad():
        again = checkpoint.load(tmp_path / "ours").encoder.embed(mel_BTM)
        assert torch.equal(again, encoder.embed(mel_BTM))


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path):
    encoder = encoders.build("ast", **TINY_AST)
    ast_folder(tmp_path / "heads", num_attention_heads=4)  # the same shapes
    with pytest.raises(CheckpointError, match="num_attention_heads 4 for 2"):
        checkpoint.restore(encoder, tmp_path / "heads")
    ast_folder(tmp_path / "depth", num_hidden_layers=3)
    with pytest.raises(CheckpointError, match=r"unexpected: layers\.2\."):
        checkpoint.restore(encoder, tmp_path / "depth")
    ast_folder(tmp_path / "cut")
    config = json.loads((tmp_path / "cut" / "config.json").read_text())
    (tmp_path / "cut" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(CheckpointError, match=r"missing: layers\.2\."):
        checkpoint.restore(encoder, tmp_path / "cut")
    clap_folder(tmp_path / "fused", enable_fusion=True, fusion_type="aff_2d")
    with pytest.raises(CheckpointError, match="enable_fusion True for False"):
        checkpoint.restore(encoders.build("clap", **TINY_HTSAT), tmp_path / "fused")


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ast_folder(tmp_path)
    (tmp_path / "modeling_novel.py").write_text("print('code ran')\n")
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_novel.Novel"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint.restore(encoders.build("ast", **TINY_AST), tmp_path)
    assert "code ran" not in capsys.readouterr().out


def test_real_sizes_and_what_files_do_not_hold():
    with torch.device("meta"):
        ast, clap = encoders.build("ast"), encoders.build("clap")
    assert isinstance(ast, AST)
    assert isinstance(clap, Clap)
    counts = [sum(p.numel() for p in e.parameters()) for e in (ast, clap)]
    assert counts == [86_187_264, 27_534_488]
    assert (ast.width, clap.width) == (768, 768)
    with pytest.raises(NotImplementedError, match="opera_ce"):
        encoders.build("opera_ce").load_pretrained("somewhere")


def test_numbers_of_the_real_clap_pass_through():
    torch.manual_seed(0)
    encoder = encoders.build("clap").eval()
    with torch.no_grad():
        found = encoder.embed_recordings([noise(700_000)], 48_000)
    assert found.shape == (1, 768)
    assert torch.isfinite(found).all()
