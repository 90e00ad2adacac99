"""What a checkpoint says about itself, and the release's names of its weights."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from acula_model import checkpoint, encoders, heads, model_card, release
from acula_model.encoders.base import Weights
from acula_model.evaluation.score import Score
from acula_model.recipes import SAMPLE
from pipeline.manifest import load_all
from pipeline.steps import card, score_files

TINY = {"patch": (32, 32), "width": 16, "depth": 1, "heads": 2, "decoder_width": 16}
FREE = model_card.Corpus(
    title="Free", version="1", homepage="https://example.org", licence="CC BY 4.0",
    licence_url="https://example.org/by", licence_source="its page", commercial_use=True,
    agreement=None, attribution="Free | people", citation=["Free, 2020"], pairs=12,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    encoder = encoders.build("opera_gt_small", **TINY)
    encoder.weights = Weights(source="a/b", revision="c0ffee", licence="MIT, and more")
    meta = {
        "recipe": asdict(SAMPLE),
        "best_epoch": 3,
        "teacher": {"model": "google/medgemma-4b-pt"},
    }
    checkpoint.save(tmp_path / "model", encoder, {}, meta)
    return tmp_path / "model"


def test_a_card_is_always_there_and_says_what_is_not_known(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: acula\n")
    assert json.loads((folder / "config.json").read_text())["sha256"] in text
    assert "`a/b` at `c0ffee`. Licence: MIT, and more." in text
    assert "made up" not in text
    assert "treat the obligations as unknown" in text and "Not scored" in text
    assert '| alignment_loss | `"cka_debiased"` |' in text and "medgemma-4b-pt" in text
    assert "not a medical device" in text


def test_licences_become_obligations() -> None:
    def said(**changes: Any) -> str:
        return " ".join(model_card.obligations([FREE, replace(FREE, title="Other", **changes)]))

    assert "All sources allow commercial use" in said()
    assert "No commercial use: Other forbids it" in said(commercial_use=False)
    unknown = said(commercial_use=None)
    assert "not cleared: Other" in unknown and "allow commercial use" not in unknown
    assert "Share alike: Other" in said(licence="CC BY-NC-SA 4.0", commercial_use=False)
    assert "Agreement: Other: the form" in said(agreement="the form")
    assert all(text.startswith("Name every source") for text in (said(), unknown))


def test_the_pipeline_hands_over_every_manifest_and_every_score(
    folder: Path, tmp_path: Path
) -> None:
    manifests = load_all()
    rows = [{"dataset": d, "align": a} for d in manifests for a in (True, True, False)]

    def score(task: str, variant: str, value: float | None, reason: str | None = None) -> Score:
        return Score(
            task=task, variant=variant, protocol="default", head="linear", features="encoder",
            metric="auroc", value=value, low=value and 0.7, high=value and 0.9, reason=reason,
        )  # fmt: skip

    for name, auroc in (("scores", 0.8125), ("baseline/encoder", 0.75), ("baseline/shortcut", 0.6)):
        found = [
            score("icbhi/copd", "subject_clean", auroc),
            score("icbhi/copd", "as_published", 0.99),
            score("circor/murmur", "subject_clean", None, "too few persons"),
        ]
        score_files.write(tmp_path / name, found, [])
    card.write(folder, rows, manifests, tmp_path / "scores", tmp_path / "baseline", True)
    text = (folder / "README.md").read_text()
    for manifest in manifests.values():
        assert f"[{manifest.title}]({manifest.homepage}) {manifest.version} | 2 |" in text
        assert manifest.licence.name in text and " ".join(manifest.attribution.split()) in text
    assert "| icbhi/copd | AUROC 0.812 [0.700, 0.900] | 0.750 | 0.600 |" in text
    assert "| circor/murmur | too few persons | - | - |" in text and "0.99" not in text
    assert "**The recordings were made up**" in text
    for line in (line for line in text.splitlines() if line.startswith("|")):
        assert line.replace("\\|", "").count("|") in (3, 5, 6), line


def test_an_export_has_the_published_names(shared: Path, tmp_path: Path) -> None:
    """The file of a full OPERA-GT has exactly the entries that the release's classes have."""
    rows = json.loads((shared / "golden" / "opera" / "keys_operaGT.json").read_text())
    encoder = encoders.build("opera_gt")
    two = {"audio_head": heads.mlp(384, 4, 2), "text_head": torch.nn.Linear(5, 2, bias=False)}
    release.export(tmp_path / "a" / "acula.pt", encoder, two, epoch=7)
    content = torch.load(tmp_path / "a" / "acula.pt", weights_only=True)
    found = {key: list(tensor.shape) for key, tensor in content["audio_model_state_dict"].items()}
    assert found == {row["key"]: row["shape"] for row in rows if row["fill"] == "rule"}
    assert content["epoch"] == 7 and content["head_activation"] == "gelu"
    assert list(content["language_projection_mlp_state_dict"]) == ["weight"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["acula.pt"]
    other = encoders.build("opera_gt")
    origin = checkpoint.restore(other, tmp_path / "a" / "acula.pt")
    assert origin.sha256 and other.weights.revision == f"sha256:{origin.sha256}"
    assert torch.equal(other.state_dict()["norm.weight"], encoder.state_dict()["norm.weight"])


def test_the_release_has_no_layout_for_other_encoders(tmp_path: Path) -> None:
    encoder = encoders.build("opera_ct", patch_width=8, depths=(1, 1), heads=(1, 1))
    with pytest.raises(ValueError, match="no layout for opera_ct; it runs OPERA-GT only"):
        release.export(tmp_path / "acula.pt", encoder, {})
