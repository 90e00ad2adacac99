"""Do encoder and teacher find the same recordings alike? Debiased CKA on persons held out."""

# N = pairs, D = width of the encoder, E = of the teacher, B = blocks of persons, K = statistics

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acula_model import gauges
from acula_model.evaluation import floors
from acula_model.evaluation.examples import Index, NotRun, chance
from acula_model.evaluation.intervals import Difference, Interval
from acula_model.evaluation.metrics import Floats

Matrix = npt.NDArray[np.floating]
MIN_PERSONS = 10
# Of whole persons by a hash of their ids: a CKA of a thousand pairs is known to a hundredth or
# two, and the jackknife takes fifty of them.
PAIRS = 1000
BLOCKS = 50
FLOORS = 20
_NORMAL = 1.96


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Debiased CKA of held-out pairs of one dataset.

    Attributes:
        before: Encoder before alignment with the teacher's vectors of the reports.
        after: The aligned one with the same.
        difference: After - before.
        encoders: Of the two encoders with each other: 1 if alignment changed no geometry.
        floor_before: Mean of ``before`` with reports of other persons. A person's recordings are
            alike, and so are that person's reports; this much of the agreement says no more.
        floor_after: The same of ``after``.
        pairs: N, at most about a thousand.
        persons: Of these.
    """

    before: Interval
    after: Interval
    difference: Difference
    encoders: Interval
    floor_before: float
    floor_after: float
    pairs: int
    persons: int


def measure(
    before_ND: Matrix, after_ND: Matrix, text_NE: Matrix, persons: Sequence[str], seed: int = 0
) -> Agreement:
    """Agreement with intervals by the jackknife over persons.

    Drawing persons twice, as a bootstrap does, would put equal rows among the pairs, which a
    debiased estimate counts as agreement; leaving blocks of them out does not (Arvesen, 1969).

    Args:
        before_ND: Embeddings of the encoder before alignment.
        after_ND: Of the aligned one, for the same pairs.
        text_NE: Teacher vectors of their reports.
        persons: [N].
        seed: Of the exchanges of reports between persons.

    Raises:
        NotRun: Fewer than ten persons.
    """
    some = _some(persons)
    people, owner_N = np.unique(np.asarray(persons)[some], return_inverse=True)
    if len(people) < MIN_PERSONS:
        raise NotRun(f"{len(people)} held-out persons; an interval needs {MIN_PERSONS}")
    before, after, text = (_gram(x[some]) for x in (before_ND, after_ND, text_NE))

    def statistics(rows: Index) -> list[float]:
        block = np.ix_(rows, rows)
        x, y, t = (_centred(gram_NN[block]) for gram_NN in (before, after, text))
        old, new = _cka(x, t), _cka(y, t)
        return [old, new, new - old, _cka(x, y)]

    rng = np.random.default_rng(seed)
    block_N = (rng.permutation(len(people)) % min(BLOCKS, len(people)))[owner_N]
    value_K = np.array(statistics(np.arange(len(owner_N))))
    left_BK = np.array([statistics(np.flatnonzero(block_N != b)) for b in range(block_N.max() + 1)])
    se_K = np.sqrt((len(left_BK) - 1) * left_BK.var(0))
    one, two, gap, encoders = (
        _interval(v, s, len(left_BK)) for v, s in zip(value_K, se_K, strict=True)
    )
    x, y = _centred(before), _centred(after)
    exchanged = [floors.of_others(people[owner_N], rng) for _ in range(FLOORS)]
    texts = [_centred(text[np.ix_(at_N, at_N)]) for at_N in exchanged]
    return Agreement(
        before=one,
        after=two,
        difference=Difference(**vars(gap), p=_p(gap)),
        encoders=encoders,
        floor_before=float(np.mean([_cka(x, t) for t in texts])),
        floor_after=float(np.mean([_cka(y, t) for t in texts])),
        pairs=len(owner_N),
        persons=len(people),
    )


def _some(persons: Sequence[str]) -> Index:
    """All pairs of as many persons as fit."""
    pairs = Counter(persons)
    order = sorted(pairs, key=lambda p: chance(p, "agreement"))
    passed = np.cumsum([pairs[p] for p in order])
    kept = set(order[: max(MIN_PERSONS, int(np.searchsorted(passed, PAIRS)) + 1)])
    return np.flatnonzero([p in kept for p in persons])


def _gram(x_ND: Matrix) -> Floats:
    """[N, N]: products of rows minus their mean, which serve all subsets of them."""
    raw_ND = x_ND.astype(np.float64)
    found = raw_ND - raw_ND.mean(0)
    found *= np.linalg.norm(found) > gauges.ROUNDING * np.linalg.norm(raw_ND)
    return found @ found.T


def _centred(gram_NN: Floats) -> Floats:
    """Products of these rows minus their own mean; rows equal but for rounding become zero."""
    mean_N = gram_NN.mean(0)
    found = gram_NN - mean_N - mean_N[:, None] + mean_N.mean()
    return found * (np.trace(found) > gauges.ROUNDING**2 * np.trace(gram_NN))


def _cka(k_NN: Floats, l_NN: Floats) -> float:
    """``gauges.alignment`` of centred products, the |X'Y|^2 of which is their sum over pairs."""
    own = _hsic(k_NN, k_NN), _hsic(l_NN, l_NN)
    return _hsic(k_NN, l_NN) / math.sqrt(own[0] * own[1]) if min(own) > 0 else 0.0


def _hsic(k_NN: Floats, l_NN: Floats) -> float:
    n, k_N, l_N = len(k_NN), k_NN.diagonal(), l_NN.diagonal()
    rest = k_N.sum() * l_N.sum() / ((n - 1) * (n - 2)) - k_N @ l_N * n / (n - 2)
    return float(np.vdot(k_NN, l_NN) + rest)


def _interval(value: float, se: float, blocks: int) -> Interval:
    low, high = value - _NORMAL * se, value + _NORMAL * se
    return Interval(
        value=float(value), low=float(low), high=float(high), se=float(se), draws=blocks, failed=0
    )


def _p(gap: Interval) -> float:
    """Two-sided, of a normal distribution."""
    if gap.se == 0:
        return 1.0 if gap.value == 0 else 0.0
    return math.erfc(abs(gap.value) / gap.se / math.sqrt(2))
