"""The checks of one dataset's reports, read from what the rendering step measured."""

from typing import Any

import dagster as dg

from pipeline.defs.outcome import table
from pipeline.steps import report_table

_ABOUT = {
    "says_what_the_metadata_say": "A parser that shares no code with the templates reads each "
    "sentence of the full and the strict reports back into findings. Fails on a single "
    "contradiction, invention, certainty that the source does not have, wrong number, or finding "
    "that a sentence claims and does not state.",
    "texts_are_whole": "No text is empty, cut or holds characters that do not belong in a report, "
    f"and full reports have {report_table.WORDS[0]} to {report_table.WORDS[1]} words.",
    "texts_differ": "Share of distinct full texts. A low share means that many recordings cannot "
    "be told apart by their reports; it warns, since some datasets record little.",
}
DISTINCT_SHARE = 0.5


def specs(reports: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Declares the checks on ``<id>/reports``; the first two stop what follows."""
    return [
        dg.AssetCheckSpec(
            name=name, asset=reports, description=about, blocking=name != "texts_differ"
        )
        for name, about in _ABOUT.items()
    ]


def results(facts: dict[str, Any]) -> list[dg.AssetCheckResult]:
    """Outcomes, with their numbers and examples of what is wrong."""
    audit = facts["audit"]
    differences = {regime: audit[regime]["differences"] for regime in report_table.REGIMES}
    low, high = report_table.WORDS
    full = audit["full"]
    broken = {
        f"{regime}_{kind}": audit[regime]["defects"].get(kind, 0)
        for regime in report_table.REGIMES
        for kind in ("empty", "truncated", "garbage")
    }
    short = facts["reports"] > 0 and (full["words_min"] < low or full["words_max"] > high)
    examples = [e for regime in report_table.REGIMES for e in audit[regime]["examples"]]
    shown: dict[str, Any] = {"examples": table(examples)} if examples else {}
    return [
        dg.AssetCheckResult(
            check_name="says_what_the_metadata_say",
            passed=not any(differences.values()),
            metadata={
                "reports": facts["reports"],
                "sentences": sum(audit[r]["sentences"] for r in report_table.REGIMES),
                **{f"differences_{r}": n for r, n in differences.items()},
                "by_kind": dg.MetadataValue.json({r: audit[r]["defects"] for r in differences}),
            }
            | shown,
        ),
        dg.AssetCheckResult(
            check_name="texts_are_whole",
            passed=not any(broken.values()) and not short,
            metadata=broken | {k: full[k] for k in ("words_min", "words_mean", "words_max")},
        ),
        dg.AssetCheckResult(
            check_name="texts_differ",
            passed=full["distinct_share"] >= DISTINCT_SHARE,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={k: full[k] for k in ("distinct", "distinct_share", "vocabulary")},
        ),
    ]
