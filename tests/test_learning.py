"""Alignment learns which report belongs to which sound: the table of benchmarks/learning.py."""

from pathlib import Path

import pytest

from benchmarks import learning

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_the_aligned_encoder_beats_the_untrained_and_the_shuffled_one(tmp_path: Path):
    """On a sample corpus that nothing was tuned on; intervals are paired over test persons."""
    arms = ("before", "shuffled", "aligned")  # the script adds masked modelling alone
    result = learning.table(tmp_path, corpus_seed=7, seeds=3, scale=2.0, arms=arms)
    print(learning.show(result))
    assert len(result["tasks"]) == 10
    for arm in arms[:2]:
        assert result["aligned_minus"][arm]["low"] > 0, learning.show(result)
