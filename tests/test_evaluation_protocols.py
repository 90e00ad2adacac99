"""Protocols against plain code, and that nobody is tested by a head that met them."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_world import BINARY, LEFT_OUT, SEVERITY, VOLUME, world
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from torch import nn

from acula_model.evaluation import examples as rows_of
from acula_model.evaluation.examples import Examples, Split
from acula_model.evaluation.protocols import default, published, side_by_side
from acula_model.evaluation.task import Published, Task


def gathered(task: Task, **options: Any) -> Examples:
    features, rows = world(task, **{"scales": 0.5, "signal": 1.0} | options)
    return rows_of.gather(task, rows, features)


def plain(examples: Examples, split: Split, seed: int, settings: Published) -> Any:
    """The published loop as one would write it: a module, autograd, torch's optimiser."""
    x = torch.from_numpy(examples.vectors)
    kind, learn = examples.task.kind, torch.from_numpy(split.train)
    y = torch.from_numpy(examples.labels)
    head = nn.Linear(x.shape[1], examples.classes)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.weight.normal_(0, 0.01, generator=draw)
        head.bias.zero_()
    mean, sd = (float(f(examples.labels[split.train])) for f in (np.mean, np.std))

    def say(rows: Any) -> Any:
        return head(x[rows]) * sd + mean if kind == "regression" else head(x[rows])

    optimizer = torch.optim.Adam(head.parameters(), lr=1e-4)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)
    best, kept, waited = -math.inf, head.state_dict(), 0
    for epoch in range(1, settings.epochs + 1):
        for batch in learn[torch.randperm(len(learn), generator=draw)].split(settings.batch_size):
            if kind == "regression":
                loss = nn.functional.mse_loss(say(batch)[:, 0], y[batch].float())
            else:
                loss = nn.functional.cross_entropy(say(batch), y[batch].long())
            loss = loss + settings.l2 * sum(p.square().sum() for p in head.parameters())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
        schedule.step()
        if epoch % settings.validate_every:
            continue
        with torch.no_grad():
            said, true = say(split.val), examples.labels[split.val]
            if kind == "regression":
                quality = -np.abs(said[:, 0].numpy() - true).mean()
            else:
                said = said.softmax(1).double().numpy()
                said = said / said.sum(1, keepdims=True)
                said = said[:, 1] if kind == "binary" else said
                quality = float(roc_auc_score(true, said, multi_class="ovr"))
        waited += 1
        if quality > best:
            best, kept, waited = quality, {k: v.clone() for k, v in head.state_dict().items()}, 0
        if settings.patience is not None and waited >= settings.patience:
            break
    head.load_state_dict(kept)
    with torch.no_grad():
        said = say(split.test)
        return said.numpy() if kind == "regression" else said.softmax(1).numpy()


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        (BINARY, Published(epochs=20, batch_size=32)),
        (BINARY, Published(epochs=23, batch_size=32, validate_every=5)),
        (SEVERITY, Published(epochs=20, batch_size=16)),
        (VOLUME, Published(epochs=20, batch_size=64, patience=3)),
        (VOLUME, Published(epochs=20, batch_size=16, l2=0.1)),
    ],
)
def test_the_published_protocol_is_the_plain_loop(task: Task, settings: Published) -> None:
    examples = gathered(task)
    outcome = published.run(examples, settings, shuffles=2)
    assert outcome.outputs.shape[:2] == (5, 80) and len(outcome.shuffled) == 2
    for seed in (0, 3):
        oracle = plain(examples, examples.splits[0], seed, settings)
        np.testing.assert_allclose(outcome.outputs[seed], oracle, atol=1e-5)
    assert np.abs(outcome.outputs[0] - outcome.outputs[3]).max() > 1e-4


def test_every_head_of_left_out_persons_is_the_plain_loop() -> None:
    """Persons with unequally many recordings: folds of several shapes."""
    features, rows = world(LEFT_OUT, persons=8, each=3, scales=0.5)
    rows = [r for n, r in enumerate(rows) if n not in (0, 4, 5)]
    examples = rows_of.gather(LEFT_OUT, rows, features)
    settings = Published(epochs=12, batch_size=8, patience=5, val_share=0.2)
    outcome = published.run(examples, settings, seeds=(1,), shuffles=0)
    assert sorted(outcome.rows) == list(range(len(rows)))
    for split in examples.splits:
        learn, val = train_test_split(split.train, test_size=0.2, random_state=42)
        oracle = plain(examples, replace(split, train=learn, val=val), 1, settings)
        found = outcome.outputs[0][np.isin(outcome.rows, split.test)]
        np.testing.assert_allclose(found, oracle, atol=1e-5)


def test_published_validation_is_drawn_from_recordings_or_taken_from_the_list() -> None:
    examples = gathered(BINARY)
    listed = examples.splits[0]
    assert published._with_validation(examples, listed, Published(val_share=0.2)) is listed
    bare = gathered(BINARY, folds=("train", "test"))
    split = published._with_validation(bare, bare.splits[0], Published(val_share=0.2))
    assert len(split.val) == 20 and bare.labels[split.val].mean() == 0.5
    assert set(bare.persons[split.val]) & set(bare.persons[split.train])  # as it really is
    unseen = published.run(bare, Published(epochs=2), shuffles=0)
    assert unseen.notes == {"validation": "none, so the last state is tested"}


