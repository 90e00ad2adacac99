"""The default protocol: a linear head whose penalty is chosen on validation persons.

Standardised features; logistic regression with balanced classes, or ridge on the standardised
target. The same head reads encoder embeddings, metadata and anything else that has rows of
numbers. Everything is chosen and fitted without the persons it is tested on.
"""

# N = recordings, D = features, C = number of classes, A = strengths, K = shuffles, T = targets

import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from acula_model.evaluation import examples as rows_of
from acula_model.evaluation import floors, metrics
from acula_model.evaluation.examples import Examples, Index, Split
from acula_model.evaluation.metrics import Floats
from acula_model.evaluation.protocols import Outcome

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of logistic regression: small is a strong penalty
ALPHAS = (1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1.0)  # of ridge: large is a strong penalty
UNCHOSEN = (1e-2, 1e3)  # C and alpha where validation lacks a class or a person
SHUFFLES = 10
_VAL_SHARE = 0.2
_INNER_FOLDS = 5
_ITERATIONS = 1000
_SHUFFLED_ITERATIONS = 100  # without a signal the optimum is far and of no interest


def run(examples: Examples, shuffles: int = SHUFFLES) -> Outcome:
    """Choose, fit and test on every split of the task."""
    from threadpoolctl import threadpool_limits

    # Products of one step are too small to share: on two busy cores two threads take ten times
    # the processor time of one.
    with threadpool_limits(1, "blas"):
        parts = [_one(examples, split, shuffles) for split in examples.splits]
    strengths = [p.strength for p in parts if p.strength is not None]
    return Outcome(
        rows=np.concatenate([p.rows for p in parts]),
        outputs=np.concatenate([p.outputs for p in parts], axis=1),
        shuffled=np.concatenate([p.shuffled for p in parts], axis=1),
        strength=float(np.median(strengths)) if strengths else None,
        flags=tuple(sorted({f for p in parts for f in p.flags})),
        notes={k: v for p in parts for k, v in p.notes.items()},
    )


def inner(examples: Examples, split: Split) -> list[Split]:
    """Where the strength is chosen: (train, val) pairs without a common person of train.

    The validation fold if there is one; a fifth of train's persons by hash if not; five such
    parts in turn where persons are left out, because there are few.
    """
    if len(split.val):
        return [Split(train=split.train, val=split.val, test=split.val)]
    drawn = np.array([rows_of.chance(str(p), "val") for p in examples.persons[split.train]])
    if examples.task.scheme == "leave_one_person_out":
        part = (drawn * _INNER_FOLDS).astype(int)
        chosen = [part == i for i in range(_INNER_FOLDS)]
    else:
        chosen = [drawn < _VAL_SHARE]
    sides = [(split.train[~held], split.train[held]) for held in chosen]
    return [Split(train=a, val=b, test=b) for a, b in sides if len(a) and len(b)]


def standardiser(x_ND: npt.NDArray[np.floating]) -> Callable[[npt.NDArray[np.floating]], Floats]:
    """Columns of mean 0 and deviation 1 on these rows; those that do not vary become 0."""
    varies = rows_of.varying(x_ND)
    x_ND = x_ND.astype(np.float64)
    mean, sd = x_ND.mean(0), np.where(varies, x_ND.std(0), np.inf)
    return lambda rows: (rows.astype(np.float64) - mean) / sd


def _one(examples: Examples, split: Split, shuffles: int) -> Outcome:
    regression = examples.task.kind == "regression"
    strengths = ALPHAS if regression else STRENGTHS
    fit = _ridge if regression else _logistic
    held: list[tuple[Index, Floats]] = []
    for part in inner(examples, split):
        truth = floors.one_hot(examples, part.train)
        found, _ = fit(examples, part, truth[None], strengths)
        held.append((part.test, found[:, 0]))
    strength, note = _best(examples, held, strengths)
    truth = floors.one_hot(examples, split.train)
    labels_KN = floors.shuffled_labels(examples, split.train, shuffles)
    if regression:
        false = labels_KN[..., None]
    else:
        false = (labels_KN[..., None] == np.arange(examples.classes)).astype(float)
    outputs, converged = fit(examples, split, np.concatenate([truth[None], false]), (strength,))
    return Outcome(
        rows=split.test,
        outputs=outputs[0, :1],
        shuffled=outputs[0, 1:],
        strength=strength,
        flags=() if converged else ("not_converged",),
        notes=note,
    )


