"""The check of one dataset's recordings: how much of the archive could be used."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

USABLE_SHARE = 0.8
# Left out on purpose, by the dataset's own rule: no sign of a damaged archive.
_INTENDED = ("excluded",)
NAME = "most_of_it_is_usable"


def spec(recordings: dg.AssetKey) -> dg.AssetCheckSpec:
    """Declares the check on ``<id>/recordings``."""
    return dg.AssetCheckSpec(
        name=NAME,
        asset=recordings,
        description=f"Could at least {USABLE_SHARE:.0%} of what files and metadata name be used, "
        "apart from what the dataset's own rule leaves out? A warning means that much of the "
        "archive is damaged, incomplete or not laid out as its publisher ships it: `not_used` in "
        "the asset's metadata has the reasons.",
    )


def results(facts: Mapping[str, Any]) -> Sequence[dg.AssetCheckResult]:
    """The outcome, with its numbers."""
    reasons: Mapping[str, int] = facts["quarantine_by_reason"]
    refused = sum(count for reason, count in reasons.items() if reason not in _INTENDED)
    total = facts["recordings"] + refused
    share = facts["recordings"] / total if total else 0.0
    return [
        dg.AssetCheckResult(
            check_name=NAME,
            passed=share >= USABLE_SHARE,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "usable": facts["recordings"],
                "refused": refused,
                "left_out_by_rule": facts["quarantined"] - refused,
                "usable_share": round(share, 4),
            },
        )
    ]
