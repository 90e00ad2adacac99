"""The results page on a small data root: tables by the real steps, scores by the real probe."""

import io
import json
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from acula_model import probe
from acula_model.front_end import MelFrontEnd
from acula_model.recipes import SAMPLE, Recipe
from pipeline.manifest import Manifest
from pipeline.records import recording_id, unit_hash
from pipeline.settings import Settings
from pipeline.settings import load as load_settings
from pipeline.steps import (
    embeddings,
    layout,
    page_figures,
    page_leak,
    pairs,
    parts,
    recordings,
    report_table,
    results_page,
    score_files,
    shards,
    store,
    subjects,
    training,
)

SCRIPT = "<script>alert('coarse crackles')</script>"
RECIPE = replace(SAMPLE, name="demo & small", epochs=4)


def manifest(dataset: str, label: str, tasks: dict[str, dict[str, Any]]) -> Manifest:
    words = {"yes": "present", "no": "absent", "odd": "something else"}
    return Manifest.model_validate(
        {
            "id": dataset,
            "title": f"The {dataset} corpus",
            "description": "-",
            "homepage": "https://example.org/",
            "version": "1",
            "licence": {"name": "CC BY 4.0", "source": "its page"},
            "attribution": f"{dataset} & colleagues, verbatim",
            "citation": ["A. Author, A Corpus, 2020"],
            "files": [{"name": "a.zip", "urls": ["https://example.org/a.zip"]}],
            "findings": {
                "age": {"kind": "number", "label": "age", "unit": "years"},
                label: {"kind": "code", "label": f"{label} label", "words": words},
            },
            "tasks": {k: {"label": label, "negative": ["no"], **v} for k, v in tasks.items()},
        }
    )


COPD = {"title": "COPD vs healthy", "positive": ["yes"],
        "variants": {"as_published": "official"}}  # fmt: skip
RARE = {"title": "Something rare", "positive": ["odd"]}
MANIFESTS = {
    "icbhi": manifest("icbhi", "copd", {"copd": COPD, "rare": RARE}),
    "circor": manifest("circor", "murmur", {"murmur": {"title": "Murmur", "positive": ["yes"]}}),
    "hflung": manifest("hflung", "wheeze", {"wheeze": {"title": "Wheeze", "positive": ["yes"]}}),
}


@dataclass(frozen=True)
class World:
    settings: Settings
    recipe: Recipe
    manifests: dict[str, Manifest]

    @property
    def corpus(self) -> layout.Corpus:
        return layout.Corpus(self.settings.data_root)

    @property
    def run(self) -> Path:
        return training.run_folder(self.settings, self.recipe, self.manifests)

    @property
    def floor(self) -> Path:
        return training.baseline_folder(self.settings, self.recipe)

    def make(self) -> store.Outcome:
        return results_page.make(self.settings, self.recipe, self.manifests)


