"""The leak meter: words that give a label away are seen, and words that cannot are at 0.5."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import manifest_values

from acula_model.evaluation import intervals, subgroups
from acula_model.evaluation.intervals import Difference
from acula_model.evaluation.score import Score
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import label_leak, layout, pairs, recordings, score_files, store, task_rows

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

    def measured(self) -> "Measured":
        label_leak.measure(self.settings, {"icbhi": MANIFEST}, lambda _: None)
        place = layout.Corpus(self.settings.data_root).label_leak
        found = {s: score_files.scores(place / s)[0] for s in label_leak.SOURCES}
        said = {s: score_files.predictions(place / s)[KEY] for s in ("strict", "findings")}
        strict, findings = (subgroups.scored(p, "binary") for p in said.values())
        return Measured(**found, excess=intervals.difference(strict, findings))


KEY = ("icbhi/copd", "subject_clean", "default", "linear")


@dataclass
class Measured:
    """Scores by source, and what strict words tell more than the findings in them."""

    full: Score
    strict: Score
    findings: Score
    excess: Difference

    @property
    def leaks(self) -> bool:
        return self.excess.low > 0


def at_chance(score: Score) -> bool:
    assert score.low is not None and score.high is not None
    return score.low < 0.5 < score.high


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
    found = corpus.measured()
    assert found.full.value and found.full.value > 0.99
    assert at_chance(found.strict) and at_chance(found.findings) and not found.leaks
    # The floor beside it: the same words, labels shuffled.
    assert found.full.shuffled_low is not None and found.full.shuffled_high is not None
    assert found.full.shuffled_low < 0.5 < found.full.shuffled_high
    assert found.full.identity_lookup == 0.5


def test_a_word_that_gives_the_label_away_is_seen(corpus: Corpus) -> None:
    corpus.write(people(lambda label, age: f"{('A person', 'A patient')[label]} of {age} years."))
    found = corpus.measured()
    assert found.strict.value and found.strict.value > 0.99 and found.leaks


def test_what_the_findings_tell_anyway_is_not_the_words_fault(corpus: Corpus) -> None:
    takes = ("none", "aspirin")
    corpus.write(people(lambda y, age: f"Age {age}. Takes {takes[y]}.", drug=True))
    found = corpus.measured()
    assert found.strict.value and found.findings.value
    assert found.strict.value > 0.99 and found.findings.value > 0.99 and not found.leaks


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
