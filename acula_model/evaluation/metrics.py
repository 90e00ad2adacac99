"""Outputs and labels -> how good, how well calibrated and how far apart.

Every number is defined as in scikit-learn or torchmetrics, whichever is named, and tested
against it or a reference written by hand.
"""

# N = units, R = resamples, C = number of classes, P = positives, M = negatives

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model.evaluation.task import Kind

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]  # weights [R, N] -> [R]
BINS = 15
ROC_POINTS = 50


def auroc_statistic(scores_N: Floats, labels_N: Floats) -> Statistic:
    """Area under the ROC curve as a function of weights; ties count half.

    Args:
        scores_N: Higher for positive.
        labels_N: 0 or 1.

    Returns:
        From weights [R, N], how often each unit is drawn, to [R]; nan where a class is missing.
    """
    positive, negative = np.flatnonzero(labels_N == 1), np.flatnonzero(labels_N == 0)
    negative = negative[np.argsort(scores_N[negative], kind="stable")]
    below_P = np.searchsorted(scores_N[negative], scores_N[positive], side="left")
    upto_P = np.searchsorted(scores_N[negative], scores_N[positive], side="right")

    def area(weights_RN: Floats) -> Floats:
        positive_RP, negative_RM = weights_RN[:, positive], weights_RN[:, negative]
        passed = np.zeros((len(weights_RN), len(negative) + 1))
        np.cumsum(negative_RM, axis=1, out=passed[:, 1:])
        beaten_RP = passed[:, below_P] + passed[:, upto_P]
        pairs = positive_RP.sum(1) * passed[:, -1]
        with np.errstate(invalid="ignore", divide="ignore"):
            won = np.einsum("rp,rp->r", positive_RP, beaten_RP) / 2
            return np.where(pairs > 0, won / pairs, np.nan)

    return area


def macro_auroc_statistic(scores_NC: Floats, labels_N: Floats) -> Statistic:
    """Mean over classes of one class against the rest (torchmetrics' ``average="macro"``).

    nan where a class is missing; torchmetrics would count that class as 0, which says nothing
    about the scores.
    """
    areas = [auroc_statistic(s, (labels_N == c) * 1.0) for c, s in enumerate(scores_NC.T)]
    return lambda weights_RN: np.mean([area(weights_RN) for area in areas], axis=0)


def mae_statistic(predicted_N: Floats, labels_N: Floats) -> Statistic:
    """Mean absolute error as a function of weights."""
    error_N = np.abs(predicted_N - labels_N)
    return lambda weights_RN: weights_RN @ error_N / weights_RN.sum(1)


def point(statistic: Statistic, units: int) -> float:
    """A statistic of the units as they are."""
    return float(statistic(np.ones((1, units)))[0])


def auroc(scores: Floats, labels: Floats) -> float:
    """AUROC of [N] scores, or macro one-vs-rest AUROC of [N, C]; nan if a class is missing."""
    make = auroc_statistic if scores.ndim == 1 else macro_auroc_statistic
    return point(make(scores, labels), len(labels))


def headline(outputs_NC: Floats, labels_N: Floats, kind: Kind) -> float:
    """A task's metric of class probabilities [N, C], or of numbers [N, 1]."""
    if kind == "regression":
        return mae(outputs_NC[:, 0], labels_N)
    return auroc(outputs_NC[:, 1] if kind == "binary" else outputs_NC, labels_N)


def mae(predicted_N: Floats, labels_N: Floats) -> float:
    """Mean absolute error."""
    return float(np.abs(predicted_N - labels_N).mean())


def regression(predicted_N: Floats, labels_N: Floats) -> dict[str, float | None]:
    """RMSE, R2 and MAPE, as in scikit-learn; None where the labels make one meaningless."""
    error_N, spread = predicted_N - labels_N, float(((labels_N - labels_N.mean()) ** 2).sum())
    return {
        "rmse": float(np.sqrt((error_N**2).mean())),
        "r2": 1 - float((error_N**2).sum()) / spread if spread else None,
        "mape": float(np.abs(error_N / labels_N).mean()) if (labels_N != 0).all() else None,
    }


