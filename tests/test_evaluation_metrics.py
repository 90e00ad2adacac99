"""Every metric against scikit-learn, or against a reference written out by hand."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from acula_model.evaluation import metrics

Floats = npt.NDArray[np.float64]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-3, 3), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=25
    )
)
def test_auroc_equals_scikit_learn_with_ties_and_weights(rows: list[tuple[int, int, int]]) -> None:
    scores, labels, weights = (np.array(column, float) for column in zip(*rows, strict=True))
    found = metrics.auroc_statistic(scores / 3, labels)(np.stack([np.ones(len(rows)), weights]))
    for value, times in zip(found, (np.ones(len(rows), int), weights.astype(int)), strict=True):
        drawn = np.repeat(labels, times)
        if len(set(drawn)) < 2:
            assert np.isnan(value)
        else:
            oracle = sk.roc_auc_score(drawn, np.repeat(scores / 3, times))
            assert value == pytest.approx(oracle, abs=1e-12)


def multiclass(seed: int, units: int = 80, classes: int = 5) -> tuple[Floats, Floats]:
    """Probabilities in steps of a twentieth, so that many tie."""
    rng = np.random.default_rng(seed)
    labels = np.arange(units) % classes
    raw = rng.integers(1, 6, (units, classes)) + 3 * (labels[:, None] == np.arange(classes))
    return raw / raw.sum(1, keepdims=True), labels.astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_macro_auroc_equals_scikit_learn(seed: int) -> None:
    said, labels = multiclass(seed)
    oracle = sk.roc_auc_score(labels, said, multi_class="ovr", average="macro")
    assert metrics.auroc(said, labels) == pytest.approx(oracle, abs=1e-9)
    weights = np.random.default_rng(seed).integers(0, 3, len(labels)).astype(float)
    found = metrics.macro_auroc_statistic(said, labels)(weights[None])[0]
    times = weights.astype(int)
    oracle = sk.roc_auc_score(
        np.repeat(labels, times), np.repeat(said, times, axis=0), multi_class="ovr"
    )
    assert found == pytest.approx(oracle, abs=1e-9)
    assert np.isnan(metrics.auroc(said[labels < 4], labels[labels < 4]))


@pytest.mark.parametrize("seed", range(5))
def test_errors_of_numbers_equal_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, said = rng.normal(3, 1, 40), rng.normal(3, 1, 40)
    found = metrics.regression(said, labels)
    assert metrics.mae(said, labels) == pytest.approx(sk.mean_absolute_error(labels, said))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(labels, said), abs=1e-9)
    assert found["r2"] == pytest.approx(sk.r2_score(labels, said), abs=1e-9)
    oracle = sk.mean_absolute_percentage_error(labels, said)
    assert found["mape"] == pytest.approx(oracle, abs=1e-9)
    gap = said - labels
    agreement = metrics.bland_altman(said, labels)
    spread = np.sqrt(((gap - gap.mean()) ** 2).sum() / (len(gap) - 1))
    assert agreement["bias"] == pytest.approx(gap.mean())
    assert agreement["high"] - agreement["low"] == pytest.approx(2 * 1.96 * spread)
    weights = rng.integers(0, 4, 40).astype(float)
    found = metrics.mae_statistic(said, labels)(weights[None])[0]
    assert found == pytest.approx(sk.mean_absolute_error(labels, said, sample_weight=weights))


def test_numbers_without_a_meaning_are_left_out() -> None:
    assert metrics.regression(np.array([1.0, 2.0]), np.array([0.0, 1.0]))["mape"] is None
    assert metrics.regression(np.array([1.0, 2.0]), np.array([3.0, 3.0]))["r2"] is None


def calibration_by_hand(confidence: Floats, hit: npt.NDArray[np.bool_]) -> float:
    """Naeini et al. 2015, bin by bin: [0, 1/15), [1/15, 2/15), ..., and 1 itself."""
    total = 0.0
    edges = np.linspace(0, 1, 16)
    for b in range(16):
        top = edges[b + 1] if b < 15 else np.inf
        inside = [i for i, c in enumerate(confidence) if edges[b] <= c < top]
        if inside:
            share = sum(bool(hit[i]) for i in inside) / len(inside)
            mean = sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(share - mean)
    return total


@pytest.mark.parametrize("seed", range(5))
def test_calibration_equals_references(seed: int) -> None:
    rng = np.random.default_rng(seed)
    said, labels = rng.integers(0, 61, 200) / 60, (rng.random(200) < 0.3) * 1.0
    assert metrics.brier(said, labels) == pytest.approx(sk.brier_score_loss(labels, said), abs=1e-9)
    by_hand = calibration_by_hand(said, labels == 1)
    assert metrics.calibration_error(said, labels) == pytest.approx(by_hand, abs=1e-9)
    bins = metrics.reliability(said, labels)
    assert sum(b["units"] for b in bins) == 200
    assert sum(b["units"] * b["share"] for b in bins) == pytest.approx(labels.sum())
    several, classes = multiclass(seed)
    hot = np.eye(5)[classes.astype(int)]
    assert metrics.brier(several, classes) == pytest.approx(((several - hot) ** 2).sum(1).mean())
    by_hand = calibration_by_hand(several.max(1), several.argmax(1) == classes)
    assert metrics.calibration_error(several, classes) == pytest.approx(by_hand, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_the_curve_equals_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    rows += [(0, True), (3, False)]
    scores, labels = (np.array(column, float) for column in zip(*rows, strict=True))
    false, true, threshold = sk.roc_curve(labels, scores, drop_intermediate=False)
    found = metrics.roc(scores, labels)
    for mine, theirs in zip(found, (false, true, threshold), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
    point = metrics.sensitivity_at(scores, labels, 0.95)
    assert point["sensitivity"] == pytest.approx(true[1 - false >= 0.95 - 1e-12].max())
    if point["threshold"] is not None:
        called = scores >= point["threshold"]
        assert called[labels == 1].mean() == pytest.approx(point["sensitivity"])
        assert (~called)[labels == 0].mean() >= 0.95 - 1e-12


def test_a_long_curve_is_thinned_to_its_shape() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal(3000), (rng.random(3000) < 0.5) * 1.0
    scores += labels
    points = np.array(metrics.roc_points(scores, labels))
    assert len(points) <= 50 and points[0].tolist() == [0, 0] and points[-1].tolist() == [1, 1]
    area = np.trapezoid(points[:, 1], points[:, 0])
    assert area == pytest.approx(metrics.auroc(scores, labels), abs=0.005)
