"""Heads beyond the linear one earn their keep on what the linear one cannot hear."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from evaluation_world import BINARY, LEFT_OUT, SEVERITY, world

from acula_model import encoders, features
from acula_model.evaluation import finetune, heads
from acula_model.evaluation.run import run
from acula_model.front_end import FrontEnd
from acula_model.spectra import Raw


def value(features: Any, rows: Any, head: str) -> float:
    (score,), _ = run(features, rows, {BINARY.id: BINARY}, ("default",), (head,))
    assert score.value is not None and score.head == head
    return score.value


def test_a_hidden_layer_finds_what_no_line_separates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exclusive or of two features."""
    monkeypatch.setattr(heads, "SEEDS", (0,))
    monkeypatch.setattr(heads, "SHUFFLES", 0)
    rng = np.random.default_rng(0)
    features, rows = world(persons=600, each=1, signal=0, scales=0.5)
    for row in rows:
        first, second = rng.choice([-1, 1], 2)
        row["label"] = float(first != second)
        features[row["recording_id"]] = np.array([first, second, 0]) + 0.3 * rng.normal(size=3)
    assert value(features, rows, "mlp") > 0.95
    assert value(features, rows, "linear") < 0.65


def test_attention_finds_the_one_window_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ragged windows; one of them has the finding, and a mark; the rest is loud noise."""
    monkeypatch.setattr(heads, "SEEDS", (0,))
    monkeypatch.setattr(heads, "SHUFFLES", 0)
    rng = np.random.default_rng(0)
    _, rows = world(persons=600, each=1)
    features = {}
    for row in rows:
        windows = rng.standard_normal((rng.integers(3, 12), 6))
        windows[:, 0] = -1
        here = rng.integers(len(windows))
        windows[here, 0], windows[here, 1] = 4, 3 * (2 * row["label"] - 1)
        windows[np.arange(len(windows)) != here, 1] += rng.choice([-6, 6])
        features[row["recording_id"]] = windows
    attentive, linear = (value(features, rows, h) for h in ("attentive", "linear"))
    assert attentive > 0.9 and attentive > linear + 0.15


def test_padding_says_nothing() -> None:
    """A recording's output does not depend on how long the others of its batch are."""
    rng = np.random.default_rng(0)
    bags = [torch.from_numpy(rng.standard_normal((w, 5))).float() for w in (2, 9, 4)]
    for make in heads.HEADS.values():
        torch.manual_seed(0)
        model = make(5, 2).eval()
        together = model(*heads.padded(bags, np.arange(3)))
        for i in range(3):
            alone = model(*heads.padded(bags, np.array([i])))
            torch.testing.assert_close(together[i], alone[0])


@pytest.mark.parametrize("head", ["mlp", "attentive"])
@pytest.mark.parametrize("task", [SEVERITY, LEFT_OUT])
def test_heads_serve_every_kind_of_task(
    head: str, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "EPOCHS", 40)
    monkeypatch.setattr(heads, "SEEDS", (0, 1))
    monkeypatch.setattr(heads, "SHUFFLES", 3)
    features, rows = world(task, persons=8 if task is LEFT_OUT else 90, signal=3.0, scales=0.5)
    (score,), predictions = run(features, rows, {task.id: task}, ("default",), (head,))
    assert score.value is not None and score.sd_over_seeds is not None
    assert score.shuffled is not None and len(predictions) == score.units[rows[-1]["fold"]]
    if task is SEVERITY:
        assert score.value > 0.8 and score.shuffled < 0.7