def rows(dataset: str) -> list[dict[str, Any]]:
    """icbhi: two recordings per person and an official split that cuts p00 in two; one odd
    diagnosis. circor: nobody knows who is who."""
    label = {"icbhi": "copd", "circor": "murmur"}[dataset]
    found = []
    for i in range(80):
        person = f"p{i // 2:02d}" if dataset == "icbhi" else None
        value = "odd" if dataset == "icbhi" and i == 8 else ("no", "yes")[i // 2 % 2]
        side = "test" if i // 2 > 22 or i == 1 else "train"
        found.append(
            {
                "native_id": f"r{i:02d}",
                "member": f"r{i:02d}.wav",
                "dataset": dataset,
                "modality": "lung",
                "case_id": person or f"c{i}",
                "person": person,
                "linked": [],
                "proxy": None,
                "official_split": side if dataset == "icbhi" else None,
                "recording_id": recording_id(dataset, f"r{i:02d}"),
                "row": "{}",
                "findings": json.dumps({"age": 50 + i % 9, label: value}),
            }
        )
    return found


def write_dataset(here: layout.Dataset, label: str) -> None:
    """Sounds by ``parts.make``; tables by the schemas of the steps that own them."""
    table = rows(here.id)
    here.archive.mkdir(parents=True)
    rng = np.random.default_rng(len(here.id))  # equal sounds would be one person
    for row in table:
        wave = rng.normal(0, 0.1, 8_800 if row["native_id"] != "r00" else 140_000)
        soundfile.write(here.archive / row["member"], wave, 16_000)
    items = [(r["native_id"], r["member"], 0, 0) for r in table]
    here.parts.mkdir()
    parts.make(here.archive, here.parts, here.id, "part", items)
    facts = {f["native_id"]: f for f in pq.read_table(here.parts / "part.parquet").to_pylist()}
    store.write_table(
        here.recordings, [facts[r["native_id"]] | r for r in table], recordings.SCHEMA
    )
    refused = [
        {
            "dataset": here.id,
            "name": f"bad{i:02d}.wav",
            "reason": "silent",
            "detail": "peak 0",
            "meaning": "-",
        }
        for i in range(53)
    ]
    store.write_table(here.quarantine, refused, recordings.QUARANTINE)
    full = [
        {"text": "The patient is 50 years old.", "findings": ["age"]},
        {"text": f"The label is {SCRIPT}.", "findings": [label]},
    ]
    texts = {
        f"{regime}_{k}": v
        for regime, own in (("full", full), ("strict", full[:1]))
        for k, v in {
            "text": " ".join(s["text"] for s in own),
            "hash": regime * 4,
            "terms": ["age~1"],
            "sentences": json.dumps(own),
        }.items()
    }
    store.write_table(
        here.reports,
        [
            {"recording_id": r["recording_id"], "dataset": here.id, "template_version": "0f" * 8}
            | texts
            for r in table
        ],
        report_table.SCHEMA,
    )
    stamp(here.archive_stamp, {"source": "sample"})
    stamp(here.recordings_stamp, {})
    stamp(here.reports_stamp, {})


def stamp(path: Path, facts: dict[str, Any], version: str = "v1") -> None:
    store.write_json(path, {"version": version, "facts": facts})


def write_scores(place: Path, task_rows: list[dict[str, Any]], signal: float) -> None:
    """The real probe on features that carry the label with this strength."""
    rng = np.random.default_rng(1)
    label = {r["recording_id"]: r["label"] for r in task_rows}
    features = {i: rng.normal(size=4) + signal * y * np.eye(4)[0] for i, y in label.items()}
    score_files.write(place, *probe.run(features, task_rows))


def world(root: Path) -> World:
    """Everything that lies under the data root when the page is due."""
    settings = load_settings(data_root=root, datasets=("icbhi", "circor"), workers=1)
    here = World(settings, RECIPE, MANIFESTS)
    for dataset, label in (("icbhi", "copd"), ("circor", "murmur")):
        write_dataset(here.corpus.dataset(dataset), label)
    subjects.decide(settings, MANIFESTS)
    pairs.join(settings)
    shards.write(settings, MANIFESTS, lambda line: None)
    stamp(
        embeddings.folder(settings, RECIPE) / "stamp.json",
        {"reports": 90, "width": 64, "teacher": "lsa@lsa-1/layer=0/mean", "truncated": 0},
    )
    task_rows = store.read_table(here.corpus.table("task_rows")).to_pylist()
    for name, signal in (("encoder", 0.5), ("shortcut", 0.0)):
        write_scores(here.floor / name, task_rows, signal)
    stamp(here.floor / "stamp.json", {})
    write_scores(here.run / "scores", task_rows, 3.0)
    for name, signal in (("full", 9.0), ("strict", 3.0), ("findings", 0.0)):
        write_scores(here.corpus.label_leak / name, task_rows, signal)
    stamp(here.corpus.label_leak / "stamp.json", {})
    history = [
        {
            "epoch": e,
            "loss": 2 / e,
            "alignment_loss": 1 / e,
            "masked_loss": 1 / e,
            "held_out_cka": cka,
        }
        for e, cka in enumerate((0.05, 0.21, 0.3214, 0.3), 1)
    ]
    store.write_json(here.run / "history.json", history)
    stamp(here.run / "stamp.json", {"best_epoch": 3, "held_out_cka": 0.3214})
    return here


class Page(HTMLParser):
    """Tags with attributes, and the text of each row of the score table."""

    def __init__(self, path: Path):
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scores: dict[tuple[str, str], str] = {}
        self.leaks: set[tuple[str, str]] = set()
        self._row: tuple[str, str] | None = None
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "tr":
            self._row = None
            if "data-task" in found:
                self._row = (str(found["data-task"]), str(found["data-variant"]))
                self.scores[self._row] = ""
                if "leak" in (found.get("class") or ""):
                    self.leaks.add(self._row)

    def handle_data(self, data: str) -> None:
        if self._row:
            self.scores[self._row] = " ".join(f"{self.scores[self._row]} {data}".split())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    here = world(tmp_path_factory.mktemp("data"))
    assert not here.make().skipped
    return here


@pytest.fixture(scope="module")
def page(made: World) -> Page:
    return Page(made.corpus.page)


def test_the_page_loads_nothing_from_elsewhere(page: Page) -> None:
    loads = [
        v
        for tag, attrs in page.tags
        for k, v in attrs.items()
        if v and (k in ("src", "srcset", "data", "poster") or (k == "href" and tag != "a"))
    ]
    assert len(loads) == 20  # a sound and a picture of each example
    assert all(v.startswith("data:") for v in loads)
    assert "@import" not in page.text and "url(" not in page.text
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base"}
    policy = [a["content"] for _, a in page.tags if a.get("http-equiv")]
    assert policy and str(policy[0]).startswith("default-src 'none'")
    assert len(page.text) < 6e6


def test_a_row_for_each_task_and_variant_with_its_floors(made: World, page: Page) -> None:
    assert list(page.scores) == [
        ("icbhi/copd", "subject_clean"),
        ("icbhi/rare", "subject_clean"),
        ("circor/murmur", "subject_clean"),
        ("icbhi/copd", "as_published"),
    ]
    row = page.scores["icbhi/copd", "subject_clean"]
    ours, before, shortcut = (
        next(
            s
            for s in store.read_table(place / "scores.parquet").to_pylist()
            if (s["task"], s["variant"]) == ("icbhi/copd", "subject_clean")
        )
        for place in (made.run / "scores", made.floor / "encoder", made.floor / "shortcut")
    )
    for score in (ours, before, shortcut):
        assert f"{score['auroc']:.3f} [{score['low']:.3f}, {score['high']:.3f}]" in row
    assert f"+{ours['auroc'] - before['auroc']:.3f} [" in row
    assert f"{ours['majority']:.3f}" in row and "17 persons" in row
    assert "none" in row and "a recording counts as a person" not in row
    assert "a recording counts as a person" in page.scores["circor/murmur", "subject_clean"]


def test_what_was_not_run_is_listed_with_the_reason(page: Page) -> None:
    row = page.scores["icbhi/rare", "subject_clean"]
    assert "Not run: fewer than 2 of a class in train and test" in row
    assert "The hflung corpus (1 task)" in page.text  # a dataset outside this run


def test_what_the_words_give_away_is_listed_and_marked(made: World, page: Page) -> None:
    known = page_leak.lines(made.corpus.label_leak, MANIFESTS, ["icbhi", "circor"])
    assert [line.task for line in known] == ["icbhi/copd", "icbhi/rare", "circor/murmur"]
    copd, rare, _ = known
    assert copd.full and copd.strict and copd.findings and copd.leaks
    assert rare.reason and not rare.leaks
    html = made.corpus.page.read_text()
    assert html.count("The words tell more than the findings.") == sum(x.leaks for x in known)
    assert f"{copd.full.value:.3f}" in html


def test_the_verdict_is_in_words_and_pairs_persons(page: Page, made: World) -> None:
    facts = json.loads(made.corpus.page.with_name("stamp.json").read_text())["facts"]
    value, low, high = facts["mean_difference"]
    assert low > 0
    assert "Alignment helped." in page.text
    said = f"+{value:.3f} [+{low:.3f}, +{high:.3f}]</span> over 2 tasks (subject_clean)"
    assert said in page.text and "excludes 0" in page.text


def test_synthetic_data_are_called_so(page: Page) -> None:
    assert "say nothing about patients" in page.text
    banner = [a for t, a in page.tags if t == "div" and "synthetic" in (a.get("class") or "")]
    assert banner == [{"class": "banner synthetic", "role": "note"}]


def test_a_published_split_that_cuts_a_person_is_red_and_the_clean_one_is_not(page: Page) -> None:
    assert page.leaks == {("icbhi/copd", "as_published")}
    row = page.scores["icbhi/copd", "as_published"]
    assert "1 person of test also in the probe\u2019s train or validation" in row
    assert "Do not use these scores" not in page.text


def test_texts_are_data(page: Page) -> None:
    assert SCRIPT not in page.text
    assert "&lt;script&gt;alert(&#39;coarse crackles&#39;)&lt;/script&gt;" in page.text
    assert "icbhi &amp; colleagues, verbatim" in page.text


def test_examples_are_never_of_test_persons_and_say_where_they_came_from(
    made: World, page: Page
) -> None:
    task_rows = store.read_table(made.corpus.table("task_rows")).to_pylist()
    tested = {r["person_id"] for r in task_rows if r["fold"] == "test"}
    known = {r["pair_id"]: r for r in store.read_table(made.corpus.table("pairs")).to_pylist()}
    shown = [
        known[str(a["id"]).removeprefix("pair-")]
        for t, a in page.tags
        if t == "h3" and str(a.get("id")).startswith("pair-")
    ]
    assert len(shown) == 10
    assert not {r["person_id"] for r in shown} & tested
    assert "icbhi/p00" in tested  # split train, yet in a published test
    assert {(r["dataset"], r["split"]) for r in shown} == {
        (d, s) for d in ("icbhi", "circor") for s in ("train", "val")
    }
    for row in shown:
        for fact in (
            row["recording_id"],
            row["person_id"],
            row["split_rule"],
            row["member"],
            row["raw_sha256"][:12],
            row["audio_sha256"][:12],
            "WAV/PCM_16",
        ):
            assert fact in page.text
    assert page.text.count('class="chip masked">copd label') == 5  # of icbhi, in full only


def test_a_long_sound_is_cut_and_its_picture_has_the_encoders_bins() -> None:
    flac = io.BytesIO()
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(9 * 16_000) / 16_000)
    soundfile.write(flac, tone, 16_000, format="FLAC")
    short, wave = page_figures.cut(flac.getvalue())
    assert soundfile.info(io.BytesIO(short)).duration == 8 == len(wave) / 16_000
    front_end = MelFrontEnd()
    marks = {label: height for height, label in page_figures.picture(wave, front_end).hertz}
    loudest = int(front_end.log_mel(wave).mean(0).argmax())
    assert abs(marks["1000"] - (loudest + 0.5) / 64) < 1 / 64


