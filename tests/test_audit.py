"""The check of reports: it passes what is true, and every planted error makes it fail."""

import random
from collections import Counter
from typing import Any

import pytest
from audit_world import WORLDS, audit_rows, rows
from costs import cost
from hypothesis import example, given
from hypothesis import strategies as st
from planted import INVENTED, PLANTS

from pipeline.audit import texts
from pipeline.audit.check import agrees
from pipeline.audit.claims import Number
from pipeline.audit.summary import Auditor, Row, Summary
from pipeline.manifest import load_all


def kinds(dataset: str, findings: dict[str, Any], text: str, *claimed: str) -> set[str]:
    row = Row("x", findings, [(text, claimed)], text)
    return {d.kind for d in Auditor(load_all()[dataset]).defects(row)}


PRESENT = {"murmur": "Present", "murmur_here": "heard", "site": "MV", "murmur_sites": ("MV", "TV")}
ELSEWHERE = PRESENT | {"murmur_here": "not_heard_here", "murmur_sites": ("TV",)}
ICBHI = {"cycles": 7, "crackle_cycles": 3, "wheeze_cycles": 0}
SPR = dict.fromkeys(
    ("rhonchi", "wheezes", "stridors", "coarse_crackles", "fine_crackles", "wheezes_with_crackles"),
    0,
)
NONE: dict[str, Any] = dict.fromkeys(("crackles", "wheezes", "rhonchi", "stridors"), 0)
M, HERE = "murmur", "murmur_here"
# Sentences that no template writes: dataset, findings, sentence, the findings that it claims.
TRUE: list[tuple[str, dict[str, Any], str, tuple[str, ...]]] = [
    ("circor", PRESENT, "There is a murmur at this site.", (M, HERE)),
    ("circor", PRESENT, "Murmurs: mitral and tricuspid areas.", (M, "murmur_sites")),
    ("circor", {M: "Absent", HERE: "absent"}, "Without any murmur.", (M, HERE)),
    ("circor", {M: "Absent", HERE: "absent"}, "A murmur was not heard.", (M, HERE)),
    (
        "circor",
        {M: "Unknown", HERE: "unknown"},
        "It is unclear whether there is a murmur.",
        (M, HERE),
    ),
    ("circor", ELSEWHERE, "A murmur was heard over the tricuspid area only, not here.", (M, HERE)),
    ("icbhi", ICBHI, "In three of seven breathing cycles there are crackles.", ("crackle_cycles",)),
    ("icbhi", ICBHI, "Crackles: 3 of 7 breathing cycles; wheezes: none.", tuple(ICBHI)),
    (
        "icbhi",
        ICBHI | {"crackle_cycles": 7},
        "All seven breathing cycles had crackles.",
        ("cycles",),
    ),
    ("icbhi", {"age": 0.75}, "Recorded at an age of 9 months.", ("age",)),
    ("icbhi", {"sex": "F", "age": 70.0}, "A woman aged 70 years.", ("age", "sex")),
    ("hflung", NONE, "No crackles, wheezes, rhonchi or stridor were heard.", tuple(NONE)),
    ("hflung", NONE | {"wheezes": 2}, "Two wheezes were marked, but no rhonchi.", tuple(NONE)),
    (
        "sprsound",
        SPR | {"normal_events": 2},
        "Two breath sounds were annotated; both were normal.",
        ("normal_events", *SPR),
    ),
    (
        "sprsound",
        SPR | {"normal_events": 2, "rhonchi": 1},
        "Of three breath sounds, one had rhonchi and the rest were normal.",
        ("rhonchi", "normal_events"),
    ),
    (
        "coughvid",
        {"quality_2": "ok", "cough_type_2": "wet"},
        "Expert 2 judged the cough wet, the recording acceptable.",
        ("quality_2", "cough_type_2"),
    ),
    (
        "coughvid",
        {"fever_muscle_pain": False},
        "Neither fever nor muscle pain.",
        ("fever_muscle_pain",),
    ),
    (
        "uk_covid19",
        {"asthma": True, "other_respiratory_condition": False},
        "Asthma but no other respiratory condition.",
        ("asthma", "other_respiratory_condition"),
    ),
    (
        "uk_covid19",
        {"influenza_a_test_result": "Positive", "influenza_b_test_result": "Negative"},
        "The influenza B test was negative, the influenza A test positive.",
        ("influenza_a_test_result",),
    ),
    ("zchsound", {"diagnosis": "NORMAL"}, "There is no structural heart defect.", ("diagnosis",)),
    (
        "zchsound",
        {"age_days": 395, "sex": "F"},
        "A girl aged about 13 months.",
        ("age_days", "sex"),
    ),
]
FALSE: list[tuple[str, str, dict[str, Any], str, tuple[str, ...]]] = [
    ("contradiction", "circor", PRESENT, "No murmur was heard.", (M,)),
    ("contradiction", "circor", ELSEWHERE, "There is a murmur.", (M,)),
    ("certainty", "circor", {M: "Unknown"}, "A murmur was heard.", (M,)),
    ("certainty", "circor", {M: "Unknown"}, "Murmurs are absent.", (M,)),
    ("contradiction", "circor", PRESENT, "Whether there is a murmur is unclear.", (M,)),
    ("contradiction", "circor", PRESENT, "A murmur was heard over the aortic area.", (M,)),
    ("invention", "circor", PRESENT, "A diastolic murmur was heard.", (M,)),
    ("invention", "circor", {"site": "MV"}, "Wheezes over the mitral area.", ("site",)),
    ("invention", "icbhi", {"sex": "F"}, "A 63-year-old female patient.", ("sex",)),
    ("number", "icbhi", ICBHI, "Crackles in four of seven breathing cycles.", ("cycles",)),
    ("number", "icbhi", {"age": 16.9}, "A 17-year-old patient.", ("age",)),
    ("contradiction", "zchsound", {"age_days": 2000}, "A newborn.", ()),
    (
        "contradiction",
        "coughvid",
        {"cough_type_1": "dry", "cough_type_2": "wet"},
        "Expert 2 called the cough dry.",
        ("cough_type_2",),
    ),
    (
        "number",
        "sprsound",
        SPR | {"normal_events": 2, "rhonchi": 1},
        "Of three breath sounds, two were normal.",
        ("normal_events", "rhonchi"),
    ),
    ("number", "hflung", NONE | {"wheezes": 2}, "No crackles or wheezes.", ("crackles", "wheezes")),
    (
        "unstated",
        "icbhi",
        {"sex": "F", "age": 63.0},
        "Lung sounds of a female patient.",
        ("age", "sex"),
    ),
    (
        "unstated",
        "circor",
        PRESENT,
        "The murmur was heard over the mitral area.",
        ("murmur_sites",),
    ),
    (
        "unclaimed",
        "icbhi",
        {"sex": "F", "diagnosis": "COPD"},
        "A female patient with COPD.",
        ("sex",),
    ),
    ("unread", "icbhi", {"sex": "F"}, "A drowsy female patient.", ("sex",)),
    ("unread", "icbhi", {"sex": "F"}, "A female patient, 12.", ("sex",)),
    ("advice", "icbhi", {"sex": "F"}, "A female patient; follow-up recommended.", ("sex",)),
]


