"""The linear probe: finds what is there, finds nothing else, and says what it could not run."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from acula_model import probe
from acula_model.probe import Score

Row = dict[str, Any]
Features = dict[str, npt.NDArray[np.float64]]
FOLDS = ("train", "train", "val", "test", "test")


def world(
    persons: int = 100, each: int = 2, signal: float = 3.0, variant: str = "subject_clean",
    folds: tuple[str, ...] = FOLDS, seed: int = 0,
) -> tuple[Features, list[Row]]:  # fmt: skip
    """Sixteen features; the label moves one of them, a person moves all, scales differ wildly."""
    rng = np.random.default_rng(seed)
    features: Features = {}
    rows: list[Row] = []
    for n in range(persons):
        label, own = n // len(folds) % 2, rng.standard_normal(16)
        for take in range(each):
            name = f"icbhi/{n}_{take}"
            vector = own + 0.3 * rng.standard_normal(16)
            vector[3] += signal * label
            features[name] = vector * np.logspace(-3, 3, 16)
            rows.append(
                {"task": "icbhi/copd", "variant": variant, "recording_id": name,
                 "case_id": f"icbhi/visit{n}", "person_id": f"icbhi/{n}",
                 "fold": folds[n % len(folds)], "label": label}
            )  # fmt: skip
    return features, rows


def only(found: tuple[list[Score], list[probe.Prediction]]) -> Score:
    assert len(found[0]) == 1
    return found[0][0]


def test_a_planted_signal_is_found() -> None:
    features, rows = world(signal=5.0)
    scores, predictions = probe.run(features, rows)
    score = only((scores, predictions))
    assert score.auroc is not None and score.auroc > 0.95
    assert score.low is not None and score.high is not None
    assert score.low <= score.auroc <= score.high
    assert score.counts == {"train": [40, 40], "val": [20, 20], "test": [40, 40]}
    assert (score.majority, score.shared_persons, score.reason) == (0.5, 0, None)
    tested = [r for r in rows if r["fold"] == "test"]
    assert [p.unit for p in predictions] == sorted(r["recording_id"] for r in tested)
    label = {r["recording_id"]: r["label"] for r in rows}
    assert all(p.label == label[p.unit] for p in predictions)


def test_shuffled_labels_are_not_found() -> None:
    values: list[float] = []
    for seed in range(5):
        features, rows = world(persons=200, seed=seed)
        drawn = np.random.default_rng(seed).permutation(200)
        for row in rows:
            row["label"] = int(drawn[int(row["person_id"].split("/")[1])] % 2)
        values.append(only(probe.run(features, rows)).auroc or 0)
    assert np.mean(values) == pytest.approx(0.5, abs=0.06)


def test_test_labels_are_not_learned_from() -> None:
    """Turning the labels of the test fold round turns the score round, and nothing else."""
    features, rows = world()
    before = only(probe.run(features, rows))
    turned = [r | {"label": 1 - r["label"]} if r["fold"] == "test" else r for r in rows]
    after = only(probe.run(features, turned))
    assert before.auroc is not None and after.auroc == pytest.approx(1 - before.auroc)
    assert after.strength == before.strength


def test_by_case_averages_the_recordings_of_a_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "STRENGTHS", (0.01,))  # the same model twice
    features, rows = world(each=3, signal=1.5)
    single, by_recording = probe.run(features, rows)
    scores, by_case = probe.run(features, rows, by_case=["icbhi/copd"])
    assert scores[0].counts["test"] == [20, 20] and single[0].counts["test"] == [60, 60]
    assert len(by_case) == 40 and by_case[0].unit.startswith("icbhi/visit")
    case = {r["recording_id"]: r["case_id"] for r in rows}
    for one in by_case:
        own = [p.score for p in by_recording if case[p.unit] == one.unit]
        assert len(own) == 3 and one.score == pytest.approx(np.mean(own))


@pytest.mark.parametrize(("fold", "label"), [("train", 1), ("test", 0)])
def test_a_missing_class_is_listed_as_not_run(fold: str, label: int) -> None:
    features, rows = world()
    other = [r | {"task": "icbhi/other"} for r in rows]
    rows = [r for r in rows if not (r["fold"] == fold and r["label"] == label)]
    scores, predictions = probe.run(features, rows + other)
    assert [s.task for s in scores] == ["icbhi/copd", "icbhi/other"]
    assert scores[0].auroc is None and scores[0].reason == f"fewer than 2 of a class in {fold}"
    assert scores[0].counts[fold][label] == 0
    assert scores[1].auroc is not None and {p.task for p in predictions} == {"icbhi/other"}


def test_a_class_that_is_one_person_is_listed_as_not_run() -> None:
    features, rows = world(each=4)
    for row in rows:
        if row["fold"] == "test" and row["label"] == 1:
            row["person_id"] = "icbhi/alone"
    score = only(probe.run(features, rows))
    assert score.auroc is None and score.reason == "fewer than 2 persons of a class in test"


def test_a_task_without_features_is_listed_as_not_run() -> None:
    features, rows = world()
    lost = [r | {"task": "icbhi/lost", "recording_id": "lost"} for r in rows]
    scores, _ = probe.run(features, rows + lost)
    assert [(s.task, s.reason is None) for s in scores] == [
        ("icbhi/copd", True), ("icbhi/lost", False),
    ]  # fmt: skip
    assert scores[1].reason == "no recording has features"


def test_a_published_split_without_validation_counts_shared_persons() -> None:
    features, rows = world(folds=("train", "test"), variant="as_published")
    for row in rows:  # the first six test persons also have a recording in train
        number = int(row["person_id"].split("/")[1])
        if number < 12 and row["fold"] == "test" and row["recording_id"].endswith("_0"):
            row["fold"] = "train"
    score = only(probe.run(features, rows))
    assert score.variant == "as_published" and score.shared_persons == 6
    assert score.counts["val"] == [0, 0] and score.reason is None
    assert score.auroc is not None and score.auroc > 0.9
    assert score.strength in probe.STRENGTHS


def test_strength_is_chosen_on_validation_persons_of_train() -> None:
    """Where the publisher has none, they are cut by person: both recordings on one side."""
    _, rows = world(folds=("train",))
    learn, held = probe._cut(rows)
    mine, theirs = ({r["person_id"] for r in side} for side in (learn, held))
    assert mine and theirs and not mine & theirs and len(learn) + len(held) == len(rows)


def test_order_of_rows_does_not_matter() -> None:
    features, rows = world(signal=1.0)
    one, other = probe.run(features, rows), probe.run(features, rows[::-1])
    assert only(one).auroc == pytest.approx(only(other).auroc)
    assert [p.unit for p in one[1]] == [p.unit for p in other[1]]
