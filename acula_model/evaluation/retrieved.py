"""Retrieval between sounds and reports of held-out persons, with intervals over persons."""

# N = pairs, Q = width of the shared space, R = resamples

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from acula_model.evaluation import intervals
from acula_model.evaluation.examples import NotRun
from acula_model.evaluation.intervals import Interval
from acula_model.evaluation.metrics import Floats, Statistic
from acula_model.losses.contrastive import unit
from acula_model.retrieval import CUTS, Ranked, ranked


@dataclass(frozen=True, kw_only=True)
class Way:
    """How well queries of one side find a partner on the other.

    Attributes:
        queries: Those that have a candidate which is no hit.
        persons: Of these.
        recall: k -> share with a hit among the k nearest. The candidates stay the same in all
            resamples; the queries' persons are drawn.
        chance: k -> the same of a random order of the candidates.
        median_rank: Of the nearest hit, from 1.
        chance_rank: Of a random order.
    """

    queries: int
    persons: int
    recall: dict[int, Interval]
    chance: dict[int, float]
    median_rank: Interval
    chance_rank: float


def both_ways(
    audio_NQ: Tensor, text_NQ: Tensor, finding_N: Tensor, persons: Sequence[str]
) -> dict[str, Way]:
    """``report`` from sound and ``sound`` from report, among the pairs of one dataset.

    Args:
        audio_NQ: Sounds in the space of the reports, [N, Q] (``heads.Bridge.audio``).
        text_NQ: Their reports, [N, Q].
        finding_N: Integer id of each report's findings: any with the same is a hit.
        persons: [N].

    Raises:
        NotRun: No pair has a candidate that is no hit.
    """
    audio_NQ, text_NQ = unit(audio_NQ.float()), unit(text_NQ.float())
    one_N = torch.zeros(len(audio_NQ), dtype=torch.int64)
    owners = np.asarray(persons)
    found: dict[str, Way] = {}
    for name, query, key in (("report", audio_NQ, text_NQ), ("sound", text_NQ, audio_NQ)):
        seen, chance, some_N = ranked(query, key, finding_N, one_N)
        if not some_N.any():
            raise NotRun("all reports state the same findings, so every one is a hit")
        found[name] = _way(seen, chance, owners[some_N.numpy()].tolist())
    return found


def _way(seen: Ranked, chance: Ranked, persons: Sequence[str]) -> Way:
    return Way(
        queries=len(persons),
        persons=len(set(persons)),
        recall={k: intervals.of_statistic(_mean(seen.within(k)), persons) for k in CUTS},
        chance={k: float(chance.within(k).mean()) for k in CUTS},
        median_rank=intervals.of_statistic(_median(seen.rank()), persons),
        chance_rank=float(chance.rank().quantile(0.5)),
    )


def _mean(value_N: Tensor) -> Statistic:
    known_N = value_N.numpy()
    return lambda weights_RN: weights_RN @ known_N / weights_RN.sum(1)


def _median(value_N: Tensor) -> Statistic:
    """Of an even number, the mean of the two in the middle."""
    value = value_N.numpy()
    order = np.argsort(value, kind="stable")

    def median(weights_RN: Floats) -> Floats:
        passed_RN = np.cumsum(weights_RN[:, order], axis=1)
        half_R1 = passed_RN[:, -1:] / 2
        low_R, high_R = (passed_RN >= half_R1).argmax(1), (passed_RN > half_R1).argmax(1)
        return (value[order][low_R] + value[order][high_R]) / 2

    return median
