"""Report templates of the seven alignment datasets: what every text must be, whatever it says."""

import importlib
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
import real_metadata
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from worlds import needs, write_small

from pipeline.findings import resolve
from pipeline.manifest import FindingSpec, Manifest, load_all
from pipeline.records import Recording, Value
from pipeline.steps import reports
from pipeline.vocabulary import Authority, Concept

MANIFESTS = {d: m for d, m in load_all().items() if m.use == "alignment"}
# Letters that are spoken, not read, and words whose first sound is not that of their letter.
VOWEL = r"(?!one|uni|eu)[aeiou]|8|11-|18-|[AEIO][A-Z]"
AN = re.compile(rf"\b[Aa]n (?!{VOWEL})")
A = re.compile(rf"\b[Aa] (?={VOWEL})")
BROKEN = re.compile(r"  |\bNone\b|\bnan\b|[{}%\[\]]|\.\.|[,;:]\.|\( | [.,;:)]|\b(\w+) \1\b")

Rows = dict[str, dict[str, Value]]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Rows]:
    """Findings by recording id, of a sample archive or of the real metadata."""
    kept: dict[tuple[str, str], Rows] = {}

    def read(dataset: str, kind: str) -> Rows:
        if (dataset, kind) not in kept:
            root = tmp_path_factory.mktemp(dataset)
            if kind == "sample":
                write_small(importlib.import_module(f"pipeline.samples.{dataset}").write, root)
            else:
                real_metadata.ARCHIVES[dataset](root)
            reader = importlib.import_module(f"pipeline.readers.{dataset}")
            kept[dataset, kind] = {
                f"{dataset}/{r.native_id}": r.findings
                for r in reader.read(root)
                if isinstance(r, Recording)
            }
        return kept[dataset, kind]

    return read


def well_formed(report: reports.Report) -> None:
    text = report.text
    assert text.isascii() and not BROKEN.search(text), text
    assert not A.search(text.replace("influenza A ", "")) and not AN.search(text), text
    for sentence in report.sentences:
        assert sentence.findings
        assert re.fullmatch(r"[A-Z0-9].+\w\.|[A-Z0-9].+\)\.", sentence.text), sentence.text


def words_of_labels(manifest: Manifest) -> re.Pattern[str]:
    """The words for the classes of all tasks, and what the label is called."""
    words: list[str] = []
    for task in manifest.tasks.values():
        spec = manifest.findings[task.label]
        classes = [*task.positive, *task.negative]
        words += [spec.label, *(spec.words[c] for c in classes if isinstance(c, str))]
    short = ["adventitious", "murmur", "COVID", "echo"]
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b|{'|'.join(short)}", re.I)


def contract(dataset: str, found: Rows) -> None:
    manifest = MANIFESTS[dataset]
    masked = manifest.strict_masks
    gives_away = words_of_labels(manifest)
    full: list[str] = []
    strict: list[str] = []
    orders: set[tuple[str, ...]] = set()
    for key, findings in found.items():
        report = reports.render(manifest, key, findings)
        short = reports.render(manifest, key, findings, masked)
        full.append(report.text)
        strict.append(short.text)
        for one in (report, short):
            well_formed(one)
        assert 15 <= len(report.text.split()) <= 90, report.text
        assert 3 <= len(short.text.split()) <= 90, short.text
        assert not {n for s in short.sentences for n in s.findings} & masked
        assert not (told_off := gives_away.search(short.text)), told_off
        # What is said in both is said in the same words and in the same order.
        texts = [s.text for s in report.sentences]
        told = [texts.index(s.text) for s in short.sentences if s.text in texts]
        assert told == sorted(told)
        groups = {s.findings: s.text for s in report.sentences}
        assert all(groups.get(s.findings, s.text) == s.text for s in short.sentences)
        concepts = (manifest.findings[s.findings[0]].concept or "" for s in report.sentences)
        orders.add(tuple(dict.fromkeys(concepts)))
    words = [len(t.split()) for t in full]
    warnings.warn(  # shown by pytest: how much texts vary
        f"{dataset}: {len(full)} reports of {min(words)} to {max(words)} words, "
        f"{len(set(full)) / len(full):.0%} distinct (strict {len(set(strict)) / len(strict):.0%})",
        stacklevel=1,
    )
    assert len(orders) >= 3, orders
    assert len(set(full)) > 0.6 * len(full)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("dataset", MANIFESTS)
