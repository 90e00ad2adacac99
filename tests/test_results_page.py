"""What stands on the results page, and what must not."""

import io
import json
import re

import numpy as np
import pytest
import soundfile
from page_text import Page
from page_world import (
    BEYOND,
    MANIFESTS,
    SCRIPT,
    World,
    history,
    world,
)

from acula_model.front_end import MelFrontEnd
from pipeline.records import unit_hash
from pipeline.steps import (
    page_beyond,
    page_examples,
    page_forest,
    page_history,
    page_leak,
    page_scores,
    pages,
    probing,
    results_page,
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


def test_the_page_loads_nothing_from_elsewhere(page: Page) -> None:
    loads = [
        v
        for tag, attrs in page.tags
        for k, v in attrs.items()
        if v and (k in ("src", "srcset", "data", "poster") or (k == "href" and tag != "a"))
    ]
    assert len(loads) == 20  # a sound and a picture of each example
    assert all(v.startswith("data:") for v in loads)
    assert "@import" not in page.text and not re.findall(r"url\((?!#)", page.text)
    names = [tag for tag, _ in page.tags]
    assert not {"link", "iframe", "object", "embed", "base"} & set(names)
    assert names.count("script") == 1
    script = page.text.split("<script>")[1].split("</script>")[0]
    policy = next(str(a["content"]) for _, a in page.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert f"script-src '{pages.permission(script)}';" in policy  # this script and no other
    assert len(page.text) < 6e6


def test_a_row_for_each_task_and_variant_with_its_floors(made: World, page: Page) -> None:
    run = [key for key in page.scores if page.marks[key] != "none"]
    assert run == [
        ("circor/murmur", "subject_clean"),
        ("icbhi/copd", "subject_clean"),
        ("icbhi/copd", "as_published"),
    ]
    assert list(page.scores)[:3] == run  # what was run comes first
    text = page.scores["icbhi/copd", "subject_clean"]
    for place in (made.run / "scores", made.floor / "encoder", made.floor / "shortcut"):
        score = next(
            s
            for s in store.read_table(place / "scores.parquet").to_pylist()
            if (s["task"], s["variant"]) == ("icbhi/copd", "subject_clean")
        )
        assert f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]" in text
    for words in ("ROC", "Reliability", "calibration error", "after Holm", "Identity", "Floors"):
        assert words in (page.said if words == "Identity" else text)
    assert "0 persons of test also in" in text and "0 tested persons in alignment" in text
    assert "too few persons" in text  # of the subgroups
    assert text.count("Details of icbhi/copd") == 1


def test_what_was_not_run_is_listed_with_what_is_missing(page: Page) -> None:
    assert page.marks["icbhi/rare", "subject_clean"] == "none"
    assert "Not run: fewer than 2 persons of a class" in page.scores["icbhi/rare", "subject_clean"]
    missing = page.said.split("Not run, and what is missing")[1]
    assert "icbhi/rare (subject_clean; default linear)" in missing
    assert "hflung is not part of this run" in missing and "hflung/" in missing


def test_the_page_names_no_person_and_no_file(made: World, page: Page) -> None:
    known = store.read_table(made.corpus.table("pairs")).to_pylist()
    for column in ("person_id", "recording_id", "case_id", "member"):
        assert not [r[column] for r in known if re.search(rf"{r[column]}\b", page.said)]
    assert "bad01" not in page.text  # quarantined files
    persons = {r["person_id"] for r in known}
    with pytest.raises(ValueError, match="would name 1 persons"):
        results_page.assert_nobody_is_named("<td>icbhi/p07.</td>", persons)


def test_the_verdict_is_in_words_and_pairs_persons(page: Page, made: World) -> None:
    facts = json.loads(made.corpus.page.with_name("stamp.json").read_text())["facts"]
    value, low, high = facts["mean_difference"]
    assert low > 0
    assert "Alignment helped." in page.text
    said = f"+{value:.3f} [+{low:.3f}, +{high:.3f}]</span> over 2 tasks (subject_clean, default"
    assert said in page.text and "excludes 0" in page.text
    assert "Do not use these scores" not in page.text
    assert page.marks["icbhi/copd", "subject_clean"] == "ok"
    assert "say nothing about patients" in page.text


def test_texts_are_data(page: Page) -> None:
    assert SCRIPT not in page.text
    assert "&lt;script&gt;alert(&#39;coarse crackles&#39;)&lt;/script&gt;" in page.text
    assert "icbhi &amp; colleagues, verbatim" in page.text
    assert "The patient has &lt;COPD&gt;." in page.text


def test_what_the_words_give_away_is_listed_and_marked(made: World, page: Page) -> None:
    known = page_leak.lines(made.corpus.label_leak, MANIFESTS, ["icbhi", "circor"])
    assert [line.task for line in known] == ["icbhi/copd", "icbhi/rare", "circor/murmur"]
    copd, rare, _ = known
    assert copd.full and copd.full.value and copd.leaks
    assert rare.reason and not rare.leaks
    assert page.text.count("The words tell more than the findings.") == sum(x.leaks for x in known)
    assert f"{copd.full.value:.3f}" in page.text


def test_measures_beyond_probes_are_shown_where_there_are_any(page: Page) -> None:
    shown = page.said.split("Beyond probes")[-1]
    for text in ("Zero-shot", "0.714", "[0.610, 0.830]", "Fewer labels", "10%", "0.950"):
        assert text in shown
    assert "icbhi/rare (no sentence stands for a class)" in shown
    assert [s.title for s in page_beyond.sections(BEYOND)] == ["Zero-shot", "Fewer labels"]
    assert page_beyond.sections({"schema": 1, "transfer": []}) == []


def test_curves_stand_on_their_floors_and_a_missing_gauge_is_said(page: Page) -> None:
    assert page.text.count("0.321 in epoch 3, the one kept") == 2  # shown and spoken
    drawn = {c.title: c for c in page_history.curves(history((0.1, 0.2)), 2)}
    cka = drawn["Debiased CKA, held-out persons"]
    assert [t.kind for t in cka.traces] == ["first", "floor"] and cka.best == 1.0
    recall = drawn["Report found among the first 5"]
    assert [t.name for t in recall.traces] == ["recall at 5", "chance"]
    assert "Sound found among the first 5" not in drawn  # not measured
    nothing = [{"epoch": 1, "held_out_cka": float("nan")}]
    assert [(c.traces, c.best) for c in page_history.curves(nothing, 1)] == [([], None)]


def test_examples_are_never_of_test_persons(made: World, page: Page) -> None:
    rows = probing.task_rows(made.settings)
    tested = {r["person_id"] for r in rows if r["fold"] == "test"}
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
        for fact in (row["split_rule"], row["raw_sha256"][:12], row["audio_sha256"][:12]):
            assert fact in page.text
    assert page.text.count('class="chip masked">copd label') == 5  # of icbhi, in full only


def test_a_long_sound_is_cut_and_its_picture_has_the_encoders_bins() -> None:
    flac = io.BytesIO()
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(9 * 16_000) / 16_000)
    soundfile.write(flac, tone, 16_000, format="FLAC")
    short, wave = page_examples.cut(flac.getvalue())
    assert soundfile.info(io.BytesIO(short)).duration == 8 == len(wave) / 16_000
    front_end = MelFrontEnd()
    marks = {label: height for height, label in page_examples.picture(wave, front_end).hertz}
    loudest = int(front_end.log_mel(wave).mean(0).argmax())
    assert abs(marks["1000"] - (loudest + 0.5) / 64) < 1 / 64


