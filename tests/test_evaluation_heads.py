"""Heads beyond the linear one earn their keep on what the linear one cannot hear."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from evaluation_world import BINARY, LEFT_OUT, SEVERITY, VOLUME, world

from acula_model import encoders, features
from acula_model.evaluation import finetune, heads
from acula_model.evaluation.protocols import default
from acula_model.evaluation.run import run
from acula_model.evaluation.score import Prediction, Score
from acula_model.evaluation.task import Task
from acula_model.front_end import FrontEnd, MelFrontEnd
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
    """A source of made-up spectra: one or two windows, and a band that is louder with the label."""

    def __init__(self, front_end: FrontEnd, rows: list[dict[str, Any]]):
        self.front_end, self.meta = front_end, {}
        self.spectra: dict[str, npt.NDArray[np.float32]] = {}
        self.cropped: list[tuple[str, int]] = []
        for n, row in enumerate(rows):
            rng = np.random.default_rng(n)
            spectrum = rng.normal(-60, 4, (1 + n % 2, front_end.frames, front_end.n_mels))
            spectrum[:, ::16, 10:14] += 25 * row["label"]
            spectrum[:, 0, 0], spectrum[:, 0, 1] = 20, -100  # or all bands would tell
            self.spectra[f"{n:016x}"] = spectrum.astype(np.float32)

    def raw(self, windows: npt.NDArray[np.float32]) -> Raw:
        return Raw.of(torch.from_numpy(windows), 120.0)

    def crops(self, ids: Any, seed_B: npt.NDArray[np.int64]) -> Raw:
        chosen = list(zip(ids, map(int, seed_B), strict=True))
        self.cropped += chosen
        return self.raw(np.stack([self.spectra[i][s % len(self.spectra[i])] for i, s in chosen]))

    def grid(self, ids: Any) -> tuple[Raw, npt.NDArray[np.int64]]:
        found = [self.spectra[i] for i in ids]
        return self.raw(np.concatenate(found)), np.repeat(np.arange(len(ids)), [*map(len, found)])


class Ear(torch.nn.Module):
    """The smallest encoder there is; at first it may be deaf to the band that matters."""

    def __init__(self, deaf: bool = False):
        super().__init__()
        torch.manual_seed(0)
        self.front_end = MelFrontEnd()
        self.width = 8
        self.hear = torch.nn.Linear(64, self.width)
        if deaf:
            torch.nn.init.zeros_(self.hear.weight[:, 10:14])

    def embed(self, mel_BTM: torch.Tensor) -> torch.Tensor:
        assert self.training == torch.is_grad_enabled()  # dropout where it learns and nowhere else
        return torch.tanh(self.hear(mel_BTM.mean(1)))


def tuned(
    rows: list[dict[str, Any]], task: Task = BINARY, deaf: bool = False, **settings: Any
) -> tuple[Score, list[Prediction], Spectra, dict[str, str]]:
    """Fine-tune an ear that stays as it is; also what was heard, and recording -> pair id."""
    ear: Any = Ear(deaf)
    before = {k: v.clone() for k, v in ear.state_dict().items()}
    source = Spectra(ear.front_end, rows)
    pairs = {r["recording_id"]: f"{n:016x}" for n, r in enumerate(rows)}
    asked = finetune.Settings(**{"batch_size": 10, "seeds": (0,)} | settings)
    score, predictions = finetune.run(ear, source, pairs, rows, task, asked)
    assert all(torch.equal(v, before[k]) for k, v in ear.state_dict().items())
    return score, predictions, source, pairs


def test_fine_tuning_teaches_an_encoder_what_it_does_not_hear() -> None:
    rows = world(persons=100, each=1)[1]
    asked = {"deaf": True, "epochs": 3, "encoder_rate": 0.02, "seeds": (0, 1)}
    score, predictions, source, pairs = tuned(rows, **asked)
    assert (score.head, len(predictions)) == ("finetune", 40)
    for first, *later in score.details["validation_curves"]:
        assert first < 0.8 and max(later) > 0.95
    assert score.value is not None and score.value > 0.95 and score.sd_over_seeds is not None
    # Persons of train and nobody else, in an order and in windows of their own at every turn.
    learned = {pairs[r["recording_id"]] for r in rows if r["fold"] == "train"}
    turns = [source.cropped[i : i + 40] for i in range(0, 240, 40)]
    assert [{i for i, _ in turn} for turn in turns] == [learned] * 6
    assert len({tuple(i for i, _ in turn) for turn in turns}) == 6
    assert len({seed for _, seed in source.cropped}) == len(source.cropped) == 240
    assert tuned(rows, **asked)[0] == score


@pytest.mark.parametrize("task", [BINARY, SEVERITY, VOLUME])
def test_fine_tuning_starts_as_the_linear_probe(task: Task, monkeypatch) -> None:
    monkeypatch.setattr(default, "STRENGTHS", default.UNCHOSEN[:1])
    monkeypatch.setattr(default, "ALPHAS", default.UNCHOSEN[1:])
    rows = world(task, persons=100, each=1)[1]
    if task is not VOLUME:  # classes of other shares than in train
        rows = [r for n, r in enumerate(rows) if r["fold"] == "train" or r["label"] or n % 3]
    _, said, source, pairs = tuned(rows, task, epochs=0)
    own = {v: k for k, v in pairs.items()}
    ear: Any = Ear().eval()
    frozen = {own[i]: v for i, v in features.embed(ear, source, sorted(own)).items()}
    _, probed = run(frozen, rows, {task.id: task}, ("default",))
    for one, other in zip(said, probed, strict=True):
        assert one.unit == other.unit and one.score == pytest.approx(other.score, abs=1e-4)


@pytest.mark.parametrize("task", [BINARY, VOLUME])
def test_the_state_that_validation_likes_best_is_tested(task: Task, monkeypatch) -> None:
    task = replace(task, aggregate="case")
    rows = world(task, persons=50)[1]
    for row in rows:
        row["label"] = round(row["label"], 2)
    visits = {r["case_id"]: r["label"] for r in rows if r["fold"] == "val"}

    def chosen(*quality: float, **rates: Any) -> list[float]:
        """What is said of test where validation finds this before and after each epoch."""
        found = iter(quality)

        def headline(said_UC: Any, labels_U: Any, kind: str) -> float:
            assert len(said_UC) == len(labels_U) and labels_U.tolist() == [*visits.values()]
            return next(found)

        with monkeypatch.context() as patch:
            patch.setattr(finetune.metrics, "headline", headline)
            return [p.score for p in tuned(rows, task, epochs=len(quality) - 1, **rates)[1]]

    worse, good, best = (3.0, 2.0, 1.0) if task.kind == "regression" else (1.0, 2.0, 3.0)
    first, second, third = chosen(best), chosen(worse, best), chosen(worse, good, best)
    assert first != second and second != third
    assert chosen(worse, best, good) == second and chosen(best, good, worse) == first
    unknown = (math.nan, math.nan)
    assert chosen(*unknown) == second  # nothing to choose by: the last
    halves = [chosen(*unknown, encoder_rate=0.0), chosen(*unknown, head_rate=0.0)]
    assert all(half not in (first, second) for half in halves) and halves[0] != halves[1]


def test_fine_tuning_refuses_what_it_cannot_do() -> None:
    rows = world(persons=30, each=1)[1]
    left_out = replace(LEFT_OUT, id=BINARY.id)
    score, said, *_ = tuned([r | {"fold": "each"} for r in rows], left_out)
    assert score.reason == "fine-tuning for every person who is left out is not offered"
    assert not said and score.value is None
    few = [r for r in rows if r["fold"] != "train" or not r["label"]]
    assert tuned(few)[0].reason == "fewer than 2 persons of a class in train: healthy 6, COPD 0"


def test_windows_are_what_the_embedding_is_the_mean_of() -> None:
    torch.manual_seed(0)
    encoder = encoders.build("opera_gt_small", width=32, depth=1).eval()
    source = Spectra(encoder.front_end, world(persons=6, each=1)[1])
    ids = sorted(source.spectra)
    windows = features.windows(encoder, source, ids, batch=4)
    for key, vector in features.embed(encoder, source, ids, batch=4).items():
        count = len(source.spectra[key])
        assert windows[key].shape == (count, 32)
        assert count == 1 or not np.array_equal(*windows[key])
        assert np.array_equal(windows[key].sum(0) / np.float32(count), vector)


def test_balanced_losses_weigh_classes_equally() -> None:
    labels = torch.tensor([0.0] * 9 + [1.0])
    loss, speak = heads.objective(labels, 2, "binary")
    logits = torch.zeros(10, 2, requires_grad=True)
    loss(logits, labels).backward()
    assert logits.grad is not None
    assert float(logits.grad[9, 1]) == pytest.approx(9 * float(logits.grad[0, 0]))
    assert speak(torch.zeros(1, 2))[0] == pytest.approx([0.9, 0.1])
