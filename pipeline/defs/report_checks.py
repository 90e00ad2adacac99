"""The checks of one dataset's reports, read from what the rendering step measured."""

from typing import Any

import dagster as dg

from pipeline.defs.outcome import table
from pipeline.steps import report_parts, report_table

_ABOUT = {
    "says_what_the_metadata_say": "Does each sentence of the full and the strict reports state "
    "just what is recorded? A parser that shares no code with the templates reads it back into "
    "findings. A failure means at least one contradiction, invention, certainty that the source "
    "does not have, wrong number, or finding claimed and not stated: see `examples`, then the "
    "template.",
    "texts_are_whole": "Is no text empty, cut or with characters that do not belong in a report, "
    f"and has every full report {report_table.WORDS[0]} to {report_table.WORDS[1]} words? A "
    "failure means that the template leaves something out or that a metadata cell got into the "
    "text whole.",
    "texts_differ": "Which share of the full texts is distinct? A warning means that less than "
    "half are: many recordings cannot be told apart by their reports, since the dataset records "
    "little.",
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
    differences = {regime: audit[regime]["differences"] for regime in report_parts.REGIMES}
    low, high = report_table.WORDS
    full = audit["full"]
    broken = {
        f"{regime}_{kind}": audit[regime]["defects"].get(kind, 0)
        for regime in report_parts.REGIMES
        for kind in ("empty", "truncated", "garbage")
    }
    short = facts["reports"] > 0 and (full["words_min"] < low or full["words_max"] > high)
    examples = [e for regime in report_parts.REGIMES for e in audit[regime]["examples"]]
    shown: dict[str, Any] = {"examples": table(examples)} if examples else {}
    return [
        dg.AssetCheckResult(
            check_name="says_what_the_metadata_say",
            passed=not any(differences.values()),
            metadata={
                "reports": facts["reports"],
                "sentences": sum(audit[r]["sentences"] for r in report_parts.REGIMES),
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