def test_training_stops_for_each_run_on_its_own() -> None:
    """A run that has stopped keeps its state while another goes on."""
    examples = gathered(VOLUME)
    settings = Published(epochs=30, batch_size=16, patience=2)
    together = published.run(examples, settings, shuffles=0)
    for seed in range(5):
        alone = published.run(examples, settings, seeds=(seed,), shuffles=0)
        np.testing.assert_allclose(together.outputs[seed], alone.outputs[0], atol=1e-6)


def test_the_start_of_a_head() -> None:
    head = side_by_side.start(4000, 2, torch.Generator().manual_seed(0))
    assert float(head[:-1].std()) == pytest.approx(0.01, rel=0.03) and not head[-1].any()


@pytest.mark.parametrize("protocol", ["default", "published"])
def test_nobody_is_tested_by_a_head_that_met_them(protocol: str) -> None:
    """A poisoned label of one person changes what is said of everybody else, and not of them."""
    features, rows = world(LEFT_OUT, persons=12, each=2, scales=0.5)

    def said(rows: list[dict[str, Any]]) -> dict[str, Any]:
        examples = rows_of.gather(LEFT_OUT, rows, features)
        if protocol == "default":
            outcome = default.run(examples, shuffles=1)
        else:
            outcome = published.run(
                examples, Published(epochs=5, val_share=0.2), seeds=(0, 1), shuffles=1
            )
        outputs = np.concatenate([outcome.outputs, outcome.shuffled])
        return dict(zip(examples.recordings[outcome.rows], outputs.swapaxes(0, 1), strict=True))

    before = said(rows)
    for person in ("icbhi/000", "icbhi/007"):
        poisoned = [r | {"label": 1e6} if r["person_id"] == person else r for r in rows]
        after = said(poisoned)
        for row in rows:
            name, own = row["recording_id"], row["person_id"] == person
            assert np.array_equal(before[name], after[name]) == own


def test_validation_persons_of_train_are_whole_persons() -> None:
    for task in (BINARY, LEFT_OUT):
        examples = gathered(task, folds=("train",))
        split = Split(train=np.arange(200), val=np.array([], int), test=np.arange(200))
        parts = default.inner(examples, split)
        assert len(parts) == (5 if task is LEFT_OUT else 1)
        for part in parts:
            learn, held = set(examples.persons[part.train]), set(examples.persons[part.val])
            assert learn and held and not learn & held and len(learn) + len(held) == 100
    assert 0.1 < len(default.inner(gathered(BINARY, folds=("train",)), split)[0].val) / 200 < 0.3


def test_ridge_equals_scikit_learn() -> None:
    examples = gathered(VOLUME, width=150)
    split = examples.splits[0]
    labels = examples.labels[split.train]
    found, _ = default._ridge(examples, split, labels[None, :, None], default.ALPHAS)
    scale = default.standardiser(examples.vectors[split.train])
    train, test = (scale(examples.vectors[at]) for at in (split.train, split.test))
    for said, alpha in zip(found[:, 0, :, 0], default.ALPHAS, strict=True):
        model = Ridge(alpha=alpha).fit(train, (labels - labels.mean()) / labels.std())
        oracle = model.predict(test) * labels.std() + labels.mean()
        np.testing.assert_allclose(said, oracle, atol=1e-8)


def test_probabilities_are_at_the_class_shares_of_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """Balanced weights must not come out as overconfidence in the rarer class."""
    monkeypatch.setattr(default, "STRENGTHS", (1.0,))  # a penalty that is chosen may shrink them
    rng = np.random.default_rng(0)
    rows, features = [], {}
    for n in range(4000):
        label = float(rng.random() < 0.1)
        features[str(n)] = rng.standard_normal(3) + label * np.array([1.0, 0, 0])
        rows.append(
            {"recording_id": str(n), "case_id": str(n), "person_id": str(n), "label": label,
             "fold": "train" if n % 2 else "test"}
        )  # fmt: skip
    outcome = default.run(rows_of.gather(BINARY, rows, features), shuffles=0)
    assert outcome.outputs[0, :, 1].mean() == pytest.approx(0.1, abs=0.02)
    # Two normals one deviation apart at 10 %: log odds are x - 1/2 + log(1/9).
    x = np.array([features[str(n)][0] for n in sorted(range(0, 4000, 2), key=str)])
    truth = 1 / (1 + np.exp(-(x - 0.5 - np.log(9))))
    assert np.abs(outcome.outputs[0, :, 1] - truth).mean() < 0.03


def test_a_feature_that_only_rounds_is_not_blown_up() -> None:
    """float32 noise of a constant column must not become a feature of deviation 1."""
    rng = np.random.default_rng(0)
    x = np.stack([5 + 1e-7 * rng.standard_normal(50), rng.standard_normal(50)], 1)
    x = x.astype(np.float32)
    scaled = default.standardiser(x)(x)
    assert not scaled[:, 0].any() and scaled[:, 1].std() == pytest.approx(1)