def bland_altman(predicted_N: Floats, labels_N: Floats) -> dict[str, float]:
    """Bias and 95 % limits of agreement of predicted - measured (Bland and Altman, 1986).

    The standard deviation treats units as independent; several units of one person make the
    limits a little too narrow.
    """
    difference_N = predicted_N - labels_N
    bias = float(difference_N.mean())
    half = 1.96 * float(difference_N.std(ddof=1)) if len(difference_N) > 1 else 0.0
    return {"bias": bias, "low": bias - half, "high": bias + half}


def brier(probabilities: Floats, labels_N: Floats) -> float:
    """Mean squared error of probabilities (scikit-learn).

    Args:
        probabilities: Of the positive class [N], or of all classes [N, C], whose squared errors
            are summed over classes.
        labels_N: Class indices.
    """
    if probabilities.ndim == 1:
        return float(((probabilities - labels_N) ** 2).mean())
    hot_NC = labels_N[:, None] == np.arange(probabilities.shape[1])
    return float(((probabilities - hot_NC) ** 2).sum(1).mean())


def reliability(probabilities: Floats, labels_N: Floats) -> list[dict[str, float]]:
    """Filled bins of equal width with mean confidence, share that came true and units.

    Confidence is the probability of the positive class, or the largest one of several classes.
    A certainty of exactly 1 is a bin of its own, as in torchmetrics.
    """
    if probabilities.ndim == 1:
        confidence_N, true_N = probabilities, labels_N == 1
    else:
        confidence_N, true_N = probabilities.max(1), probabilities.argmax(1) == labels_N
    bin_N = np.digitize(confidence_N, np.linspace(0, 1, BINS + 1)) - 1
    return [
        {
            "confidence": float(confidence_N[bin_N == b].mean()),
            "share": float(true_N[bin_N == b].mean()),
            "units": int((bin_N == b).sum()),
        }
        for b in np.unique(bin_N)
    ]


def calibration_error(probabilities: Floats, labels_N: Floats) -> float:
    """Expected calibration error, 15 bins of equal width (Naeini et al. 2015; torchmetrics)."""
    bins = reliability(probabilities, labels_N)
    return sum(b["units"] * abs(b["share"] - b["confidence"]) for b in bins) / len(labels_N)


def roc(scores_N: Floats, labels_N: Floats) -> tuple[Floats, Floats, Floats]:
    """False positive rate, sensitivity and threshold (score >= threshold), from (0, 0) on."""
    order = np.argsort(-scores_N, kind="stable")
    ranked, hits = scores_N[order], labels_N[order] == 1
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    true, false = np.cumsum(hits)[last], np.cumsum(~hits)[last]
    rates = [np.concatenate([[0.0], count / max(count[-1], 1)]) for count in (false, true)]
    return rates[0], rates[1], np.concatenate([[np.inf], ranked[last]])


def roc_points(scores_N: Floats, labels_N: Floats) -> list[list[float]]:
    """At most 50 points [false positive rate, sensitivity] of the curve, with both ends."""
    false, true, _ = roc(scores_N, labels_N)
    chosen = np.unique(np.linspace(0, len(false) - 1, ROC_POINTS).round().astype(int))
    return [[float(false[i]), float(true[i])] for i in chosen]


def sensitivity_at(scores_N: Floats, labels_N: Floats, specificity: float) -> dict[str, Any]:
    """Best sensitivity at no less than a specificity (torchmetrics), threshold chosen on test.

    A threshold that is chosen where it is judged flatters, most of all with few negatives.
    """
    false, true, threshold = roc(scores_N, labels_N)
    best = int(np.flatnonzero(1 - false >= specificity - 1e-12)[-1])
    cut = float(threshold[best])
    return {
        "specificity": specificity,
        "sensitivity": float(true[best]),
        "threshold": cut if np.isfinite(cut) else None,
    }
