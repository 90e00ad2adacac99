"""The rendering engine with templates made here: a report says what is recorded, or fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import manifest_values

from pipeline.findings import Resolver, UnknownCode, resolve
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import layout, report_table, reports, store

MANIFEST = Manifest.model_validate(
    manifest_values(
        findings={
            "age": {"kind": "number", "label": "age", "unit": "years", "bands": [1, 18]},
            "murmur": {
                "kind": "code", "label": "murmur", "absent": ["N"], "unknown": ["U"],
                "words": {"P": "a murmur", "N": "no murmur", "U": "undetermined"},
            },
            "grade": {"kind": "code", "label": "grade", "words": {"1": "I/VI", "3": "III/VI"}},
            "sites": {
                "kind": "codes", "label": "sites", "absent": ["-"],
                "words": {"AV": "aortic", "MV": "mitral", "-": "none"},
            },
            "cough": {"kind": "flag", "label": "cough"},
        },
        tasks={
            "murmur": {
                "title": "t", "label": "murmur", "positive": ["P"], "negative": ["N"],
                "masks": ["grade"],
            }
        },
    )
)  # fmt: skip
TEMPLATE = """
{% import "_phrases.j2" as say with context %}
{% call sentence("age") %}
{{ pick("patient aged", "age") }} {{ say.years(f.age) }}.
{% endcall %}
{% if unknown("murmur") %}
{% call sentence("murmur") %}Whether there is a murmur is unknown.{% endcall %}
{% elif has("murmur", "grade") %}
{% call sentence("murmur", "grade") %}{{ f.murmur }} of grade {{ f.grade }}.{% endcall %}
{% else %}
{% call sentence("murmur") %}There is {{ f.murmur }}.{% endcall %}
{% endif %}
{% call sentence("cough") %}{{ "Cough" if f.cough.value else "No cough" }} is reported.{% endcall %}
"""
ORDER = '{{ order("who what", "what who") }}'
PHRASES = '{% macro years(age) %}{{ "%g" | format(age.value) }} years{% endmacro %}'
FULL = {"age": 7, "murmur": "P", "grade": "3", "cough": False}
Render = Callable[..., reports.Report]


@pytest.fixture
def render(tmp_path: Path) -> Render:
    """Render with a template of its own folder, since templates are kept once read."""

    def run(
        template: str = TEMPLATE, values: dict[str, Any] = FULL, name: str = "heart/1",
        omit: frozenset[str] = frozenset(),
    ) -> reports.Report:  # fmt: skip
        (tmp_path / "heart.j2").write_text(template)
        (tmp_path / "_phrases.j2").write_text(PHRASES)
        return reports.render(MANIFEST, name, values, omit, tmp_path)

    return run


def test_each_sentence_lists_what_it_states(render: Render) -> None:
    report = render()
    assert [(s.text, s.findings) for s in report.sentences[1:]] == [
        ("A murmur of grade III/VI.", ("murmur", "grade")),
        ("No cough is reported.", ("cough",)),
    ]
    assert report.sentences[0].text in ("Patient aged 7 years.", "Age 7 years.")
    assert report.terms == ("age~1", "murmur=P", "grade=3", "cough=no")


def test_what_is_not_recorded_is_not_said(render: Render) -> None:
    report = render(values={"murmur": "N"})
    assert report.text == "There is no murmur." and report.terms == ("murmur=N",)
    assert render(values={"murmur": "U"}).text == "Whether there is a murmur is unknown."


def test_strict_leaves_out_labels_and_what_gives_them_away(render: Render) -> None:
    report = render(omit=MANIFEST.strict_masks)
    assert MANIFEST.strict_masks == {"murmur", "grade"}
    assert "murmur" not in report.text and "grade" not in report.text
    assert [s.findings for s in report.sentences] == [("age",), ("cough",)]
    assert not any(t.startswith(("murmur", "grade")) for t in report.terms)


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ('{% call sentence("age") %}{{ colour }}{% endcall %}', "'colour' is undefined"),
        ("{{ f.age }}", "'age' is used outside a sentence"),
        ('{% call sentence("age") %}{{ f.cough }}{% endcall %}', "'cough' is used outside"),
        ('{% call sentence("age") %}x{% endcall %}{{ f.age }}', "'age' is used outside"),
        ('{% call sentence("age") %}{{ f.colour }}{% endcall %}', "no finding 'colour'; known"),
        ('{% call sentence("colour") %}Red.{% endcall %}', "no finding 'colour'; known: age"),
        ('{% if has("colour") %}{% endif %}', "no finding 'colour'"),
        ('{% if status("colour") == "stated" %}{% endif %}', "no finding 'colour'"),
        ('Murmur. {% call sentence("age") %}Old.{% endcall %}', "outside a sentence: 'Murmur.'"),
        ('{% call sentence("sites") %}Over {{ f.sites }}.{% endcall %}', "no sentence for heart/1"),
        ('{% call sentence("age") %} {% endcall %}', "no sentence for heart/1"),
        ("{{ f.__class__.__mro__ }}", "__class__"),
        ('{% call sentence("age") %}{{ f.age.__class__ }}{% endcall %}', "unsafe"),
        ("{{ pick.__globals__ }}", "unsafe"),
        ("{{ pick.__func__('a') }}", "unsafe"),
        ('{% import "_phrases.j2" as say with context %}{{ say.__init__ }}', "unsafe"),
        ('{% import "_phrases.j2" as say with context %}{{ say.years.__call__ }}', "unsafe"),
        ("{{ f._Findings__look('age') }}", "_Findings__look"),
        ("{{ sentence.__globals__ }}", "__globals__"),
        ('{% include "../secret.j2" %}', "secret"),
        ('{% call sentence("age") %}{{ pick() }}{% endcall %}', "pick.. needs a phrasing"),
        ('{% call sentence("age") %}{{ ["a", "b"] | random }}{% endcall %}', "random"),
        ('{% call sentence("age") %}{% endif %}', "endif"),
        ("{% call sentence() %}All is well.{% endcall %}", "names the findings .* none"),
        ('{% call sentence("age", part="who") %}Old.{% endcall %}', "part 'who'; declared: none"),
        (ORDER + '{% call sentence("age") %}Old.{% endcall %}', "part ''; declared: "),
        (ORDER + '{% call sentence("age", part="why") %}Old.{% endcall %}', "part 'why'"),
        (ORDER + ORDER, "order.. comes once, before all sentences"),
        ('{% call sentence("age") %}Old.{% endcall %}' + ORDER, "before all sentences"),
        ('{{ order("who what", "who") }}', "each order names each part once"),
        ('{{ order("who who") }}', "each order names each part once"),
        ("{{ order() }}", "pick.. needs a phrasing"),
    ],
)
def test_a_wrong_template_fails_and_is_named(render: Render, template: str, error: str) -> None:
    with pytest.raises(ValueError, match=rf"templates/reports/heart\.j2: .*{error}"):
        render(template)


def test_masked_findings_cannot_be_seen_from_outside_a_sentence(render: Render) -> None:
    """A branch on a label that is left out must not give it away."""
    template = (
        '{% call sentence("age") %}Age {{ f.age }}'
        '{% if status("murmur") != "not_recorded" or has("murmur") %} leak{% endif %}.{% endcall %}'
    )
    assert render(template).text == "Age 7 leak."
    assert render(template, omit=frozenset({"murmur"})).text == "Age 7."


def test_macros_see_the_report_that_imports_them(tmp_path: Path) -> None:
    """Also where they read more than their arguments, and after another report."""
    macros = "{% macro a() %}{{ f.age.value }}{% endmacro %}{% macro b() %}{{ who }}{% endmacro %}"
    (tmp_path / "_phrases.j2").write_text(macros)
    (tmp_path / "heart.j2").write_text(
        '{% set who = status("grade") %}{% import "_phrases.j2" as say with context %}'
        '{% call sentence("age") %}{{ say.a() }}, {{ say.b() }}.{% endcall %}'
    )
    templates = reports.environment(tmp_path)
    texts = [
        reports.render_all("heart", "heart/1", resolve(MANIFEST, values), omit, templates)
        for values in (FULL, {"age": 8})
        for omit in ([frozenset[str](), frozenset({"grade"})],)
    ]
    said = [[report.text for report in both] for both in texts]
    assert said == [["7, stated.", "7, not_recorded."], ["8, not_recorded.", "8, not_recorded."]]


def test_equal_values_of_other_kinds_are_other_findings() -> None:
    """Findings are shared between recordings; 1, 1.0, True and "1" compare equal or look it."""
    resolver = Resolver(MANIFEST)
    ages = [resolver({"age": age})["age"].value for age in (1, 1.0, 0.0, -0.0, 1)]
    assert [str(a) for a in ages] == ["1", "1.0", "0.0", "-0.0", "1"]
    for wrong in ({"age": True}, {"grade": 1}, {"cough": 1}):
        assert resolver({"age": 1, "grade": "1", "cough": True})["cough"].status == "stated"
        with pytest.raises(UnknownCode):
            resolver(wrong)


def test_phrasing_follows_from_the_id_alone(render: Render) -> None:
    texts = [render(name=f"heart/{n}").text for n in range(60)]
    assert texts == [render(name=f"heart/{n}").text for n in range(60)]
    aged = sum(t.startswith("Patient aged") for t in texts)
    assert 15 < aged < 45 and len(set(texts)) == 2


def test_a_phrasing_does_not_depend_on_what_else_is_said(render: Render) -> None:
    """Neither a finding left out nor an edited sentence rewords the others."""
    edited = TEMPLATE.replace("There is", "Here is").replace("No cough", "No")
    for n in range(40):
        name = f"heart/{n}"
        first = render(name=name).sentences[0]
        assert render(name=name, omit=MANIFEST.strict_masks).sentences[0] == first
        assert render(edited, name=name).sentences[0] == first


def test_a_new_phrasing_takes_its_share_and_leaves_the_rest(render: Render) -> None:
    more = TEMPLATE.replace('"patient aged",', '"patient aged", "years:",')
    before = [render(name=f"heart/{n}").text for n in range(90)]
    after = [render(more, name=f"heart/{n}").text for n in range(90)]
    changed = [a for a, b in zip(after, before, strict=True) if a != b]
    assert all(t.startswith("Years:") for t in changed) and 15 < len(changed) < 45


def test_orders_are_all_used_and_keep_parts_together(render: Render) -> None:
    template = ORDER + (
        '{% call sentence("age", part="who") %}Age {{ f.age }}.{% endcall %}'
        '{% call sentence("murmur", part="what") %}There is {{ f.murmur }}.{% endcall %}'
        '{% call sentence("cough", part="who") %}No cough.{% endcall %}'
    )
    texts = [render(template, name=f"heart/{n}").text for n in range(60)]
    assert set(texts) == {
        "Age 7. No cough. There is a murmur.",
        "There is a murmur. Age 7. No cough.",
    }
    for n, text in enumerate(texts):
        other = {"age": 7, "murmur": "N", "cough": False}
        assert render(template, other, f"heart/{n}").text == text.replace("a mur", "no mur")


def test_a_report_is_rebuilt_byte_for_byte_or_says_why_not(render: Render, tmp_path: Path) -> None:
    report = render(omit=MANIFEST.strict_masks)
    version = reports.template_version("heart", tmp_path)

    def rebuild(text: str = report.text, made_by: str = version) -> reports.Report:
        return reports.rebuild(
            MANIFEST, "heart/1", FULL, text=text, version=made_by,
            omit=MANIFEST.strict_masks, folder=tmp_path,
        )  # fmt: skip

    assert rebuild() == report
    with pytest.raises(reports.NotRebuilt, match=f"template 0123; the one here is {version}"):
        rebuild(made_by="0123")
    with pytest.raises(reports.NotRebuilt, match=r"another text from character 4.*report step"):
        rebuild(report.text[:4] + "X" + report.text[5:])


def test_the_version_follows_the_template_and_the_shared_macros(
    render: Render, tmp_path: Path
) -> None:
    def version() -> str:
        return reports.template_version("heart", tmp_path)

    render()
    first = version()
    (tmp_path / "lung.j2").write_text("another dataset's")
    assert version() == first
    (tmp_path / "_phrases.j2").write_text(PHRASES + " ")
    assert version() != first
    render()  # writes both as they were
    assert version() == first
    (tmp_path / "heart.j2").write_text(TEMPLATE + " ")
    assert version() != first


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("murmur", "P", "stated"),
        ("murmur", "N", "absent"),
        ("murmur", "U", "unknown"),
        ("murmur", None, "not_recorded"),
        ("cough", True, "stated"),
        ("cough", False, "absent"),
        ("age", 0, "stated"),
        ("sites", ("AV", "MV"), "stated"),
        ("sites", ("-",), "absent"),
        ("sites", (), "not_recorded"),  # no code at all states nothing, least of all absence
        ("sites", [], "not_recorded"),
    ],
)
def test_status_of_a_value(name: str, value: Any, status: str) -> None:
    found = resolve(MANIFEST, {} if value is None else {name: value})[name]
    assert found.status == status
    assert bool(found.terms) == (status != "not_recorded")


@pytest.mark.parametrize(
    "values",
    [
        {"murmur": "X"}, {"murmur": 1}, {"sites": ("AV", "X")}, {"colour": "red"},
        {"cough": "False"}, {"cough": 0}, {"age": "7"}, {"age": True}, {"age": float("nan")},
        {"age": float("inf")},
    ],
)  # fmt: skip
def test_a_value_without_a_word_is_an_error(values: dict[str, Any]) -> None:
    with pytest.raises(UnknownCode):
        resolve(MANIFEST, values)


def test_words_are_joined_and_numbers_read_well() -> None:
    found = resolve(MANIFEST, {"sites": ("AV", "MV"), "age": 7.0})
    assert str(found["sites"]) == "aortic and mitral" and str(found["age"]) == "7"
    assert found["age"].unit == "years"


def test_the_table_skips_itself_and_follows_its_template_alone(
    materialise: Callable[..., dict[str, store.Outcome]], icbhi: Manifest,
    tiny_settings: Settings, tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "_phrases.j2").write_text("")
    template = tmp_path / "icbhi.j2"
    template.write_text(
        '{% call sentence("location") %}Over the {{ f.location }}.{% endcall %}'
        '{% call sentence("diagnosis") %}It is {{ f.diagnosis }}.{% endcall %}'
    )

    def make() -> store.Outcome:
        return report_table.make(icbhi, tiny_settings, tmp_path)

    heard = materialise("recordings")["recordings"].version
    first = make()
    assert not first.skipped and make().skipped
    here = layout.Dataset(tiny_settings.data_root, "icbhi")
    rows = store.read_table(here.reports).to_pylist()
    assert len(rows) == first.facts["reports"] == 16
    assert {r["strict_text"] for r in rows} == {"Over the trachea."}
    one = next(r for r in rows if r["recording_id"].startswith("icbhi/101"))
    assert json.loads(one["full_sentences"])[1] == {
        "text": "It is chronic obstructive pulmonary disease.", "findings": ["diagnosis"],
    }  # fmt: skip
    assert one["full_terms"] == ["location=Tc", "diagnosis=COPD"]

    template.write_text(template.read_text().replace("Over", "Above"))
    second = make()
    assert not second.skipped and second.version != first.version
    assert {r["strict_text"] for r in store.read_table(here.reports).to_pylist()} == {
        "Above the trachea."
    }
    again = materialise("recordings")["recordings"]
    assert again.skipped and again.version == heard


def test_the_table_does_not_depend_on_the_size_of_its_parts(
    materialise: Callable[..., dict[str, store.Outcome]], icbhi: Manifest,
    tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    materialise("recordings")
    here = layout.Dataset(tiny_settings.data_root, "icbhi")
    alone = tiny_settings.model_copy(update={"workers": 1})
    made: list[tuple[bytes, Any]] = []
    for rows in (1024, 5):
        monkeypatch.setattr(report_table, "ROWS_PER_PART", rows)
        here.reports_stamp.unlink(missing_ok=True)
        facts = report_table.make(icbhi, alone).facts
        made.append((here.reports.read_bytes(), facts))
    assert made[0] == made[1] and made[0][1]["reports"] == 16
