"""The parts of a comparison alone: counts, order of verdicts, groups, and every kind of task."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluation_world import LEFT_OUT, SEVERITY, world
from hypothesis import given
from hypothesis import strategies as st

from acula_model import recipes
from acula_model.evaluation import run as evaluate
from acula_model.evaluation.task import Task
from pipeline.manifest import load_all
from pipeline.steps import leakage, measures, pretraining, score_files, unit_groups, verdicts
from pipeline.steps.results_schema import (
    Difference,
    Floors,
    Gap,
    Interval,
    Leakage,
    Measured,
    Side,
)

Row = dict[str, Any]
PLACES = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(["train", "val", "test"])), max_size=14
)
SOME = st.sets(st.integers(0, 13))


@given(places=PLACES, aligned=SOME, heard=SOME, sounds=st.lists(SOME, max_size=3))
def test_counts_are_those_of_a_plain_loop(
    places: list[tuple[int, str]], aligned: set[int], heard: set[int], sounds: list[set[int]]
) -> None:
    rows = [
        {"recording_id": f"r{n}", "person_id": f"p{person}", "fold": fold}
        for n, (person, fold) in enumerate(places)
    ]
    there = {n: r["person_id"] for n, r in enumerate(rows)}
    trained = leakage.Trained(
        persons=frozenset(there[n] for n in aligned if n in there),
        heard=frozenset(there[n] for n in heard if n in there),
        recordings=frozenset(f"r{n}" for n in aligned | heard if n in there),
    )
    disjoint: list[list[str]] = []
    for group in sounds:
        taken = {name for own in disjoint for name in own}
        disjoint.append(sorted(f"r{n}" for n in group if f"r{n}" not in taken))
    found = leakage.count(rows, trained, disjoint)
    shared, in_alignment, only_heard, near = set(), set(), set(), set()
    for one in rows:
        for other in rows:
            same = one["person_id"] == other["person_id"]
            if same and one["fold"] == "test" and other["fold"] in ("train", "val"):
                shared.add(one["person_id"])
        if one["fold"] != "train" and one["person_id"] in trained.persons:
            in_alignment.add(one["person_id"])
        if one["fold"] == "test" and one["person_id"] in trained.heard:
            only_heard.add(one["person_id"])
        for group in disjoint:
            if one["fold"] == "test" and one["recording_id"] in group:
                like = [r for r in rows if r["recording_id"] in group]
                learned = any(r["fold"] != "test" for r in like)
                if learned or {*group} & trained.recordings:
                    near.add(one["recording_id"])
    counted = (found.shared_persons, found.aligned_persons, found.heard_persons)
    assert counted == (len(shared), len(in_alignment), len(only_heard))
    assert found.near_duplicates == len(near)
    assert leakage.count(rows, trained, None).near_duplicates is None


def test_persons_left_out_in_turn_share_a_sound_only_with_others() -> None:
    rows = [{"recording_id": f"r{n}", "person_id": p, "fold": "each"} for n, p in enumerate("aabc")]
    nobody = leakage.Trained(persons=frozenset(), heard=frozenset(), recordings=frozenset())
    assert leakage.count(rows, nobody, [["r0", "r1"]]).near_duplicates == 0
    assert leakage.count(rows, nobody, [["r1", "r2"]]).near_duplicates == 2
    assert leakage.count(rows, nobody, []).shared_persons == 0


def measured(metric: str = "auroc", **changes: Any) -> Measured:
    """A row that is fine, with changes."""
    good, bad = (0.9, 0.6) if metric == "auroc" else (0.3, 0.6)
    edge = 0.1 if metric == "auroc" else -0.1
    gap = {"value": good - bad, "low": min(edge, 2 * good - 2 * bad),
           "high": max(edge, 2 * good - 2 * bad), "p": 0.001}  # fmt: skip
    leaks = dict.fromkeys(leakage.Counts.__dataclass_fields__, 0)
    values: dict[str, Any] = {
        "task": "a/b", "title": "t", "dataset": "a", "unit": "", "metric": metric,
        "kind": "binary" if metric == "auroc" else "regression", "variant": "subject_clean",
        "protocol": "default", "head": "linear", "regime": "disjoint", "class_names": [],
        **measures.NOTHING, "reason": None, "certificate": {},
        "after": Side(value=good, low=good - 0.05, high=good + 0.05, sd_over_seeds=None),
        "before": Side(value=bad, low=bad - 0.05, high=bad + 0.05, sd_over_seeds=None),
        "difference": Difference(**gap, p_holm=0.01, minimum_detectable=0.1),
        "beyond_shortcut": Gap(**gap),
        "floors": Floors(
            chance=0.5 if metric == "auroc" else 0.7, majority=None, shuffled=None, label_leak=None,
            shortcut=Interval(value=bad, low=bad, high=bad),
            identity_lookup=0.5 if metric == "auroc" else 0.7,
        ),
        "leakage": Leakage(**leaks, near_reason=None, pretraining=""),
    }  # fmt: skip
    return Measured(**values | changes)


def judged(row: Measured) -> tuple[str, str]:
    row = row.model_copy(update={"flags": verdicts.flags(row)})
    found = verdicts.decide(row)
    assert {*row.flags} <= {*verdicts.FLAGS}
    return found.mark, found.words


@pytest.mark.parametrize("metric", ["auroc", "mae"])
def test_the_first_rule_that_applies_decides(metric: str) -> None:
    """Faults are taken away one after another; each is named until it is gone."""
    row = measured(metric)
    after, gap, floors = row.after, row.difference, row.floors
    assert after and gap and floors.shortcut
    equal = Interval(value=after.value, low=None, high=None)
    unclear = Gap(value=0.0, low=-0.1, high=0.1, p=0.5)
    worst: dict[str, Any] = {
        "reason": "no labels",
        "leakage": Leakage(
            aligned_persons=1, heard_persons=2, shared_persons=3, near_duplicates=4,
            near_reason=None, pretraining="",
        ),
        "flags": ["constant_features", "below_chance", "worse_than_mean", "includes_chance"],
        "floors": floors.model_copy(
            update={"shortcut": equal, "identity_lookup": after.value}
        ),
        "beyond_shortcut": unclear,
        "difference": Difference(**dict(unclear), p_holm=1.0, minimum_detectable=None),
    }  # fmt: skip
    row = measured(metric, **worst)
    said: list[tuple[str, str]] = []
    mends: list[dict[str, Any]] = [
        {},
        {"reason": None},
        {"leakage": row.leakage.model_copy(update={"aligned_persons": 0})},
        {"leakage": row.leakage.model_copy(update={"aligned_persons": 0, "heard_persons": 0})},
        {"leakage": measured().leakage},
        {"flags": ["below_chance", "worse_than_mean", "includes_chance"]},
        {"flags": ["worse_than_mean", "includes_chance"]},
        {"flags": ["includes_chance"]},
        {"floors": worst["floors"].model_copy(update={"shortcut": floors.shortcut})},
        {"floors": floors},
        {"beyond_shortcut": measured(metric).beyond_shortcut},
        {"flags": []},
        {"difference": Difference(**dict(gap) | {"p_holm": 0.2}), "flags": ["few_persons"]},
        {"flags": []},
        {"difference": gap},
    ]
    for mend in mends:
        row = row.model_copy(update=mend)
        said.append(judged(row))
    assert said == [
        ("none", "not run: no labels"),
        ("bad", "test persons were in alignment training (1)"),
        ("warn", "transductive: 2 test persons were heard in training, without reports"),
        ("bad", "3 test persons are also in train or validation; 4 tested sounds are nearly equal "
                "to sounds that were learned from"),
        ("bad", verdicts.FLAGS["constant_features"]),
        ("bad", verdicts.FLAGS["below_chance"]),
        ("warn", "worse than always saying the training mean"),
        ("warn", "no better than metadata that hear no sound"),
        ("warn", "no better than looking the person up"),
        ("warn", "not shown to be better than metadata that hear no sound"),
        ("warn", "not shown to be better than "
                 + ("chance" if metric == "auroc" else "always saying the training mean")),
        ("warn", "no difference from before alignment is shown"),
        ("warn", verdicts.FLAGS["few_persons"]),
        ("warn", "better than before alignment, but not if all tasks are counted (Holm)"),
        ("ok", "better than before alignment"),
    ]  # fmt: skip
    # A class of few persons is below chance by chance, so this is a question and no finding.
    few = measured(metric, flags=["below_chance", "few_persons"])
    assert judged(few) == ("warn", verdicts.FLAGS["below_chance"])
    assert judged(measured(metric, before=None, difference=None))[0] == "warn"
    assert judged(measured(metric, after=None))[0] == "none"


@pytest.mark.parametrize("task", [SEVERITY, replace(LEFT_OUT, id="icbhi/copd")], ids=["3", "left"])
def test_every_kind_of_task_survives_its_table(task: Task, tmp_path: Path) -> None:
    """Differences are signed by the metric: below zero is better for an error."""
    found: list[measures.Found] = []
    for name, signal in (("before", 0.2), ("after", 3.0)):
        features, rows = world(task, persons=60, signal=signal)
        written = evaluate.run(features, rows, {task.id: task}, ("default",))
        score_files.write(tmp_path / name, *written)
        found.append(measures.Found.read(tmp_path / name))
        (key,) = found[-1].predictions
        assert found[-1].predictions[key] == sorted(written[1], key=lambda p: p.unit)
        assert found[-1].scores[key] == written[0][0]
    gap = measures.paired(found[1], key, found[0], key, task.kind)
    one, other = (f.scores[key].value for f in found[::-1])
    assert one is not None and other is not None and gap.value == pytest.approx(one - other)
    assert gap.high < 0 if task.metric == "mae" else gap.low > 0


def test_groups_of_cases_and_of_codes() -> None:
    manifest = load_all()["circor"]
    rows = [
        {"recording_id": f"circor/{case}_{site}",
         "findings": json.dumps({"site": site, "sex": sex, "age_group": "Child"})}
        for case, site, sex in (("1", "AV", "Female"), ("1", "MV", "Female"), ("2", "AV", None))
        for sex in ([sex] if sex else [])
    ]  # fmt: skip
    rows.append({"recording_id": "circor/2_AV", "findings": json.dumps({"site": "AV"})})
    unit_of = {r["recording_id"]: f"circor/{r['recording_id'][7]}" for r in rows}
    found = unit_groups.of_units(manifest, "murmur", rows, unit_of)
    words = manifest.findings["site"].words
    assert found["circor/1"]["site"] == unit_groups.SEVERAL
    assert found["circor/1"]["sex"] == "female" and found["circor/2"]["sex"] is None
    assert found["circor/2"]["site"] == words["AV"]
    # What a task asks for is no group of it.
    coughs = [{"recording_id": "coughvid/a", "findings": json.dumps({"age": 80.0})}]
    own = unit_groups.of_units(load_all()["coughvid"], "sex", coughs, {"coughvid/a": "coughvid/a"})
    assert own == {"coughvid/a": {"age": "65 years and over"}}


def test_what_published_weights_have_heard() -> None:
    assert pretraining.words(recipes.SAMPLE, "icbhi").startswith("none: the encoder started")
    assert "official train side" in pretraining.words(recipes.PAPER, "icbhi")
    assert "persons that we test may be in them" in pretraining.words(recipes.PAPER, "uk_covid19")
    assert pretraining.words(recipes.PAPER, "kauh").startswith("none: the corpus is not in")
    other = replace(recipes.PAPER, weights="someone/else")
    assert pretraining.words(other, "icbhi").startswith("not known")
    assert {d for own in pretraining.HEARD.values() for d in own} <= load_all().keys()