class Spectra:
    """A source of made-up spectra: one label has a louder band."""

    def __init__(self, front_end: FrontEnd, rows: list[dict[str, Any]]):
        self.front_end, self.meta = front_end, {}
        self.spectra: dict[str, npt.NDArray[np.float32]] = {}
        self.cropped: set[str] = set()
        for n, row in enumerate(rows):
            rng = np.random.default_rng(n)
            spectrum = rng.normal(-60, 4, (2, front_end.frames, front_end.n_mels))
            spectrum[:, ::16, 10:14] += 25 * row["label"]
            self.spectra[f"{n:016x}"] = spectrum.astype(np.float32)

    def raw(self, windows: npt.NDArray[np.float32]) -> Raw:
        return Raw.of(torch.from_numpy(windows), 120.0)

    def crops(self, ids: Any, seed_B: npt.NDArray[np.int64]) -> Raw:
        self.cropped |= set(ids)
        assert len(set(seed_B.tolist())) == len(ids)
        return self.raw(
            np.stack([self.spectra[i][int(s) % 2] for i, s in zip(ids, seed_B, strict=True)])
        )

    def grid(self, ids: Any) -> tuple[Raw, npt.NDArray[np.int64]]:
        owner = np.repeat(np.arange(len(ids)), 2)
        return self.raw(np.concatenate([self.spectra[i] for i in ids])), owner


def test_fine_tuning_learns_a_task_and_leaves_the_encoder_alone(monkeypatch) -> None:
    torch.manual_seed(0)
    encoder = encoders.build("opera_gt_small", width=32, depth=1).eval()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    _, rows = world(persons=100, each=1)
    source = Spectra(encoder.front_end, rows)
    pairs = {r["recording_id"]: f"{n:016x}" for n, r in enumerate(rows)}
    settings = finetune.Settings(epochs=1, encoder_rate=1e-3, batch_size=10, seeds=(0, 1))
    score, predictions = finetune.run(encoder, source, pairs, rows, BINARY, settings)
    assert (score.head, len(predictions)) == ("finetune", 40) and score.sd_over_seeds is not None
    assert source.cropped == {pairs[r["recording_id"]] for r in rows if r["fold"] == "train"}
    assert finetune.run(encoder, source, pairs, rows, BINARY, settings)[0] == score
    # It starts as a linear probe, which finds what is planted here; from nothing it gets there too.
    (first, _), (other, _) = score.details["validation_curves"]
    assert first == other > 0.95
    blank = torch.nn.Linear(32, 2)
    torch.nn.init.zeros_(blank.weight)
    monkeypatch.setattr(finetune, "_probe", lambda *_: blank)
    settings = replace(settings, epochs=4, seeds=(0,))
    score, _ = finetune.run(encoder, source, pairs, rows, BINARY, settings)
    (curve,) = score.details["validation_curves"]
    assert score.value is not None and score.value > 0.9 and max(curve) > curve[0] == 0.5
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name])
    each = [r | {"fold": "each"} for r in rows]
    task = replace(LEFT_OUT, id=BINARY.id)
    refused, _ = finetune.run(encoder, source, pairs, each, task, settings)
    assert refused.reason == "fine-tuning for every person who is left out is not offered"


def test_windows_are_what_the_embedding_is_the_mean_of() -> None:
    torch.manual_seed(0)
    encoder = encoders.build("opera_gt_small", width=32, depth=1).eval()
    source = Spectra(encoder.front_end, world(persons=6, each=1)[1])
    ids = sorted(source.spectra)
    windows = features.windows(encoder, source, ids, batch=4)
    for key, vector in features.embed(encoder, source, ids, batch=4).items():
        assert windows[key].shape == (2, 32) and not np.array_equal(*windows[key])
        assert np.array_equal(windows[key].sum(0) / np.float32(2), vector)


def test_balanced_losses_weigh_classes_equally() -> None:
    labels = torch.tensor([0.0] * 9 + [1.0])
    loss, speak = heads.objective(labels, 2, "binary")
    logits = torch.zeros(10, 2, requires_grad=True)
    loss(logits, labels).backward()
    assert logits.grad is not None
    assert float(logits.grad[9, 1]) == pytest.approx(9 * float(logits.grad[0, 0]))
    assert speak(torch.zeros(1, 2))[0] == pytest.approx([0.9, 0.1])