@pytest.mark.parametrize(("dataset", "findings", "text", "claimed"), TRUE)
def test_what_is_true_passes_in_words_that_no_template_has(
    dataset: str, findings: dict[str, Any], text: str, claimed: tuple[str, ...]
) -> None:
    assert kinds(dataset, findings, text, *claimed) - {"unclaimed"} == set()


@pytest.mark.parametrize(("kind", "dataset", "findings", "text", "claimed"), FALSE)
def test_what_is_false_fails(
    kind: str, dataset: str, findings: dict[str, Any], text: str, claimed: tuple[str, ...]
) -> None:
    assert kind in kinds(dataset, findings, text, *claimed)


@pytest.mark.parametrize("strict", [False, True], ids=["full", "strict"])
@pytest.mark.parametrize("dataset", WORLDS)
def test_no_report_differs_from_its_findings(dataset: str, strict: bool) -> None:
    summary = audit_rows(load_all()[dataset], rows(dataset, 250, strict=strict))
    assert summary.differences == 0, summary.examples


def test_planted_errors_are_found() -> None:
    planted, found, missed = Counter[str](), Counter[str](), list[str]()
    for dataset in WORLDS:
        manifest, draw = load_all()[dataset], random.Random(dataset)
        auditor = Auditor(manifest)
        made = list(rows(dataset, 100, seed=2))
        for row, other in zip(made, made[1:] + made[:1], strict=True):
            changed: list[tuple[str, list[tuple[str, Any]]]] = []
            for kind, plant in PLANTS.items():
                for i in draw.sample(range(len(row.sentences)), len(row.sentences)):
                    text, claimed = row.sentences[i]
                    new = plant(draw, manifest, dict(row.findings), text, tuple(claimed))
                    if new is not None and new != text:
                        said = [*row.sentences[:i], (new, claimed), *row.sentences[i + 1 :]]
                        changed.append((kind, said))
                        break
            changed.append(("invented", [*row.sentences, (draw.choice(INVENTED), ())]))
            foreign = [s for s in other.sentences if _is_false(auditor, row, other, s[1])]
            if foreign:
                changed.append(("of another recording", [*row.sentences, draw.choice(foreign)]))
            for kind, said in changed:
                planted[kind] += 1
                text = " ".join(t for t, _ in said)
                if auditor.defects(row._replace(sentences=said, text=text)):
                    found[kind] += 1
                else:
                    missed.append(f"{kind}: {text}")
    shares = {kind: found[kind] / planted[kind] for kind in planted}
    assert min(planted.values()) > 20
    assert min(shares.values()) > 0.99, (shares, missed[:9])