def test_the_best_epoch_is_marked_and_a_missing_gauge_is_said(page: Page) -> None:
    assert page.text.count("0.321 in epoch 3, the one kept") == 2  # shown and spoken
    history = [
        {
            "epoch": 1,
            "loss": 1.0,
            "alignment_loss": 1.0,
            "masked_loss": 1.0,
            "held_out_cka": float("nan"),
        }
    ]
    gauge = page_figures.curves(history, 1)[2]
    assert gauge.points == [] and gauge.best is None


def test_quarantine_is_counted_and_names_are_limited(page: Page) -> None:
    assert "every sample is (nearly) zero" in page.text
    assert "bad49.wav" in page.text and "bad50.wav" not in page.text
    assert "The first 50 of 53" in page.text


def test_the_same_inputs_skip_and_changed_scores_do_not(made: World) -> None:
    before = made.corpus.page.read_bytes()
    assert made.make().skipped
    made.corpus.page.unlink()
    assert not made.make().skipped
    assert made.corpus.page.read_bytes() == before  # no time, no order, no chance
    task_rows = store.read_table(made.corpus.table("task_rows")).to_pylist()
    place = made.run / "scores"
    kept = {p: p.read_bytes() for p in place.iterdir()}
    write_scores(place, task_rows, -3.0)
    assert not made.make().skipped
    assert made.corpus.page.read_bytes() != before
    for path, content in kept.items():
        path.write_bytes(content)


