"""Results of a run: right numbers, and every planted fault is caught and named in words."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from comparison_world import TASK, Features, Make, World, headline, scored, silent
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.defs import model_assets
from pipeline.doctor import datasets
from pipeline.doctor.certificate import certify
from pipeline.doctor.table import Choices, build
from pipeline.manifest import load_all
from pipeline.settings import Settings
from pipeline.steps import comparison, layout, results_file, run_comparison, score_files, store
from pipeline.steps.results_schema import Results
from pipeline.steps.run_comparison import ComparisonError, Way


@pytest.fixture
def world(settings: Callable[..., Settings]) -> Make:
    return lambda **changes: World(settings(datasets="icbhi"), **changes)


def test_a_sound_gain_is_ok_and_its_numbers_are_right(world: Make) -> None:
    own = world()
    results = own.compared(own.embedded(4.0), own.embedded(0.5))
    row = headline(results.rows)
    assert (row.verdict.mark, row.verdict.words) == ("ok", "better than before alignment")
    assert row.after and row.before and row.difference and row.floors.shortcut
    for side, place in ((row.after, own.run / "scores"), (row.before, own.baseline / "encoder")):
        said = score_files.predictions(place)[TASK, "subject_clean", "default", "linear"]
        labels, scores = [p.label for p in said], [p.score for p in said]
        assert side.value == pytest.approx(roc_auc_score(labels, scores))
    assert row.difference.value == pytest.approx(row.after.value - row.before.value)
    assert row.difference.low is not None and 0 < row.difference.low < row.difference.value
    assert row.difference.p_holm >= row.difference.p > 0
    assert results.summary.tasks == 1 and results.summary.after == pytest.approx(row.after.value)
    assert results.summary.datasets[0].dataset == "icbhi" and results.run.best_epoch == 3
    assert row.floors.chance == 0.5 and row.floors.label_leak
    full, strict = row.floors.label_leak.full, row.floors.label_leak.strict
    assert full is not None and full > 0.99 and strict is not None and strict < 0.8
    leakage = row.leakage
    assert (leakage.shared_persons, leakage.aligned_persons, leakage.heard_persons) == (0, 0, 0)
    assert leakage.near_duplicates is None and leakage.near_reason == "sounds were not compared"
    assert leakage.pretraining.startswith("none")


def test_a_leaky_split_is_named(world: Make) -> None:
    own = world()
    tested = [r for r in own.rows if r["fold"] == "test" and r["recording_id"].endswith("_0")]
    for row in tested[:6]:
        row["fold"] = "train"
    row = own.row(own.embedded(4.0))
    assert row.verdict.mark == "bad" and row.leakage.shared_persons == 6
    assert row.verdict.words == "6 test persons are also in train or validation"
    assert "shares_persons" in row.flags


def test_a_swapped_label_map_is_named(world: Make) -> None:
    own = world()
    features = own.embedded(4.0)
    for row in own.rows:
        if row["fold"] == "test":
            row["label"] = 1 - row["label"]
    row = own.row(features)
    assert row.after and row.after.value < 0.2 and "below_chance" in row.flags
    assert row.verdict.mark == "bad" and "swapped labels" in row.verdict.words


def test_a_constant_embedding_is_named(world: Make) -> None:
    own = world()
    row = own.row({name: np.ones(16) for name in own.embedded(0.0)})
    assert row.verdict.mark == "bad" and "constant_features" in row.flags
    assert "features do not vary" in row.verdict.words


def test_an_embedding_of_the_device_is_named(world: Make) -> None:
    """A fine score, and worth no more than the metadata."""
    own = world(device_tells=True)
    rng = np.random.default_rng(3)
    heard: Features = {
        r["recording_id"]: np.append(rng.standard_normal(3), own.device(r) == "Meditron")
        for r in own.rows
    }
    row = own.row(heard)
    assert row.after and row.after.value > 0.85 and row.floors.shortcut
    assert row.floors.shortcut.value > 0.85 and row.verdict.mark == "warn"
    assert "metadata that hear no sound" in row.verdict.words
    assert "no_better_than_shortcut" in row.flags


def test_aligned_test_persons_are_named_before_anything_else(world: Make) -> None:
    own = world()
    tested = sorted({r["person_id"] for r in own.rows if r["fold"] == "test"})[:4]
    own.aligned |= {f"{p}_0" for p in tested}
    row = own.row({name: np.ones(16) for name in own.embedded(0.0)})  # a second, smaller fault
    assert row.leakage.aligned_persons == 4 and "aligned_persons" in row.flags
    assert row.verdict.mark == "bad"
    assert row.verdict.words == "test persons were in alignment training (4)"


def test_only_the_job_file_says_what_a_run_was_given(world: Make) -> None:
    """The flag in the pairs table is clean; what training got was not."""
    own = world()
    own.made(own.embedded(4.0), own.embedded(0.5))
    given = json.loads((own.run / "job.json").read_text())
    pairs = store.read_table(layout.Corpus(own.settings.data_root).table("pairs")).to_pylist()
    held = [p["pair_id"] for p in pairs if p["split"] == "val"]
    given["aligned"] += held
    store.write_json(own.run / "job.json", given)
    assert not own.again().skipped
    row = headline(results_file.read(own.run).rows)
    assert row.leakage.aligned_persons == 24 and row.verdict.mark == "bad"


def test_heard_test_persons_and_near_equal_sounds_are_named(world: Make) -> None:
    own = world()
    own.heard = {r["recording_id"] for r in own.rows if r["fold"] == "test"}
    row = own.row(own.embedded(4.0))
    assert row.leakage.heard_persons == 48 and row.verdict.mark == "warn"
    assert row.verdict.words.startswith("transductive: 48 test persons")

    names = {f: [r["recording_id"] for r in own.rows if r["fold"] == f] for f in ("train", "test")}
    own.heard = set()
    own.sounds = [
        [names["train"][0], names["test"][0], names["test"][9]],  # two tested sounds were learned
        [names["test"][4], names["test"][6]],  # two tested sounds are one: no leak
        [names["train"][1], names["train"][7]],
    ]
    row = own.row(own.embedded(4.0))
    assert row.leakage.near_duplicates == 2 and row.verdict.mark == "bad"
    assert row.verdict.words.startswith("2 tested sounds are nearly equal to sounds that were")


def test_no_gain_is_no_gain(world: Make) -> None:
    own = world()
    row = own.row(own.embedded(4.0), own.embedded(4.0, seed=1))
    assert row.difference and row.difference.p > 0.05
    assert row.verdict.words == "no difference from before alignment is shown"
    worse = own.row(own.embedded(2.5), own.embedded(6.0))
    assert worse.verdict.words == "worse than before alignment" and worse.verdict.mark == "warn"


def test_before_and_after_on_other_units_is_an_error(world: Make) -> None:
    own = world()
    own.made(own.embedded(4.0), own.embedded(0.5))
    features = own.embedded(0.5)
    lost = next(r["recording_id"] for r in own.rows if r["fold"] == "test")
    scored({k: v for k, v in features.items() if k != lost}, own.rows, own.baseline / "encoder")
    store.write_json(own.baseline / "stamp.json", {"version": "other"})
    with pytest.raises(ValueError, match=rf"{TASK} subject_clean.*different test units"):
        own.again()


def test_files_agree_follow_the_schema_and_name_nobody(world: Make) -> None:
    own = world()
    results = own.compared(own.embedded(4.0), own.embedded(0.5))
    values = json.loads((own.run / "results.json").read_text())
    schema = json.loads((own.run / "results.schema.json").read_text())
    assert faults(values, schema, schema) == [] and values["schema"] == 1
    values["rows"][0]["verdict"]["mark"] = "fine"
    del values["rows"][0]["leakage"]["shared_persons"]
    assert len(faults(values, schema, schema)) == 2
    table = pd.read_parquet(own.run / "results.parquet")
    assert len(table) == len(results.rows)
    for flat, row in zip(table.to_dict("records"), results.rows, strict=True):
        assert (flat["task"], flat["verdict"]) == (row.task, row.verdict.words)
        assert flat["after_value"] == (row.after and row.after.value)
        assert json.loads(flat["flags"]) == row.flags
    text = (own.run / "results.json").read_text() + table.to_json()
    assert not any(r["person_id"] in text for r in own.rows)


def faults(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[str]:
    """What is wrong by the part of JSON Schema that the file uses."""
    if "$ref" in schema:
        return faults(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        tried = [faults(value, option, root) for option in schema["anyOf"]]
        return [] if [] in tried else min(tried, key=len)
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{value!r} is none of {schema['enum']}"]
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
             "number": int | float, "null": type(None)}  # fmt: skip
    if not isinstance(value, kinds[schema["type"]]):
        return [f"{value!r} is no {schema['type']}"]
    found: list[str] = []
    if isinstance(value, dict):
        known = schema.get("properties", {})
        found += [f"{name} is missing" for name in schema.get("required", ()) if name not in value]
        more = schema.get("additionalProperties", True)
        for name, own in value.items():
            if name in known:
                found += faults(own, known[name], root)
            elif more is False:
                found.append(f"{name} is not known")
            elif isinstance(more, Mapping):
                found += faults(own, more, root)
    if isinstance(value, list):
        found += [f for own in value for f in faults(own, schema.get("items", {}), root)]
    return found


def test_subgroups_and_the_certificate_come_with_a_row(world: Make) -> None:
    own = world(device_tells=True)
    own.write_tables()
    outcome = datasets.check(own.settings, "icbhi", silent, most_hours=0)
    assert outcome.facts["unsound"] == [] and not outcome.skipped
    assert datasets.check(own.settings, "icbhi", silent, most_hours=0).skipped
    row = own.row(own.embedded(4.0))
    assert row.leakage.near_duplicates is None
    assert row.leakage.near_reason and "more than 0 h to compare" in row.leakage.near_reason
    assert row.certificate and row.certificate["sound"]
    assert any("device alone" in v["text"] for v in row.certificate["verdicts"])
    groups = {(g.attribute, g.value): g for g in row.subgroups}
    assert {a for a, _ in groups} == {"age", "device", "sex", "site"}
    assert groups["age", "45 to 65 years"].units > 0 and groups["sex", "female"].after is not None
    alone = groups["device", "Welch Allyn Meditron Master Elite electronic stethoscope"]
    assert alone.too_small and min(alone.persons) < 10 < max(alone.persons)
    by_sex = [g for g in row.subgroups if g.attribute == "sex"]
    assert sum(g.units for g in by_sex) == row.units["test"]


def test_a_certificate_loses_the_names_of_its_examples(world: Make) -> None:
    own = world()
    for row in [r for r in own.rows if r["fold"] == "test"][:3]:
        row["fold"] = "train"
    own.write_tables()
    datasets.check(own.settings, "icbhi", silent, most_hours=0)
    text = layout.Corpus(own.settings.data_root).dataset("icbhi").split_checks.read_text()
    assert "are on more than one side" in text and "P0" not in text


def test_sides_that_are_persons_lose_their_names() -> None:
    rows = [{"split": f"mmlung/{n % 5}", "patient_id": f"mmlung/{n % 5}", "recording_id": f"{n}",
             "label": "ab"[n % 2]} for n in range(10)]  # fmt: skip
    certificate = certify(build("left out", pd.DataFrame(rows).astype(object), Choices()))
    found = datasets.shortened(certificate)
    assert "mmlung/" not in json.dumps(found)
    assert found["sides"] == [
        {"name": "5 sides", "recordings": 10, "persons": 5, "labels": {"a": 5, "b": 5}}
    ]


def test_it_skips_itself_and_takes_in_what_lies_beyond(world: Make) -> None:
    own = world()
    assert not own.made(own.embedded(4.0), own.embedded(0.5)).skipped
    assert own.again().skipped
    store.write_json(own.run / "beyond.json", {"retrieval": 1})
    assert not own.again().skipped
    assert results_file.read(own.run).beyond == {"retrieval": 1}
    (own.run / "results.json").unlink()
    assert not own.again().skipped


def test_what_was_not_run_stands_there_with_its_reason(world: Make) -> None:
    own = world()
    for row in own.rows:
        row["label"] = 0.0 if row["fold"] == "train" else row["label"]
    results = own.compared(own.embedded(4.0), own.embedded(0.5))
    row = headline(results.rows)
    assert row.verdict.mark == "none" and "fewer than 2 persons of a class" in row.verdict.words
    assert row.after is None and results.summary.tasks == 0 and results.summary.difference is None


def test_the_asset_reports_what_it_found(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both checks of the wiring fail on a leaky split, and hold on a clean one."""
    own = world()
    known = {"icbhi": load_all()["icbhi"]}
    at = comparison.Folders(
        run=own.run,
        baseline=own.baseline,
        label_leak=layout.Corpus(own.settings.data_root).label_leak,
    )
    monkeypatch.setattr(comparison, "folders", lambda *_: at)
    monkeypatch.setattr(datasets, "check", lambda *_: None)  # there are no sounds
    monkeypatch.setattr("pipeline.steps.beyond.measure", lambda *_: None)
    (asset,) = [
        a for a in model_assets.build(own.settings, known) if a.key == dg.AssetKey("comparison")
    ]
    names = {"clean_splits_leak_nothing", "no_bad_verdict_on_a_clean_split"}
    for leaky in (False, True):
        own.rows[6]["fold"] = "train" if leaky else own.rows[7]["fold"]
        own.made(own.embedded(4.0), own.embedded(0.5))
        result = dg.materialize([asset], instance=dg.DagsterInstance.ephemeral())
        assert result.success
        found = {e.check_name: e for e in result.get_asset_check_evaluations()}
        assert {*found} == names and all(e.passed is not leaky for e in found.values())
        assert all(e.metadata["found"].value == int(leaky) for e in found.values())


