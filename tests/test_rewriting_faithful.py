"""Rewriting held against the reader of reports: the same findings, none more, none less."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_rewriting import Writer

from pipeline.audit import check
from pipeline.manifest import load_all
from pipeline.rewriting import faithful
from pipeline.rewriting.cache import Cache
from pipeline.rewriting.prompt import load
from pipeline.rewriting.rewrite import Accept, Draft, rewrite_all
from pipeline.steps import reports

CIRCOR: dict[str, Any] = {
    "age_group": "Child", "sex": "Female", "height": 98.0, "weight": 15.9, "site": "MV",
    "heart_rate": 101.4, "murmur": "Absent", "murmur_here": "absent", "outcome": "Normal",
}  # fmt: skip
ICBHI: dict[str, Any] = {
    "age": 65.0, "sex": "M", "bmi": 28.5, "location": "Al", "mode": "sc", "device": "Meditron",
    "cycles": 8, "crackle_cycles": 3, "wheeze_cycles": 0, "diagnosis": "COPD",
}  # fmt: skip
LUNGS = (
    "A 65-year-old male patient was auscultated at the left anterior chest with a Welch Allyn "
    "Meditron Master Elite electronic stethoscope in sequential single-channel acquisition. "
    "Crackles were heard in 3 of 8 breathing cycles, and no wheezes. "
    "The body mass index is 28.5 kg/m2. "
)
HEART = (
    "In a female child, the heart was auscultated over the mitral area. "
    "Height is 98 cm and weight 15.9 kg, with a heart rate of about 101 beats per minute. "
)
CLEAR = HEART + "No murmur was found. A medical expert judged the clinical outcome as normal."


@pytest.fixture(scope="module")
def accepts() -> dict[str, Accept]:
    return {name: faithful.acceptor(load_all()[name]) for name in ("circor", "icbhi")}


def draft(dataset: str, values: dict[str, Any], strict: bool = False, number: int = 0) -> Draft:
    manifest = load_all()[dataset]
    omit = manifest.strict_masks if strict else frozenset[str]()
    report = reports.render(manifest, f"{dataset}/{number}", values, omit)
    return Draft(
        dataset=dataset,
        recording_id=f"{dataset}/{number}",
        regime="strict" if strict else "full",
        sentences=tuple((s.text, s.findings) for s in report.sentences),
        values=values,
    )


def test_other_words_for_the_same_findings(accepts: dict[str, Accept]) -> None:
    assert accepts["circor"](draft("circor", CIRCOR), CLEAR) is None
    lungs = LUNGS + "The diagnosis is COPD."
    assert accepts["icbhi"](draft("icbhi", ICBHI), lungs) is None
    unknown = CIRCOR | {"murmur": "Unknown", "murmur_here": "unknown"}
    said = CLEAR.replace("No murmur was found", "It is unclear whether there is a murmur")
    assert accepts["circor"](draft("circor", unknown), said) is None


@pytest.mark.parametrize(
    ("before", "after", "reasons"),
    [
        ("No murmur was found.", "A murmur was found.", {"contradiction"}),
        ("No murmur was found.", "There may be a murmur.", {"certainty", "contradiction"}),
        ("No murmur was found. ", "", {"lost"}),
        ("female", "male", {"contradiction"}),
        ("mitral", "aortic", {"contradiction", "invention"}),
        ("98 cm", "89 cm", {"number"}),
        ("about 101", "101", {"added", "lost"}),
        ("as normal.", "as normal. Follow-up is recommended.", {"advice"}),
        ("as normal.", "as normal. There is a fever.", {"invention"}),
        ("as normal.", "as normal. The child is wombly.", {"unread"}),
        ("as normal.", "as normal. The child is not pregnant.", {"invention"}),
        ("as normal.", "as", {"truncated"}),
    ],
)
def test_another_finding_or_one_less_is_refused(
    accepts: dict[str, Accept], before: str, after: str, reasons: set[str]
) -> None:
    assert CLEAR.count(before) == 1
    reason = accepts["circor"](draft("circor", CIRCOR), CLEAR.replace(before, after))
    assert reason in reasons and reason in faithful.REFUSALS | check.KINDS


@pytest.mark.parametrize(
    "extra", ["The diagnosis is COPD.", "Chronic obstructive pulmonary disease was diagnosed."]
)
def test_a_label_has_no_way_into_a_strict_text(accepts: dict[str, Accept], extra: str) -> None:
    """It is true, so only the comparison with the strict sentences can tell."""
    strict = draft("icbhi", ICBHI, strict=True)
    assert "diagnosis" not in strict.stated
    accept = accepts["icbhi"]
    assert accept(strict, strict.text) is None
    assert accept(strict, f"{strict.text} {extra}") == "added"
    assert accept(draft("icbhi", ICBHI), f"{draft('icbhi', ICBHI).text} {extra}") is None


@pytest.mark.parametrize(("dataset", "values"), [("circor", CIRCOR), ("icbhi", ICBHI)])
def test_every_sentence_counts_whatever_the_phrasing(
    accepts: dict[str, Accept], dataset: str, values: dict[str, Any]
) -> None:
    for number in range(12):
        whole = draft(dataset, values, number=number)
        said = [text for text, _ in whole.sentences]
        assert accepts[dataset](whole, " ".join(reversed(said))) is None
        for left in range(len(said)):
            assert accepts[dataset](whole, " ".join(said[:left] + said[left + 1 :])) == "lost"


def test_a_report_that_the_reader_does_not_read_is_not_rewritten(
    accepts: dict[str, Accept],
) -> None:
    silent = Draft(
        dataset="circor", recording_id="circor/1", regime="full", values=CIRCOR,
        sentences=(("The recording was made.", ("sex",)),),
    )  # fmt: skip
    assert accepts["circor"](silent, "A recording was made.") == "unverified"


def test_rows_with_the_rule_in_force(accepts: dict[str, Accept], tmp_path: Path) -> None:
    """A model that turns every report around, and knows one diagnosis that it should not."""
    drafts = [draft("icbhi", ICBHI, strict, n) for n in range(4) for strict in (False, True)]
    table = [
        {
            "recording_id": full.recording_id,
            "dataset": "icbhi",
            **_columns(full),
            **_columns(strict),
        }
        for full, strict in zip(drafts[::2], drafts[1::2], strict=True)
    ]

    def write(report: str) -> str:
        turned = " ".join(reversed(re.split(r"(?<=[.]) ", report)))
        told = report == drafts[1].text
        return f"{turned} The diagnosis is COPD." if told else turned

    made, counts = rewrite_all(
        table, {d.recording_id: ICBHI for d in drafts}, Writer(write), accepts["icbhi"],
        Cache(tmp_path / "answers.sqlite"), load(), lambda _: None,
    )  # fmt: skip
    assert counts.facts() == {"texts": 8, "asked": 8, "rewritten": 7, "refused": {"added": 1}}
    assert made[0]["strict_text"] == drafts[1].text and made[0]["strict_refusal"] == "added"
    assert made[0]["full_text"] != drafts[0].text


def _columns(one: Draft) -> dict[str, Any]:
    said = [{"text": text, "findings": list(names)} for text, names in one.sentences]
    columns = {"text": one.text, "sentences": json.dumps(said), "terms": [], "hash": ""}
    return {f"{one.regime}_{name}": value for name, value in columns.items()}
