"""The leak meter: words that give a label away are seen, and words that cannot are at 0.5."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import manifest_values

from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import label_leak, layout, page_leak, pairs, recordings, store, task_rows

MANIFEST = Manifest.model_validate(
    manifest_values(
        id="icbhi",
        findings={
            "age": {"kind": "number", "label": "age", "unit": "years"},
            "drug": {"kind": "code", "label": "drug", "words": {"a": "aspirin", "n": "none"}},
            "copd": {"kind": "code", "label": "c", "words": {"y": "present", "n": "absent"}},
        },
        tasks={"copd": {"title": "c", "label": "copd", "positive": ["y"], "negative": ["n"]}},
    )
)


@dataclass
class Corpus:
    """Persons with a label, an age and two texts, written as the steps would leave them."""

    settings: Settings

    def write(self, rows: list[dict[str, Any]]) -> None:
        corpus = layout.Corpus(self.settings.data_root)
        table = [
            {
                "recording_id": f"icbhi/{n}", "dataset": "icbhi", "native_id": f"{n}",
                "findings": json.dumps(r["findings"]),
            }
            for n, r in enumerate(rows)
        ]  # fmt: skip
        store.write_table(corpus.dataset("icbhi").recordings, table, recordings.SCHEMA)
        texts = [
            {
                "recording_id": f"icbhi/{n}", "dataset": "icbhi", "pair_id": f"{n}",
                "full_text": r["full"], "strict_text": r["strict"],
            }
            for n, r in enumerate(rows)
        ]  # fmt: skip
        store.write_table(corpus.table("pairs"), texts, pairs.SCHEMA)
        tasks = [
            {
                "task": "icbhi/copd", "variant": "subject_clean", "recording_id": f"icbhi/{n}",
                "case_id": f"{n}", "person_id": f"p{n}", "label": r["label"],
                "fold": ("train", "train", "val", "test")[n % 4],
            }
            for n, r in enumerate(rows)
        ]  # fmt: skip
        store.write_table(corpus.table("task_rows"), tasks, task_rows.SCHEMA)
        for name in ("pairs", "subjects"):
            store.write_json(corpus.stamp(name), {"version": store.digest(rows)})

    def line(self) -> page_leak.Line:
        label_leak.measure(self.settings, {"icbhi": MANIFEST}, lambda _: None)
        place = layout.Corpus(self.settings.data_root).label_leak
        (line,) = page_leak.lines(place, {"icbhi": MANIFEST}, ["icbhi"])
        return line


@pytest.fixture
def corpus(settings: Callable[..., Settings]) -> Corpus:
    return Corpus(settings(datasets="icbhi"))


def people(strict: Callable[[int, int], str], drug: bool = False) -> list[dict[str, Any]]:
    """Labels that nothing else depends on, unless ``strict`` or the drug tells."""
    draw = random.Random(3)
    rows: list[dict[str, Any]] = []
    for _ in range(400):
        label, age = draw.randrange(2), draw.randrange(20, 90)
        found: dict[str, Any] = {"age": age, "copd": "ny"[label]}
        if drug:
            found["drug"] = "na"[label]
        word = ("healthy", "COPD")[label]
        rows.append(
            {
                "findings": found, "label": label, "strict": strict(label, age),
                "full": f"A patient of {age} years. Diagnosis: {word}.",
            }
        )  # fmt: skip
    return rows


def test_an_independent_label_cannot_be_read_off_a_strict_report(corpus: Corpus) -> None:
    corpus.write(people(lambda _, age: f"A patient of {age} years."))
    line = corpus.line()
    assert line.full and line.full.value > 0.99
    assert line.strict and line.strict.low < 0.5 < line.strict.high
    assert line.findings and line.findings.low < 0.5 < line.findings.high
    assert not line.leaks


def test_a_word_that_gives_the_label_away_is_seen(corpus: Corpus) -> None:
    corpus.write(people(lambda label, age: f"{('A person', 'A patient')[label]} of {age} years."))
    line = corpus.line()
    assert line.strict and line.strict.value > 0.99 and line.leaks


def test_what_the_findings_tell_anyway_is_not_the_words_fault(corpus: Corpus) -> None:
    takes = ("none", "aspirin")
    corpus.write(people(lambda y, age: f"Age {age}. Takes {takes[y]}.", drug=True))
    line = corpus.line()
    assert line.strict and line.findings
    assert line.strict.value > 0.99 and line.findings.value > 0.99 and not line.leaks


def test_it_skips_itself_and_follows_the_texts(corpus: Corpus) -> None:
    corpus.write(people(lambda _, age: f"Age {age}."))
    known = {"icbhi": MANIFEST}
    first = label_leak.measure(corpus.settings, known, lambda _: None)
    assert not first.skipped
    assert label_leak.measure(corpus.settings, known, lambda _: None).skipped
    corpus.write(people(lambda y, age: f"{'ab'[y]} {age}."))
    assert not label_leak.measure(corpus.settings, known, lambda _: None).skipped


def test_without_words_there_is_nothing_to_read() -> None:
    assert label_leak.bag_of_words({"a": "", "b": ""}, ["a"])["b"].tolist() == [0.0]
