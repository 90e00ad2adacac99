"""Task rows of every kind: nobody on two sides, nothing lost without a count, and why not run."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import worlds
from conftest import manifest_values
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from plain_persons import Tasks, tasks_of
from publishers import publisher

from acula_model.evaluation import task as evaluation
from pipeline import readers, samples
from pipeline.fetch import download, remote
from pipeline.fetch.errors import FetchError
from pipeline.manifest import Manifest, load_all
from pipeline.settings import Settings
from pipeline.steps import (
    absences,
    archive,
    embeddings,
    layout,
    pairs,
    published,
    recordings,
    store,
    subjects,
    task_rows,
)

Row = dict[str, Any]
FOLDS = ("train", "val", "test")
WORDS = {"h": "healthy", "m": "mild", "s": "severe", "u": "unclear"}
LISTS = {"names": "names.npy", "sides": "sides.npy", "labels": "labels.npy"}
MANIFEST = Manifest.model_validate(
    manifest_values(
        id="a",
        published={
            "base": "https://example.org/", "licence": "MIT",
            "files": dict.fromkeys(LISTS.values(), "0" * 64),
            "name": "/(P[0-9])/(r[0-9]+)[.]wav$", "native_id": "^(P[0-9]_r[0-9]+)",
        },
        findings={
            "grade": {"kind": "code", "label": "g", "words": WORDS},
            "place": {"kind": "code", "label": "p", "words": {"AV": "aortic", "MV": "mitral"}},
            "rate": {"kind": "number", "label": "r", "unit": "breaths/min"},
        },
        tasks={
            "ill": {
                "title": "ill", "label": "grade", "positive": ["m", "s"], "negative": ["h"],
                "where": {"place": ["AV"]},
                "variants": {
                    "as_published": LISTS | {"read_labels": {"no": "negative", "yes": "positive"}},
                    "as_published_official": "official",
                },
            },
            "grade": {
                "title": "grade", "kind": "multiclass", "label": "grade",
                "classes": {"none": ["h"], "mild": ["m"], "severe": ["s"]},
            },
            "rate": {
                "title": "rate", "kind": "regression", "label": "rate",
                "scheme": "leave_one_person_out",
                "variants": {"as_published": {"persons": ["P1", "P2"]}},
                "published": {"epochs": 3},
            },
        },
    )
)  # fmt: skip


def recording(number: int, person: str | None, said: Row, **known: Any) -> Row:
    native = f"{person or 'P9'}_r{number}"
    return {
        "recording_id": f"a/{native}", "dataset": "a", "native_id": native, "case_id": native,
        "person": person, "linked": [], "proxy": None, "official_split": None,
        "audio_sha256": native, "findings": json.dumps(said),
    } | known  # fmt: skip


@st.composite
def some_rows(draw: st.DrawFn) -> list[Row]:
    def maybe(values: list[Any]) -> Any:
        return draw(st.sampled_from([None, *values]))

    rows: list[Row] = []
    for number in range(draw(st.integers(0, 12))):
        said = {
            "grade": maybe([*WORDS]), "place": maybe(["AV", "AV", "MV"]),
            "rate": maybe([0, 7, 14.5]),
        }  # fmt: skip
        person = maybe(["P1", "P2", "P3"])
        rows.append(
            recording(
                number, person, {k: v for k, v in said.items() if v is not None},
                linked=draw(st.lists(st.sampled_from(["P1", "gone"]), max_size=1)),
                official_split=maybe([*FOLDS]), audio_sha256=str(draw(st.integers(0, 20))),
            )
        )  # fmt: skip
    return rows


def listed(names: list[str], sides: list[str], labels: list[Any]) -> dict[str, published.Lists]:
    values = dict(zip(LISTS.values(), (names, sides, labels), strict=True))
    return {"a": published.Lists(values=values)}


@st.composite
def lists(draw: st.DrawFn) -> dict[str, published.Lists]:
    """Names of recordings that may be there, twice or not readable; labels of no class, too."""
    n = draw(st.integers(0, 14))
    name = st.builds("x/{}/r{}.wav".format, st.sampled_from(["P1", "P3", "Q"]), st.integers(0, 12))
    kinds = (name, st.sampled_from(FOLDS), st.sampled_from(["no", "yes", "cut"]))
    return listed(*(draw(st.lists(k, min_size=n, max_size=n)) for k in kinds))


def build(rows: list[Row], at_hand: dict[str, published.Lists] | None = None) -> Tasks:
    return tasks_of(rows, {"a": MANIFEST}, at_hand)


def of(found: list[Row], task: str, variant: str = task_rows.CLEAN) -> list[Row]:
    return [r for r in found if (r["task"], r["variant"]) == (f"a/{task}", variant)]


def counts(built: Tasks, task: str, variant: str = task_rows.CLEAN) -> dict[str, int]:
    return {n["note"]: n["count"] for n in of(built.notes, task, variant)}


@given_settings(max_examples=150, deadline=None)
@given(rows=some_rows(), at_hand=lists(), order=st.randoms(use_true_random=False))
def test_nobody_is_on_two_sides_and_everything_is_counted(
    rows: list[Row], at_hand: dict[str, published.Lists], order: Any
) -> None:
    built = build(rows, at_hand)
    assert {n["note"] for n in built.notes} <= task_rows.NOTES.keys()
    said = {r["recording_id"]: json.loads(r["findings"]) for r in rows}
    keys = [(r["task"], r["variant"], r["recording_id"]) for r in built.rows]
    assert keys == sorted(set(keys))
    theirs = {"ill": ["as_published_official"], "rate": ["as_published"], "grade": []}
    variants = [(task, v) for task, more in theirs.items() for v in (task_rows.CLEAN, *more)]
    for task, variant in variants:
        found, notes = of(built.rows, task, variant), counts(built, task, variant)
        assert ("not_run" in notes) == (not found)
        assert len(found) + sum(notes.values()) == len(rows)
    for task in ("ill", "grade"):
        sides: dict[str, set[str]] = defaultdict(set)
        for row in of(built.rows, task):
            sides[row["person_id"]].add(row["fold"])
        assert all(len(s) == 1 and s <= set(FOLDS) for s in sides.values())
    for row in of(built.rows, "grade"):
        assert "hms"[int(row["label"])] == said[row["recording_id"]]["grade"]
    rates = of(built.rows, "rate")
    assert {r["fold"] for r in rates} <= {"each"}
    assert all(r["label"] == said[r["recording_id"]]["rate"] for r in rates)
    own = {r["recording_id"]: r["person"] for r in rows}
    named = of(built.rows, "rate", "as_published")
    assert [r["label"] for r in named] == [
        r["label"] for r in rates if own[r["recording_id"]] in ("P1", "P2")
    ]
    notes = counts(built, "ill", "as_published")
    about_names = sum(n for k, n in notes.items() if k.startswith("listed"))
    copied = of(built.rows, "ill", "as_published")
    assert len(copied) + about_names == len(at_hand["a"].values["names.npy"])
    assert all(any(str(n).endswith(r["recording_id"][2:].replace("_", "/") + ".wav")
                   for n in at_hand["a"].values["names.npy"]) for r in copied)  # fmt: skip
    # What the list says wins; where our metadata say something else, that is counted.
    ours = {r["recording_id"]: r["label"] for r in of(built.rows, "ill")}
    differ = sum(ours.get(r["recording_id"]) != r["label"] for r in copied)
    assert notes.get("label_differs", 0) == differ
    shuffled = list(rows)
    order.shuffle(shuffled)
    assert build(shuffled, at_hand) == built


def test_a_list_is_copied_by_position_with_its_faults() -> None:
    ill, well = {"grade": "s", "place": "AV"}, {"grade": "h", "place": "AV"}
    rows = [recording(1, "P1", ill), recording(2, "P1", ill), recording(3, "P3", well),
            recording(4, "P3", well)]  # fmt: skip
    at_hand = listed(
        ["x/P1/r1.wav", "x/P1/r2.wav", "x/P3/r3.wav", "x/P1/r9.wav", "x/P1/r1.wav", "r3.wav",
         "x/P2/r1.wav"],
        ["train", "test", "val", "test", "test", "train", "train"],
        ["yes", "yes", "yes", "yes", "no", "no", "cut"],
    )  # fmt: skip
    built = build(rows, at_hand)
    found = of(built.rows, "ill", "as_published")
    assert [(r["recording_id"][2:], r["fold"], r["label"]) for r in found] == [
        ("P1_r1", "train", 1.0), ("P1_r2", "test", 1.0), ("P3_r3", "val", 1.0),
    ]  # fmt: skip
    assert counts(built, "ill", "as_published") == {
        "label_differs": 1, "listed_absent": 1, "listed_other_label": 1, "listed_twice": 1,
        "listed_unreadable": 1, "unlisted": 1,
    }  # fmt: skip
    same = [recording(1, "P1", ill), recording(1, "P1", ill, recording_id="a/P1_r1x",
                                               native_id="P1_r1x")]  # fmt: skip
    assert counts(build(same, at_hand), "ill", "as_published")["listed_ambiguous"] == 1
    short = listed(["x/P1/r1.wav"], ["train"], [])
    with pytest.raises(ValueError, match=r"a/ill as_published: names.npy, .* have \[1, 1, 0\]"):
        build(rows, short)
    with pytest.raises(ValueError, match=r"sides.npy has a side 'tst'"):
        build(rows, listed(["x/P1/r1.wav"], ["tst"], ["yes"]))


def test_a_missing_list_is_a_reason_and_no_error() -> None:
    rows = [recording(1, "P1", {"grade": "s", "place": "AV"}, official_split="test")]
    at_hand = {"a": published.Lists(missing={"names.npy": "names.npy is missing (gone)"})}
    built = build(rows, at_hand)
    assert [n["reason"] for n in of(built.notes, "ill", "as_published")] == [
        "names.npy is missing (gone)"
    ]
    assert [r["fold"] for r in of(built.rows, "ill", "as_published_official")] == ["test"]


def test_the_evaluation_gets_every_task() -> None:
    found = MANIFEST.evaluation_task("grade")
    assert (found.id, found.kind, found.classes) == (
        "a/grade",
        "multiclass",
        ("none", "mild", "severe"),
    )
    rate = MANIFEST.evaluation_task("rate")
    assert (rate.metric, rate.unit, rate.scheme) == ("mae", "breaths/min", "leave_one_person_out")
    assert rate.published == evaluation.Published(epochs=3) and rate.classes == ()
    assert MANIFEST.evaluation_task("ill").classes == ("negative", "positive")
    with pytest.raises(KeyError, match="a has no task 'ile'; valid: ill, grade, rate"):
        MANIFEST.evaluation_task("ile")


def test_the_eighteen_tasks_are_all_there() -> None:
    """Kinds, schemes and heads of the published evaluation."""
    tasks = [m.evaluation_task(n) for m in load_all().values() for n in m.tasks]
    numbers = {t.number: m.evaluation_task(n) for m in load_all().values()
               for n, t in m.tasks.items() if t.number}  # fmt: skip
    assert sorted(numbers) == list(range(1, 19)) and len(tasks) > 18
    kinds = Counter(t.kind for t in numbers.values())
    assert kinds == {"binary": 10, "multiclass": 1, "regression": 7}
    for number, task in numbers.items():
        each = task.scheme == "leave_one_person_out"
        assert each == (task.kind == "regression") == (10 <= number <= 16)
        assert (task.published is None) == (number > 16)
    heads = {n: t.published for n, t in numbers.items() if t.published}
    assert {n for n, h in heads.items() if h.batch_size == 64} == {1, 2, 3, 4, *range(10, 17)}
    assert {n: h.epochs for n, h in heads.items() if h.epochs != 64} == {8: 50}
    assert {n: h.val_share for n, h in heads.items() if h.val_share} == {
        5: 0.2, 6: 0.2, 7: 0.2, 8: 0.1, **dict.fromkeys(range(10, 16), 0.11), 16: 0.2,
    }  # fmt: skip
    assert {n for n, h in heads.items() if h.l2 == 0.1} == set(range(10, 17))
    assert {n for n, h in heads.items() if h.patience} == set(range(10, 16))
    assert heads[8].validate_every == 5


@pytest.fixture
def mirrored(tmp_path: Path, settings: Callable[..., Settings]) -> tuple[Manifest, Settings]:
    """KAUH with two of its lists in a mirror, and a publisher nobody can reach."""
    kauh = load_all()["kauh"]
    how = kauh.tasks["obstructive"].listed_files
    assert len(how) == 4 and kauh.published
    files: dict[str, str] = {}
    for path in how[:2]:
        place = tmp_path / "mirror" / "kauh" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        np.save(place, np.array(["train"]))
        files[path] = hashlib.sha256(place.read_bytes()).hexdigest()
    lists = kauh.published.model_copy(update={"files": kauh.published.files | files})
    at = settings(datasets="kauh", archives=str(tmp_path), mirror=str(tmp_path / "mirror"))
    return kauh.model_copy(update={"published": lists}), at


def test_lists_that_cannot_be_had_are_named_and_asked_for_once(
    mirrored: tuple[Manifest, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, at = mirrored
    asked: list[str] = []
    really = published.transfer.fetch

    def fetch(wants: Any, *rest: Any) -> Any:
        urls = wants[0].urls
        if Path(urls[0]).is_file():
            return really(wants, *rest)
        asked.extend(u for u in urls if u.startswith("https:"))
        raise FetchError("unreachable" if urls[1:] else "not_found", urls[-1])

    monkeypatch.setattr(published.transfer, "fetch", fetch)
    listed = manifest.tasks["obstructive"].listed_files
    found = published.at_hand([manifest], at)["kauh"]
    assert list(found.values) == listed[:2] and list(found.missing) == listed[2:]
    assert all("cannot be reached" in why and "Put it at" in why for why in found.missing.values())
    assert len(asked) == 1, "there is no second wait"
    # With a sample there is nothing to compare, so nobody is asked.
    sample = published.at_hand([manifest], at.model_copy(update={"archives": "sample"}))["kauh"]
    assert len(asked) == 1 and not sample.values
    assert set(sample.missing.values()) == {published.MADE_UP}


def test_an_unreachable_publisher_costs_no_wait_in_later_runs(
    mirrored: tuple[Manifest, Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifest, at = mirrored
    *have, third, fourth = manifest.tasks["obstructive"].listed_files
    np.save(tmp_path / "list.npy", np.array(["test"]))
    content = (tmp_path / "list.npy").read_bytes()
    with publisher() as server:  # its port is dead afterwards
        lists = manifest.published
        assert lists
        files = lists.files | dict.fromkeys((third, fourth), hashlib.sha256(content).hexdigest())
        lists = lists.model_copy(update={"base": f"{server.base}/", "files": files})
    asked: list[str] = []
    really, clock = remote._web, [1000.0]

    def web(url: str, *rest: Any) -> Any:
        asked.append(url)
        return really(url, *rest)

    def of(base: str = lists.base) -> tuple[published.Lists, int]:
        """What is at hand, and how often the network was asked for it."""
        asked.clear()
        here = {"published": lists.model_copy(update={"base": base})}
        return published.at_hand([manifest.model_copy(update=here)], at)["kauh"], len(asked)

    monkeypatch.setattr(remote, "_web", web)
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    monkeypatch.setattr(absences.time, "time", lambda: clock[0])
    first, tries = of()
    assert tries == 2 and list(first.missing) == [third, fourth] and list(first.values) == have
    assert of() == (first, 0), "a failure of a moment ago is remembered"
    clock[0] += absences.ASK_AGAIN
    assert of() == (first, 1), "later it is asked for again, but not patiently"
    assert of() == (first, 0)

    folder = layout.Dataset(at.data_root, "kauh").published
    np.save(folder / third, np.array(["of another edition"]))
    wrong, tries = of()
    assert "expected" in wrong.missing[third] and not tries, "what lies there is not kept secret"
    (folder / third).unlink()
    assert of() == (first, 0)
    # A list that turns up in the data root, in a mirror or at a publisher is taken at once.
    for place in (folder / third, Path(at.mirror or "") / "kauh" / fourth):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    both, tries = of()
    assert both.values == first.values | {third: ["test"], fourth: ["test"]} and not tries
    (folder / third).unlink()
    assert third in of()[0].missing
    with publisher() as server:
        server.offer(third, content)
        assert of(f"{server.base}/") == (both, 1)
    assert not json.loads(layout.Corpus(at.data_root).absent_lists.read_text())


def test_probed_datasets_have_rows_and_the_others_say_what_is_missing(
    settings: Callable[..., Settings],
) -> None:
    at = settings(datasets="kauh,mmlung", archives="sample,mmlung=download", sample_scale=0.1)
    assert at.evaluated == ("kauh",)
    kauh = load_all()["kauh"]
    archive.obtain(kauh, at)
    recordings.prepare(kauh, at, lambda _: None)
    facts = subjects.decide(at, {}).facts
    corpus = layout.Corpus(at.data_root)
    rows = store.read_table(corpus.table("task_rows")).to_pylist()
    assert {(r["task"], r["variant"]) for r in rows} == {("kauh/obstructive", "subject_clean")}
    assert facts["task_rows"] == len(rows) > 0
    notes = {(n["task"], n["variant"]): n["reason"]
             for n in store.read_table(corpus.table("task_notes")).to_pylist()
             if n["note"] == task_rows.NOT_RUN}  # fmt: skip
    declared = {(f"{m.id}/{n}", v) for m in load_all().values() for n, t in m.tasks.items()
                for v in (task_rows.CLEAN, *t.variants)}  # fmt: skip
    assert notes.keys() == declared - {("kauh/obstructive", "subject_clean")}
    assert {tuple(k.split()) for k in facts["not_run"]} == notes.keys()
    assert notes["kauh/obstructive", "as_published"] == published.MADE_UP
    assert "given out on request" in notes["mmlung/fvc_breath", "as_published"]
    assert "add it to ACULA_DATASETS" in notes["icbhi/copd", "subject_clean"]
    assert subjects.decide(at, {}).skipped


def test_persons_on_both_published_sides_are_a_fact_of_the_step(
    materialise: Callable[..., dict[str, store.Outcome]],
) -> None:
    """Patient 108 of the tiny archive; with our own split there is none."""
    facts = materialise("subjects")["subjects"].facts
    published_ones = {"icbhi/copd as_published": 1, "icbhi/copd_meditron as_published": 1}
    assert facts["shared_persons"] == published_ones


def test_who_is_left_out_in_turn_is_in_no_alignment_and_no_gauge() -> None:
    """A person of a corpus that alignment hears, whose sound lies in a probed dataset, too."""
    row = {"task": "nosemic/respiratory_rate", "variant": "subject_clean", "fold": "each",
           "person_id": "a"}  # fmt: skip
    pair = {"pair_id": "1", "person_id": "a", "split": "val", "align": True}
    assert pairs.held_out_persons([row]).keys() == {"a"}
    with pytest.raises(pairs.LeakageError, match="nosemic/respiratory_rate subject_clean each"):
        pairs.assert_no_leakage([pair], [row])
    assert embeddings.gauge_pairs([pair], [row]) == []
    assert embeddings.gauge_pairs([pair], [row | {"fold": "val"}]) == ["1"]


@pytest.mark.parametrize("dataset", ["coswara", "kauh", "mmlung", "nosemic", "respiratory_tr"])
def test_the_sample_of_a_probed_dataset_carries_its_tasks(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two persons of each class on either side, at the default scale; names tell, not sounds."""

    def name_only(jobs: list[Any]) -> None:
        for i, (_, path, arguments) in enumerate(jobs):
            path.parent.mkdir(parents=True, exist_ok=True)
            filters = arguments["patient"].name if dataset == "kauh" else None
            for one in [path.with_name(filters(f)) for f in "BDE"] if filters else [path]:
                one.write_bytes(f"{one.name} {i}".encode())

    monkeypatch.setattr("pipeline.samples.signal.render", name_only)
    monkeypatch.setattr("pipeline.samples.nosemic.render", name_only)
    samples.sample(dataset).write(tmp_path, seed=1, scale=2.0)
    found, _ = worlds.rows(readers.reader(dataset).read, tmp_path)
    table = worlds.recordings_table(dataset, found)
    manifest = load_all()[dataset]
    built = tasks_of(table, {dataset: manifest})
    for name, task in manifest.tasks.items():
        persons: dict[tuple[str, float], set[str]] = defaultdict(set)
        for row in built.rows:
            if (row["task"], row["variant"]) == (f"{dataset}/{name}", task_rows.CLEAN):
                kind = row["label"] if task.codes else 0.0
                persons[row["fold"], kind].add(row["person_id"])
        sides = ("each",) if task.scheme == "leave_one_person_out" else ("train", "test")
        least = {(side, float(i)) for side in sides for i in range(max(len(task.codes), 1))}
        assert all(len(persons[key]) >= (2 if task.codes else 10) for key in least), name
