"""Alignment learns which report belongs to which sound: the table of benchmarks/learning.py."""

from pathlib import Path

import pytest

from benchmarks import learning

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4500)]

BEATEN = ("before", "shuffled_reports", "random_text", "release_cov")
BESIDE = ("masked_only", "infonce")  # in the table from one seed; nothing is claimed of them here


def test_the_aligned_encoder_beats_what_cannot_know_the_pairing(tmp_path: Path):
    """On a sample corpus that nothing was tuned on; intervals are paired over test persons."""
    arms = (*BEATEN, *BESIDE, "aligned")
    result = learning.table(tmp_path, 7, seeds=3, scale=2.0, arms=arms, once=BESIDE)
    print(learning.show(result))
    assert len(result["tasks"]) == 10
    assert set(result["mean_auroc"]) == set(arms)
    for arm in BEATEN:
        assert result["aligned_minus"][arm]["low"] > 0, learning.show(result)