def test_reports_of_the_sample_archive(dataset: str, rows: Callable[[str, str], Rows]):
    contract(dataset, rows(dataset, "sample"))


@needs(real_metadata.REAL)
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "dataset",
    ["icbhi", "circor", "sprsound", "zchsound", pytest.param("coughvid", marks=pytest.mark.slow)],
)
def test_reports_of_the_real_metadata(dataset: str, rows: Callable[[str, str], Rows]):
    least = {"icbhi": 920, "coughvid": 10746, "circor": 3163, "sprsound": 1949, "zchsound": 67}
    found = rows(dataset, "real")
    assert len(found) >= least[dataset]
    contract(dataset, found)


@needs(real_metadata.REAL)
def test_reports_of_the_real_hflung_labels(rows: Callable[[str, str], Rows]):
    for key, findings in rows("hflung", "real").items():
        well_formed(reports.render(MANIFESTS["hflung"], key, findings))


def values_of(spec: FindingSpec) -> list[Value | None]:
    """Every value a finding can have, a few of a number, and none at all."""
    if spec.kind == "flag":
        return [True, False, None]
    if spec.kind == "number":
        return [0, 1, 3, 12, None]
    if spec.kind == "code":
        return [*spec.words, None]
    hedges = [*spec.absent, *spec.unknown]
    every = tuple(c for c in spec.words if c not in hedges)
    return [*((c,) for c in spec.words), every, None]


def swapped(
    manifest: Manifest, findings: dict[str, Value]
) -> Iterator[tuple[str, dict[str, Value]]]:
    """The findings with one masked finding changed, in every way."""
    for name in sorted(manifest.strict_masks):
        rest = {k: v for k, v in findings.items() if k != name}
        for value in values_of(manifest.findings[name]):
            yield name, rest if value is None else rest | {name: value}


@pytest.mark.parametrize("dataset", MANIFESTS)
def test_a_strict_text_does_not_depend_on_a_label(dataset: str, rows: Callable[[str, str], Rows]):
    manifest = MANIFESTS[dataset]
    for key, findings in list(rows(dataset, "sample").items())[::4]:
        alone = reports.render(manifest, key, findings, manifest.strict_masks)
        for name, others in swapped(manifest, findings):
            again = reports.render(manifest, key, others, manifest.strict_masks)
            assert again == alone, name


def anything(manifest: Manifest, draw: st.DrawFn) -> dict[str, Value]:
    """Any findings, also ones that contradict each other."""
    drawn = {n: draw(st.sampled_from(values_of(s))) for n, s in manifest.findings.items()}
    return {n: v for n, v in drawn.items() if v is not None}


@pytest.mark.parametrize("dataset", MANIFESTS)
@hypothesis_settings(max_examples=40, deadline=None)
@given(data=st.data(), key=st.integers(0, 10**6))
def test_any_findings_in_any_selection_give_a_sound_text(
    dataset: str, data: st.DataObject, key: int
):
    manifest = MANIFESTS[dataset]
    findings = data.draw(st.composite(lambda draw: anything(manifest, draw))())
    omit = data.draw(st.sets(st.sampled_from(list(manifest.findings))))
    try:
        report = reports.render(manifest, f"{dataset}/{key}", findings, omit)
    except ValueError as error:
        assert "no sentence" in str(error)
        return
    well_formed(report)
    assert len(report.text.split()) <= 90, report.text
    stated = {n for s in report.sentences for n in s.findings}
    assert not stated & omit
    resolved = resolve(manifest, findings)
    assert all(resolved[n].status != "not_recorded" for n in stated)


