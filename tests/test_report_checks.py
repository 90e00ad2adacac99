"""The checks on `<id>/reports`: they pass on our reports, and each one can fail."""

import copy
import json
from typing import Any

import chat_server
import dagster as dg
import pytest

from pipeline.defs import report_checks
from pipeline.manifest import load_all
from pipeline.steps import layout, report_table, reports_page, store


@pytest.fixture
def facts(materialise) -> dict[str, Any]:
    return materialise("reports")["reports"].facts


def outcomes(facts: dict[str, Any]) -> dict[str, dg.AssetCheckResult]:
    return {str(r.check_name): r for r in report_checks.results(facts)}


def test_our_reports_pass(facts: dict[str, Any]) -> None:
    found = outcomes(facts)
    names = {s.name for s in report_checks.specs(dg.AssetKey(["icbhi", "reports"]))}
    assert set(found) == names
    assert all(r.passed for r in found.values()), found
    said = found["says_what_the_metadata_say"].metadata
    assert said["reports"].value == 16 and said["sentences"].value > 60


@pytest.mark.parametrize(
    ("check", "regime", "change"),
    [
        ("says_what_the_metadata_say", "full", {"differences": 1}),
        ("says_what_the_metadata_say", "strict", {"differences": 1}),
        ("texts_are_whole", "full", {"words_min": 14}),
        ("texts_are_whole", "full", {"words_max": 91}),
        ("texts_are_whole", "strict", {"defects": {"empty": 1}}),
        ("texts_are_whole", "full", {"defects": {"truncated": 2}}),
        ("texts_are_whole", "full", {"defects": {"garbage": 1}}),
        ("texts_differ", "full", {"distinct_share": 0.2}),
    ],
)
def test_each_check_can_fail(
    facts: dict[str, Any], check: str, regime: str, change: dict[str, Any]
) -> None:
    bad = copy.deepcopy(facts)
    bad["audit"][regime] |= change
    failed = {name for name, result in outcomes(bad).items() if not result.passed}
    assert failed == {check}


TEMPLATE = """
{{ order("all") }}
{% call sentence("age", part="all") %}A patient aged {{ f.age.value | int }} years.{% endcall %}
{% call sentence("diagnosis", part="all") %}There is no diagnosis of {{ f.diagnosis }}.{% endcall %}
"""


def test_a_template_that_lies_is_stopped(tiny_settings, materialise, tmp_path) -> None:
    """The whole way: a wrong sentence in a template becomes a failed check with an example."""
    materialise("recordings")
    (tmp_path / "icbhi.j2").write_text(TEMPLATE)
    (tmp_path / "_phrases.j2").write_text("")
    facts = report_table.make(load_all()["icbhi"], tiny_settings, tmp_path).facts
    found = outcomes(facts)
    lies = found["says_what_the_metadata_say"]
    assert not lies.passed and lies.metadata["differences_full"].value >= 16
    assert "no diagnosis of" in str(lies.metadata["examples"].value)
    assert not found["texts_are_whole"].passed, "and it is too short"


def test_twenty_reports_beside_their_metadata(tiny_settings, materialise) -> None:
    materialise("reports")
    icbhi = load_all()["icbhi"]
    assert reports_page.make(icbhi, tiny_settings).facts["shown"] == 16
    assert reports_page.make(icbhi, tiny_settings).skipped
    here = layout.Dataset(tiny_settings.data_root, "icbhi")
    page = here.reports_page.read_text()
    assert page.startswith("<!doctype html>") and "http" not in page.split("</style>")[1][:500]
    for row in store.read_table(here.reports).to_pylist():
        for sentence in json.loads(row["full_sentences"]):
            assert sentence["text"].replace("'", "&#39;") in page
        assert row["recording_id"] in page


def _reorder_or_lie(report: str) -> str:
    """Sentences in another order, or with a finding that nobody recorded."""
    if len(report) % 2:
        return f"{report} There is also a murmur."
    return " ".join(f"{s}." for s in reversed(report.rstrip(".").split(". ")))


def test_rewriting_is_off_and_on_by_one_setting(tiny_settings, materialise) -> None:
    """Good answers replace the text and keep its facts; bad ones are refused and counted."""
    materialise("recordings")
    icbhi = load_all()["icbhi"]
    here = layout.Dataset(tiny_settings.data_root, "icbhi")
    report_table.make(icbhi, tiny_settings)
    before = store.read_table(here.reports).to_pylist()
    assert not any(r["full_rewritten"] or r["rewriter"] for r in before)

    with chat_server.served(_reorder_or_lie) as server:
        url = f"{server.url}#{chat_server.MODEL}"
        on = tiny_settings.model_copy(update={"rewriter": url, "rewrites_per_minute": 60_000})
        facts = report_table.make(icbhi, on).facts["rewriting"]
    after = store.read_table(here.reports).to_pylist()
    changed = [r for r in after if r["full_rewritten"]]
    assert 0 < len(changed) < len(after)
    assert facts["rewritten"] == sum(r["full_rewritten"] + r["strict_rewritten"] for r in after)
    assert sum(facts["refused"].values()) == 2 * len(after) - facts["rewritten"] > 0
    for old, new in zip(before, after, strict=True):
        assert old["full_sentences"] == new["full_sentences"]
        assert (old["full_text"] == new["full_text"]) == (not new["full_rewritten"])
        assert (old["full_hash"] == new["full_hash"]) == (not new["full_rewritten"])
        assert "murmur" not in new["full_text"]
    report_table.make(icbhi, tiny_settings)
    assert store.read_table(here.reports).to_pylist() == before