def test_hashes_choose_the_examples_and_tested_persons_are_passed_over(made: World) -> None:
    table = store.read_table(made.corpus.table("pairs")).to_pylist()
    chosen = page_examples.choose(table, set())
    again = page_examples.choose(sorted(table, key=lambda r: unit_hash(r["member"])), set())
    assert [r["pair_id"] for r in chosen] == [r["pair_id"] for r in again]
    tested = {r["person_id"] for r in chosen[:4]}
    others = page_examples.choose(table, tested)
    assert len(others) == 10 and not {r["person_id"] for r in others} & tested


def test_quarantine_is_counted_without_names(page: Page) -> None:
    assert "every sample is (nearly) zero" in page.text
    row = page.said.split("every sample is (nearly) zero")[1]
    assert row.split()[:2] == ["53", "53"]


def test_the_same_inputs_skip_and_changed_scores_do_not(made: World) -> None:
    before = made.corpus.page.read_bytes()
    assert made.make().skipped
    made.corpus.page.unlink()
    assert not made.make().skipped
    assert made.corpus.page.read_bytes() == before  # no time, no order, no chance
    place = made.run / "history.json"
    kept = place.read_bytes()
    store.write_json(place, history((0.1, 0.2, 0.3, 0.25)))
    assert not made.make().skipped
    assert made.corpus.page.read_bytes() != before
    place.write_bytes(kept)


def test_sixty_rows_make_a_page_below_three_megabytes(made: World) -> None:
    place = made.run / "results.json"
    kept = place.read_bytes()
    found = json.loads(kept)
    row = next(r for r in found["rows"] if r["task"] == "icbhi/copd" and r["after"])
    found["rows"] = [
        row | {"task": f"icbhi/task_{n}", "protocol": protocol}
        for n in range(30)
        for protocol in ("default", "published")
    ]
    store.write_json(place, found)
    results_page.make(made.settings, made.recipe, made.manifests)
    page = re.sub(r"data:[^\"]*", "", made.corpus.page.read_text(encoding="utf-8"))
    assert page.count('<tbody id="icbhi-task') == 60
    assert len(page) < 3e6
    place.write_bytes(kept)
    results_page.make(made.settings, made.recipe, made.manifests)


def test_forests_put_better_on_the_right_and_mark_what_holds(made: World) -> None:
    found = json.loads((made.run / "results.json").read_text())
    row = next(r for r in found["rows"] if r["task"] == "icbhi/copd" and r["after"])
    gap = {"value": -0.2, "low": -0.3, "high": -0.1, "p": 0.001, "p_holm": 0.01}
    found["rows"] = [
        row | {"metric": "mae", "kind": "regression", "floors": row["floors"] | {"chance": 2.0},
               "difference": gap | {"minimum_detectable": 0.1}}
    ]  # fmt: skip
    place = made.run / "one.json"
    store.write_json(place, found)
    (forest,) = page_forest.draw(page_scores.load(place).lines)
    (bar,) = forest.bars
    assert forest.zero < bar.low < bar.value < bar.high
    assert bar.significant and bar.words == "better, p = 0.01" and bar.said.startswith("+0.100")
    found["schema"] = 2
    store.write_json(place, found)
    with pytest.raises(ValueError, match="has schema 2, this page shows schema 1"):
        page_scores.load(place)
    place.unlink()