def longest(spec: FindingSpec) -> Value:
    if spec.kind == "flag":
        return True
    if spec.kind == "number":
        return 33.25
    if spec.kind == "codes":
        return tuple(c for c in spec.words if c not in (*spec.absent, *spec.unknown))
    plain = [c for c in spec.words if c not in spec.absent]
    return max(plain, key=lambda c: len(spec.words[c].split()))


@pytest.mark.parametrize("dataset", MANIFESTS)
def test_the_longest_report_has_at_most_ninety_words(dataset: str):
    manifest = MANIFESTS[dataset]
    findings = {n: longest(s) for n, s in manifest.findings.items()}
    if dataset == "circor":  # a systolic and a diastolic murmur, heard at all sites
        findings |= {"murmur": "Present", "murmur_here": "heard", "age_group": "Child"}
    for name in [n for n, s in manifest.findings.items() if s.kind == "flag"]:
        for n in range(100):
            text = reports.render(manifest, f"{dataset}/{n}", findings | {name: n % 2 == 0}).text
            assert len(text.split()) <= 90, text
    for n in range(300):
        text = reports.render(manifest, f"{dataset}/{n}", findings).text
        assert len(text.split()) <= 90, text


def test_an_unknown_murmur_is_neither_heard_nor_absent():
    findings: dict[str, Value] = {"site": "AV", "murmur": "Unknown", "murmur_here": "unknown"}
    for n in range(60):
        text = reports.render(MANIFESTS["circor"], f"circor/{n}", findings).text
        assert re.search(r"could not|indeterminate", text)
        assert not re.search(r"[Nn]o murmur|heard|has a", text)


def test_words_have_the_right_article():
    assert not A.search("a harsh murmur, a one-sided, a unit") and A.search("a 18-year-old")
    assert A.search("is a atrial") and A.search("a AKG") and A.search("a upper tract")
    assert AN.search("an harsh") and AN.search("an 7-") and not AN.search("an 81-year-old AKG")


@pytest.mark.parametrize("dataset", load_all())
def test_every_finding_has_a_concept(dataset: str):
    manifest = load_all()[dataset]
    for name, spec in manifest.findings.items():
        assert spec.concept in get_args(Concept), name
        if manifest.use == "alignment":
            assert spec.stated_by in get_args(Authority), name
        # Eight or more digits of which the last is a check digit (Verhoeff), as in SNOMED CT.
        assert all(verhoeff(code) for code in spec.snomed.values()), name


def verhoeff(number: str) -> bool:
    """Whether the last digit is the check digit: multiplication in the dihedral group D5."""

    def times(a: int, b: int) -> int:
        rotation = (a + b if a < 5 else a - b) % 5
        return rotation + (5 if (a < 5) != (b < 5) else 0)

    turn = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    check = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit)
        for _ in range(place % 8):
            value = turn[value]
        check = times(check, value)
    return len(number) >= 6 and check == 0


def test_the_check_digit_is_checked():
    assert verhoeff("73211009") and not verhoeff("73211008") and not verhoeff("13645006")


def test_what_is_always_so_is_said_without_a_row():
    found = resolve(MANIFESTS["zchsound"], {})
    assert found["device"].word == "ChildCare G-100 stethoscope"
    assert resolve(MANIFESTS["hflung"], {})["duration"].value == 15


def test_templates_say_nothing_but_what_their_manifest_has_words_for():
    """No dataset's name, no id: a report is about a patient."""
    for path in Path(reports.FOLDER).glob("[!_]*.j2"):
        assert not re.search(r"\bICBHI|CirCor|COUGHVID|SPRSound|ZCHSound", path.read_text())