def runs_of(own: World, **features: Features) -> list[run_comparison.Run]:
    root = own.settings.data_root
    for name, vectors in features.items():
        scored(vectors, own.rows, layout.Corpus(root).runs / f"{name}-0123abcd" / "scores")
    return [run_comparison.load(root, name) for name in features]


def test_runs_are_compared_over_the_same_persons(world: Make) -> None:
    own = world()
    task = load_all()["icbhi"].evaluation_task("copd")
    runs = runs_of(own, control=own.embedded(0.5), sample=own.embedded(4.0))
    found = run_comparison.compare(runs, {TASK: task}, Way())
    turned = run_comparison.compare(runs[::-1], {TASK: task}, Way())
    (line,), (back,) = found.lines, turned.lines
    assert line.differences[0] and back.differences[0] and found.means[0]
    gap = line.differences[0][0]
    assert gap.low > 0 and gap.p < 0.05 and found.means[0][1].value == pytest.approx(gap.value)
    assert back.differences[0][0].value == pytest.approx(-gap.value)
    assert back.differences[0][0].p == pytest.approx(gap.p)


def test_runs_tested_on_other_units_are_refused_by_name(world: Make) -> None:
    own = world()
    task = load_all()["icbhi"].evaluation_task("copd")
    full = own.embedded(1.0)
    lost = sorted(r["recording_id"] for r in own.rows if r["fold"] == "test")[:5]
    few = {k: v for k, v in full.items() if k not in lost}
    runs = runs_of(own, one=full, two=few)
    with pytest.raises(ComparisonError, match=rf"{TASK}: only one was tested on {lost[0]}.*5 such"):
        run_comparison.compare(runs, {TASK: task}, Way())
    with pytest.raises(ComparisonError, match="there are: subject_clean default linear"):
        run_comparison.compare(runs, {TASK: task}, Way(protocol="published"))


def test_acula_compare(world: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = world()
    names = {"sample": own.embedded(4.0), "sample+shuffled_reports": own.embedded(0.5)}
    runs_of(own, **names)
    monkeypatch.setenv("ACULA_DATA_ROOT", str(own.settings.data_root))
    out = tmp_path / "table.json"
    done = CliRunner().invoke(app, ["compare", *names, "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert TASK in done.output and "mean of 1" in done.output
    facts = json.loads(out.read_text())
    assert facts["reference"] == "sample" and facts["mean_auroc_differences"][0]["value"] < 0
    assert facts["tasks"][0]["differences"][0]["run"] == "sample+shuffled_reports"
    missing = CliRunner().invoke(app, ["compare", "sample", "other"])
    assert missing.exit_code == 2 and "sample-0123abcd" in missing.output
    assert CliRunner().invoke(app, ["compare", "sample"]).exit_code == 2


def test_results_of_another_form_are_refused() -> None:
    with pytest.raises(ValueError, match="schema"):
        Results.model_validate({"rows": []})