def _best(
    examples: Examples, held: list[tuple[Index, Floats]], strengths: tuple[float, ...]
) -> tuple[float, dict[str, str]]:
    """The strength that is best on all validation parts together; the stronger one on a tie."""
    regression = examples.task.kind == "regression"
    quality = np.full(len(strengths), np.nan)
    if held:
        at, outputs_ANC = np.concatenate([h[0] for h in held]), [h[1] for h in held]
        unit, said_AUC = rows_of.per_unit(examples, at, np.concatenate(outputs_ANC, axis=1))
        for i, said_UC in enumerate(said_AUC):
            quality[i] = metrics.headline(said_UC, examples.labels[unit], examples.task.kind)
        quality *= -1 if regression else 1
    if np.isnan(quality).all():
        return UNCHOSEN[regression], {"strength": "validation lacks a class, so it is fixed"}
    return strengths[int(np.nanargmax(quality))], {}


def _logistic(
    examples: Examples, split: Split, hot_TNC: Floats, strengths: tuple[float, ...]
) -> tuple[Floats, bool]:
    """[A, T, N, C] probabilities of the tested, and whether the first target's fits converged.

    Balanced weights move a logistic model's log odds by the log of the weights and nothing
    else, so taking them off again gives probabilities at the class shares of train. The penalty
    is chosen for ranking, so a strong one leaves them closer to those shares than they should be.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scale = standardiser(examples.vectors[split.train])
    train, test = (scale(examples.vectors[at]) for at in (split.train, split.test))
    found = np.zeros((len(strengths), len(hot_TNC), len(test), examples.classes))
    converged = True
    for t, hot_NC in enumerate(hot_TNC):
        labels, shares = hot_NC.argmax(1), hot_NC.mean(0)
        if (shares > 0).sum() < 2:
            found[:, t] = shares
            continue
        for a, strength in enumerate(strengths):
            limit = _SHUFFLED_ITERATIONS if t else _ITERATIONS
            model = LogisticRegression(C=strength, max_iter=limit, class_weight="balanced")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # becomes a flag
                model.fit(train, labels)
            converged &= bool(t or (model.n_iter_ < limit).all())
            logits = model.decision_function(test)  # not probabilities: those saturate and tie
            if logits.ndim == 1:
                logits = np.stack([np.zeros_like(logits), logits], axis=1)
            logits = logits + np.log(shares[model.classes_])
            odds = np.exp(logits - logits.max(1, keepdims=True))
            found[a, t][:, model.classes_] = odds / odds.sum(1, keepdims=True)
    return found, converged


def _ridge(
    examples: Examples, split: Split, targets_TN1: Floats, strengths: tuple[float, ...]
) -> tuple[Floats, bool]:
    """[A, T, N, 1] numbers of the tested. One decomposition serves all targets and strengths."""
    scale = standardiser(examples.vectors[split.train])
    train, test = (scale(examples.vectors[at]) for at in (split.train, split.test))
    left, size, right = np.linalg.svd(train, full_matrices=False)
    targets_NT = targets_TN1[..., 0].T
    mean, sd = targets_NT.mean(0), targets_NT.std(0)
    turned = left.T @ ((targets_NT - mean) / np.where(sd > 0, sd, 1))
    seen = test @ right.T
    found = [seen @ (size[:, None] / (size[:, None] ** 2 + a) * turned) for a in strengths]
    return (np.stack(found) * sd + mean).transpose(0, 2, 1)[..., None], True