def test_a_person_of_the_alignment_set_in_a_test_turns_the_page_red(made: World) -> None:
    table = store.read_table(made.corpus.table("pairs")).to_pylist()
    planted = next(r for r in table if r["dataset"] == "circor" and r["split"] == "test")
    changed = [r | {"align": r["align"] or r is planted} for r in table]
    version = store.write_table(made.corpus.table("pairs"), changed, pairs.SCHEMA)
    kept = made.corpus.stamp("pairs").read_text()
    stamp(made.corpus.stamp("pairs"), {}, version)
    made.make()
    page = Page(made.corpus.page)
    assert ("circor/murmur", "subject_clean") in page.leaks
    row = page.scores["circor/murmur", "subject_clean"]
    assert "1 person held out here also in the alignment set" in row
    assert "Do not use these scores." in page.text and "Alignment helped." not in page.text
    store.write_table(made.corpus.table("pairs"), table, pairs.SCHEMA)
    made.corpus.stamp("pairs").write_text(kept)


def test_scores_of_other_test_units_are_not_compared(made: World) -> None:
    place = made.floor / "encoder" / "predictions.parquet"
    kept = place.read_bytes()
    pq.write_table(pq.read_table(place).slice(1), place)
    with pytest.raises(ValueError, match="different test units"):
        made.make()
    place.write_bytes(kept)


def test_hashes_choose_the_examples_and_tested_persons_are_passed_over(made: World) -> None:
    table = store.read_table(made.corpus.table("pairs")).to_pylist()
    chosen = page_figures.choose(table, set())
    again = page_figures.choose(sorted(table, key=lambda r: unit_hash(r["member"])), set())
    assert [r["pair_id"] for r in chosen] == [r["pair_id"] for r in again]
    tested = {r["person_id"] for r in chosen[:4]}
    others = page_figures.choose(table, tested)
    assert len(others) == 10 and not {r["person_id"] for r in others} & tested
