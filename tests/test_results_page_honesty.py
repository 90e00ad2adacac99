"""What is planted in the scores of a run is named in words on its page."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from page_text import Page
from page_world import World, carrying, stamp, world, write_scores

from pipeline.records import unit_hash
from pipeline.steps import (
    probing,
    store,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    here = world(tmp_path_factory.mktemp("data"))
    assert not here.make().skipped
    return here


@pytest.fixture(scope="module")
def page(made: World) -> Page:
    return Page(made.corpus.page)


def swapped(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Labels of test mean the opposite of what they meant in training."""
    vectors = carrying(rows, 4.0)
    test = {r["recording_id"] for r in rows if r["fold"] == "test"}
    return {i: -v if i in test else v for i, v in vectors.items()}


def constant(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {r["recording_id"]: np.ones(4) for r in rows}


def device_only(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Weaker than what the device alone tells."""
    return carrying(rows, 0.8)


@pytest.fixture
def planted(made: World) -> Iterator[Callable[..., Page]]:
    """Change the scores of the run, its tables or its job; put everything back after the test."""
    touched: dict[Path, bytes] = {}

    def keep(*paths: Path) -> None:
        for path in paths:
            touched.setdefault(path, path.read_bytes())

    def plant(
        vectors: dict[str, Any] | None = None,
        shortcut: dict[str, Any] | None = None,
        rows: list[dict[str, Any]] | None = None,
        aligned: list[str] | None = None,
    ) -> Page:
        scores = ("scores.parquet", "predictions.parquet")
        table, stamps = made.corpus.table("task_rows"), made.corpus.stamp("subjects")
        keep(table, stamps, made.run / "job.json", made.run / "stamp.json")
        places = (made.run / "scores", made.floor / "shortcut", made.floor / "encoder")
        keep(*(p / n for p in places for n in scores))
        if rows is not None:
            store.write_table(table, rows, pq.read_schema(table))
            write_scores(made, made.floor / "encoder", carrying(rows, 0.5))
        if vectors is not None:
            write_scores(made, made.run / "scores", vectors)
        if shortcut is not None:
            write_scores(made, made.floor / "shortcut", shortcut)
        if aligned is not None:
            store.write_json(made.run / "job.json", {"aligned": aligned})
        facts = {"best_epoch": 3, "held_out_cka": 0.3214}
        stamp(made.run / "stamp.json", facts, version=f"planted {unit_hash(repr(aligned))}")
        (made.run / "comparison.json").unlink(missing_ok=True)
        made.make()
        return Page(made.corpus.page)

    yield plant
    for path, content in touched.items():
        path.write_bytes(content)
    (made.run / "comparison.json").unlink(missing_ok=True)
    made.make()


@pytest.mark.parametrize(
    ("plant", "mark", "words"),
    [(swapped, "bad", "look for swapped labels"), (constant, "bad", "the features do not vary")],
)
def test_broken_features_are_named(
    made: World, planted: Callable[..., Page], plant: Any, mark: str, words: str
) -> None:
    page = planted(vectors=plant(probing.task_rows(made.settings)))
    for task in ("icbhi/copd", "circor/murmur"):
        assert page.marks[task, "subject_clean"] == mark
        assert words in page.scores[task, "subject_clean"]
    banner = page.said.split("Rows by verdict")[0]
    assert "are broken." in banner and words in banner
    assert "Alignment helped" not in page.text


def test_an_embedding_of_the_device_is_named(made: World, planted: Callable[..., Page]) -> None:
    rows = probing.task_rows(made.settings)
    page = planted(vectors=device_only(rows), shortcut=carrying(rows, 5.0))
    assert page.marks["icbhi/copd", "subject_clean"] == "warn"
    assert (
        "no better than metadata that hear no sound" in page.scores["icbhi/copd", "subject_clean"]
    )


def test_a_leaky_split_is_named_and_a_published_one_does_not_spoil_the_rest(
    made: World, page: Page, planted: Callable[..., Page]
) -> None:
    assert page.marks["icbhi/copd", "as_published"] == "bad"
    assert "1 persons of test" not in page.text
    assert "1 person of test also in" in page.scores["icbhi/copd", "as_published"]
    rows = probing.task_rows(made.settings)
    clean = [r for r in rows if (r["task"], r["variant"]) == ("icbhi/copd", "subject_clean")]
    tested = sorted({r["person_id"] for r in clean if r["fold"] == "test"})[:3]
    first: set[str] = set()
    for person in tested:
        first.add(min(r["recording_id"] for r in clean if r["person_id"] == person))
    leaky = [
        r | {"fold": "train"} if r["variant"] == "subject_clean" and r["recording_id"] in first
        else r
        for r in rows
    ]  # fmt: skip
    page = planted(carrying(rows, 3.0), carrying(rows, 0.0), leaky)
    assert page.marks["icbhi/copd", "subject_clean"] == "bad"
    assert "3 persons of test also in" in page.scores["icbhi/copd", "subject_clean"]
    assert "Do not use these scores." in page.text and "Alignment helped." not in page.text


def test_test_persons_in_alignment_are_named(made: World, planted: Callable[..., Page]) -> None:
    table = store.read_table(made.corpus.table("pairs")).to_pylist()
    aligned = [r["pair_id"] for r in table if r["align"]]
    aligned += [
        next(r["pair_id"] for r in table if r["dataset"] == "circor" and r["split"] == "test")
    ]
    page = planted(aligned=aligned)
    assert page.marks["circor/murmur", "subject_clean"] == "bad"
    text = page.scores["circor/murmur", "subject_clean"]
    assert "test persons were in alignment training (1)" in text
    assert "1 tested person in alignment training" in text
    assert "Do not use these scores." in page.text and "Alignment helped." not in page.text