def _is_false(auditor: Auditor, row: Row, other: Row, claimed: Any) -> bool:
    """Code words or flags differ; numbers may be the same once they are rounded."""
    specs = auditor.lexicon.manifest.findings
    said = [n for n in claimed if n in row.findings or n in other.findings]
    return any(
        row.findings.get(n) != other.findings.get(n) and specs[n].kind != "number"
        for n in said
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "recorded", "unit", "right"),
    [
        (Number(7, unit="years"), 7.9, "years", True),
        (Number(8, unit="years"), 7.9, "years", False),
        (Number(9, unit="months"), 0.75, "years", True),
        (Number(10, unit="months"), 0.75, "years", False),
        (Number(1, unit="months", below=True), 0.04, "years", True),
        (Number(3, unit="years", about=True), 1000, "days", True),
        (Number(2, unit="years", about=True), 1000, "days", False),
        (Number(28.6, 1, "kg/m2"), 28.57, "kg/m2", True),
        (Number(28.5, 1, "kg/m2"), 28.57, "kg/m2", False),
        (Number(0, unit="days"), 0, "days", True),
    ],
)
def test_numbers_agree_at_their_own_precision(
    said: Number, recorded: float, unit: str, right: bool
) -> None:
    assert agrees(said, recorded, unit) is right


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        (" . ", "empty"),
        ("Lung sounds of a", "truncated"),
        ("Lung sounds of a.", "truncated"),
        ("Lung sounds (clean.", "truncated"),
        ("Weight None kg.", "garbage"),
        ("Caf\u00c3\u00a9.", "garbage"),
        ("Heart\ufffd sounds.", "garbage"),
        ("Heart\nsounds.", "garbage"),
    ],
)
def test_spoilt_texts(text: str, kind: str) -> None:
    assert kind in {d.kind for d in texts.defects(text)}


def test_sound_texts_are_not_spoilt() -> None:
    assert not list(texts.defects("Kawasaki\u2019s disease, 37 \u00b0C (caf\u00e9). None found."))


def test_a_text_is_its_sentences() -> None:
    row = Row("x", {"sex": "F"}, [("A female patient.", ("sex",))], "A female patient. More.")
    assert {d.kind for d in Auditor(load_all()["icbhi"]).defects(row)} == {"mismatch"}


def test_summaries_add_up_over_parts() -> None:
    manifest = load_all()["icbhi"]
    made = [r._replace(findings={**r.findings, "age": 33.0}) for r in rows("icbhi", 60)]
    made += made[:3]
    whole = audit_rows(manifest, made)
    parts = Summary()
    for start in range(0, len(made), 20):
        parts.include(audit_rows(manifest, made[start : start + 20]))
    assert parts.facts() == whole.facts()
    assert whole.differences and whole.duplicated == 6 and whole.repeated == 3
    assert {e.kind for e in parts.examples} == {e.kind for e in whole.examples}


def test_a_report_stays_cheap_to_check() -> None:
    manifest, made = load_all()["coughvid"], list(rows("coughvid", 500, seed=3))
    assert cost(lambda: audit_rows(manifest, made)) < 25  # about 4


@given(
    st.text(st.sampled_from("a o.,&{}%N\u00e9\n-(nan")) | st.text(),
    st.sampled_from(["", ".", " of.", "\n"]),
)
@example("None. nan {{ &lt;", ".")
def test_shortcuts_find_what_the_whole_patterns_find(text: str, end: str) -> None:
    text += end
    found = {(d.kind, d.detail) for d in texts.defects(text)}
    if not texts._EMPTY.fullmatch(text):
        garbage, dangling = texts._GARBAGE.search(text), texts._DANGLING.search(text)
        assert [d for k, d in found if k == "garbage"] == ([repr(garbage[0])] if garbage else [])
        ends = text.rstrip().endswith((".", "!", "?"))
        said = dangling is not None and ends
        assert any(d.startswith("ends") for k, d in found if k == "truncated") == (said or not ends)
        if dangling and ends:
            assert ("truncated", f"ends in {dangling[0]!r}") in found
