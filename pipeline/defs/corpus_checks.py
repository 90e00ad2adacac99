"""The checks over all datasets: nobody on both sides, and scores that can be believed."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from pipeline.steps import layout, pairs, store

LEAK = dg.AssetCheckSpec(
    name="no_person_on_both_sides",
    asset="pairs",
    blocking=True,
    description="Is any person of the alignment set in a task's validation or test, in any split "
    "variant? A failure means that scores would be read off persons the encoder has learned from; "
    "nothing behind `pairs` is made, and `where` names the persons and tasks.",
)
COMPARISON = [
    dg.AssetCheckSpec(
        name="clean_splits_leak_nothing",
        asset="comparison",
        description="Does a clean split share a person or a nearly equal sound with what was "
        "learned from, in the task or in alignment? Counted again from the tables and from the "
        "run's job file. A warning means that the scores listed in `where` may be too good.",
    ),
    dg.AssetCheckSpec(
        name="no_bad_verdict_on_a_clean_split",
        asset="comparison",
        description="Is a score on a clean split marked as unusable: constant features, a score "
        "below chance, or leakage? A warning means that the scores listed in `where` say nothing "
        "about the encoder.",
    ),
]
_LISTED = 20  # entries of `where`; all of them are in the tables


def leaks(corpus: layout.Corpus) -> list[dg.AssetCheckResult]:
    """Counts persons of the alignment set whom a task holds out, from the tables as written."""
    held = pairs.held_out_persons(store.read_rows(corpus.table("task_rows"), pairs.HELD_OUT))
    rows = store.read_rows(corpus.table("pairs"), ["person_id", "align"])
    aligned = {r["person_id"] for r in rows if r["align"]}
    found = pairs.shared(aligned, held)
    some = {p: sorted(w)[:_LISTED] for p, w in list(found.items())[:_LISTED]}
    return [
        dg.AssetCheckResult(
            check_name=LEAK.name,
            passed=not found,
            metadata={
                "persons": len(found),
                "aligned_persons": len(aligned),
                "held_out_persons": len(held),
                "where": dg.MetadataValue.json(some),
            },
        )
    ]


def compared(facts: Mapping[str, Any]) -> Sequence[dg.AssetCheckResult]:
    """What the comparison found on clean splits, among how many scores."""
    names = ("leakage_on_clean_splits", "bad_on_clean_splits")
    return [
        dg.AssetCheckResult(
            check_name=spec.name,
            passed=not facts[name],
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "found": len(facts[name]),
                "scores": facts["rows"],
                "where": dg.MetadataValue.json(dict(list(facts[name].items())[:_LISTED])),
            },
        )
        for spec, name in zip(COMPARISON, names, strict=True)
    ]
