"""Measures beyond probes: each finds what is planted, and says chance where nothing is."""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TinyIcbhi, manifest_values, tone
from evaluation_world import BINARY, LEFT_OUT, SEVERITY, VOLUME, Features, Row, world
from hypothesis import given, settings
from hypothesis import strategies as st
from training_world import RECIPE, silent

from acula_model import checkpoint, gauges
from acula_model.evaluation import (
    agreement,
    confound,
    intervals,
    label_efficiency,
    retrieved,
    transfer,
    zero_shot,
)
from acula_model.evaluation.examples import NotRun
from acula_model.evaluation.intervals import Difference, Interval
from acula_model.evaluation.run import run
from acula_model.evaluation.task import Task
from acula_model.retrieval import retrieval
from acula_model.teachers import vectors
from pipeline.manifest import Manifest, load_all
from pipeline.settings import Settings
from pipeline.steps import beyond, beyond_texts, embeddings, layout, plain, prompts, store, training

WIDE = 64


def shared_space(
    task: Task, signal: float, persons: int = 100, seed: int = 0
) -> tuple[Features, list[Row], list[Any]]:
    """Sounds that lean towards their class's direction, and statements around that direction."""
    _, rows = world(task, persons, seed=seed)
    rng = np.random.default_rng(seed)
    classes = max(2, len(task.classes))
    direction = np.linalg.qr(rng.standard_normal((WIDE, classes)))[0].T
    sounds = {
        r["recording_id"]: rng.standard_normal(WIDE) + signal * direction[int(r["label"])]
        for r in rows
    }
    stated = [d + 0.05 * rng.standard_normal((3, WIDE)) for d in direction]
    return sounds, rows, stated


@pytest.mark.parametrize("task", [BINARY, SEVERITY])
def test_statements_recognise_what_they_state_and_nothing_else(task: Task) -> None:
    sounds, rows, stated = shared_space(task, signal=3.0)
    found = zero_shot.score(task, rows, sounds, stated)
    assert found.auroc.value > 0.9 and found.auroc.low > found.random_high
    assert found.random_low < 0.5 < found.random_high
    assert found.persons == 40 and found.units == 80
    turned = zero_shot.score(task, rows, sounds, [*stated[1:], stated[0]])
    assert turned.auroc.high < 0.5
    unheard, rows, stated = shared_space(task, signal=0.0)
    nothing = zero_shot.score(task, rows, unheard, stated)
    assert nothing.auroc.low < 0.5 < nothing.auroc.high


def test_what_all_statements_share_decides_nothing() -> None:
    """Loud sounds are nearer to every class; only what sets the classes apart counts."""
    sounds, rows, stated = shared_space(BINARY, signal=3.0)
    loud = np.eye(WIDE)[0]
    draw = np.random.default_rng(1)
    sounds = {k: v + 30 * draw.standard_normal() * loud for k, v in sounds.items()}
    found = zero_shot.score(BINARY, rows, sounds, [s + 3 * loud for s in stated])
    assert found.auroc.low > 0.7


def test_in_a_space_of_one_direction_every_statement_says_something() -> None:
    """Half of all directions order the sounds as well as the best; the interval does not know."""
    _, rows, stated = shared_space(BINARY, signal=0.0)
    line = np.eye(WIDE)[0]
    sounds = {r["recording_id"]: line * (2 * r["label"] - 1) for r in rows}
    pointing = [s - 5 * line * (1 - 2 * n) for n, s in enumerate(stated)]
    found = zero_shot.score(BINARY, rows, sounds, pointing)
    assert found.auroc.low == 1.0
    assert found.random_low == 0.0 and found.random_high == 1.0


def test_what_has_no_classes_or_no_persons_is_not_stated() -> None:
    sounds, rows, stated = shared_space(BINARY, 1.0)
    with pytest.raises(NotRun, match="no classes to state"):
        zero_shot.score(VOLUME, rows, sounds, stated)
    with pytest.raises(NotRun, match="each needs a statement"):
        zero_shot.score(BINARY, rows, sounds, [stated[0], np.zeros((0, WIDE))])
    one = [r | {"label": 0.0} if r["fold"] == "test" else r for r in rows]
    with pytest.raises(NotRun, match="healthy 40, COPD 0"):
        zero_shot.score(BINARY, one, sounds, stated)


def test_retrieval_of_partners_of_equals_and_of_nothing() -> None:
    draw = torch.Generator().manual_seed(0)
    audio, other = (torch.randn(120, 16, generator=draw) for _ in range(2))
    persons = [f"p{n // 3}" for n in range(120)]
    own, equal = torch.arange(120), torch.arange(120) // 2
    for name, way in retrieved.both_ways(audio, audio + 0.01 * other, own, persons).items():
        assert way.recall[1].low == 1.0 and way.median_rank.value == 1.0, name
        assert way.queries == 120 and way.persons == 40
        assert way.chance[10] == pytest.approx(10 / 120) and way.chance_rank == 60.5
    # Each report is its neighbour's: the same findings count, another report does not.
    swapped = audio[torch.arange(120).reshape(-1, 2).flip(1).reshape(-1)]
    assert retrieved.both_ways(audio, swapped, own, persons)["report"].recall[1].high == 0.0
    assert retrieved.both_ways(audio, swapped, equal, persons)["report"].recall[1].low == 1.0
    nothing = retrieved.both_ways(audio, other, equal, persons)["sound"]
    for k, seen in nothing.recall.items():
        assert seen.low <= nothing.chance[k] <= seen.high
        assert seen.value == pytest.approx(retrieval(audio, other, equal).sound.recall[k])
    assert nothing.median_rank.value == pytest.approx(
        retrieval(audio, other, equal).sound.median_rank
    )
    with pytest.raises(NotRun, match="same findings"):
        retrieved.both_ways(audio, other, own * 0, persons)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.data())
def test_a_weighted_median_is_that_of_the_drawn(values: list[int], data: st.DataObject) -> None:
    counts = data.draw(
        st.lists(st.integers(0, 4), min_size=len(values), max_size=len(values)).filter(any)
    )
    median = retrieved._median(torch.tensor(values).double())
    said = median(np.array([counts], float))[0]
    assert said == np.median(np.repeat(values, counts))


def test_an_interval_of_a_mean_draws_persons() -> None:
    """Ten copies of each recording narrow no interval."""
    rng = np.random.default_rng(0)
    value = rng.random(60)
    persons = [f"p{n}" for n in range(60)]

    def mean_of(known: Any) -> Any:
        return lambda weights_RN: weights_RN @ known / weights_RN.sum(1)

    once = intervals.of_statistic(mean_of(value), persons)
    often = intervals.of_statistic(mean_of(np.repeat(value, 10)), np.repeat(persons, 10).tolist())
    assert once.low == pytest.approx(often.low) and once.high == pytest.approx(often.high)
    assert once.se == pytest.approx(value.std() / math.sqrt(60), rel=0.1)


@pytest.mark.parametrize("task", [BINARY, SEVERITY, VOLUME, LEFT_OUT])
def test_more_labels_are_better_and_all_of_them_are_the_probe(task: Task) -> None:
    persons = 40 if task is LEFT_OUT else 300
    silent_features, rows = world(task, persons, signal=0.0, scales=0.5)
    features, _ = world(task, persons, signal=2.0, scales=0.5)
    found = label_efficiency.curve(silent_features, features, rows, task)
    assert [s.share for s in found] == [0.1, 0.5, 1.0]
    few, half, every = found
    assert few.persons < half.persons < every.persons
    assert every.persons == (40 if task is LEFT_OUT else 180)
    (score,), _ = run(features, rows, {task.id: task}, protocols=("default",))
    assert score.value == pytest.approx(every.compared.after.value)
    better = -1 if task.metric == "mae" else 1
    assert better * (every.compared.after.value - few.compared.after.value) > 0
    assert better * every.compared.difference.value > 0 and every.compared.difference.p < 0.05


def test_both_encoders_learn_from_the_same_persons_and_no_others() -> None:
    """A share knows only its persons: all other labels may be turned round."""
    features, rows = world(signal=4.0, scales=0.5, persons=200)
    (few,) = label_efficiency.curve(features, features, rows, BINARY, shares=(0.1,))
    assert few.compared.difference.value == 0.0 and few.compared.difference.p == 1.0
    turned = [r | {"label": 1 - r["label"]} if r["fold"] == "test" else r for r in rows]
    (other,) = label_efficiency.curve(features, features, turned, BINARY, shares=(0.1,))
    assert other.compared.after.value == pytest.approx(1 - few.compared.after.value)
    with pytest.raises(NotRun, match="fewer than 2 persons"):
        label_efficiency.curve(features, features, rows[:4], BINARY)


def renamed(dataset: str, signal: float, seed: int) -> tuple[Features, list[Row], Task]:
    features, rows = world(signal=signal, scales=0.5, seed=seed)
    task = replace(BINARY, id=f"{dataset}/copd")

    def here(name: str) -> str:
        return name.replace("icbhi/", f"{dataset}/")

    moved = [
        {k: here(v) if isinstance(v, str) else v for k, v in r.items()} | {"task": task.id}
        for r in rows
    ]
    return {here(k): v for k, v in features.items()}, moved, task


def test_a_head_moves_where_the_sign_is_the_same_and_not_elsewhere() -> None:
    one, here, first = renamed("icbhi", 4.0, 0)
    two, there, second = renamed("kauh", 4.0, 1)
    three, turned, third = renamed("hflung", -4.0, 2)
    tasks = {t.id: t for t in (first, second, third)}
    after = one | two | three
    silent_features = {
        k: v for d in ("icbhi", "kauh", "hflung") for k, v in renamed(d, 0.0, 3)[0].items()
    }
    assert after.keys() == silent_features.keys()
    rows = [*here, *there, *turned]
    found = transfer.between(
        silent_features, after, rows, tasks, {"icbhi/copd": "q", "kauh/copd": "q"}
    )
    assert [(t.source, t.target) for t in found] == [
        ("kauh/copd", "icbhi/copd"),
        ("icbhi/copd", "kauh/copd"),
    ]
    for moved in found:
        assert moved.compared is not None and moved.own is not None
        assert moved.compared.after.low > 0.8 and moved.compared.difference.low > 0
        assert moved.compared.before.low < 0.5 < moved.compared.before.high
    same = dict.fromkeys(tasks, "q")
    opposite = {(t.source, t.target): t for t in transfer.between(after, after, rows, tasks, same)}
    assert len(opposite) == 6
    wrong = opposite["hflung/copd", "icbhi/copd"]
    assert wrong.compared is not None and wrong.compared.after.high < 0.2
    assert wrong.own is not None and wrong.own.after.low > 0.8


def test_a_transfer_learns_from_no_person_it_is_tested_on() -> None:
    one, here, first = renamed("icbhi", 4.0, 0)
    two, there, second = renamed("kauh", 4.0, 0)
    tested = {r["person_id"] for r in here if r["fold"] == "test"}
    renaming = dict(zip(sorted({r["person_id"] for r in there}), sorted(tested) * 3, strict=False))
    there = [r | {"person_id": renaming[r["person_id"]]} for r in there]
    (found, _) = transfer.between(
        one | two, one | two, [*here, *there], {t.id: t for t in (first, second)},
        {first.id: "q", second.id: "q"},
    )  # fmt: skip
    assert found.target == first.id and found.compared is None
    assert found.reason == "all persons of kauh/copd are tested in icbhi/copd"


def test_a_task_of_another_kind_is_no_target() -> None:
    one, here, first = renamed("icbhi", 4.0, 0)
    two, there, second = renamed("kauh", 4.0, 1)
    tasks = {first.id: first, second.id: replace(second, kind="regression", classes=())}
    found = transfer.between(
        one | two, one | two, [*here, *there], tasks, dict.fromkeys(tasks, "q")
    )
    assert [t.reason for t in found] == [
        "kauh/copd is regression and icbhi/copd binary",
        "icbhi/copd is binary and kauh/copd regression",
    ]


def subjects_with(devices: tuple[str, ...], persons: int = 120) -> tuple[list[Row], dict[str, str]]:
    split = ("train", "train", "val", "test")
    rows = [
        {"recording_id": f"d/{n}_{take}", "case_id": f"d/{n}", "person_id": f"d/{n}",
         "split": split[n % 4]}
        for n in range(persons) for take in range(2)
    ]  # fmt: skip
    values = {r["recording_id"]: devices[int(r["person_id"][2:]) // 4 % len(devices)] for r in rows}
    return rows, values


@pytest.mark.parametrize("devices", [("a", "b"), ("a", "b", "c")])
def test_a_device_that_alignment_adds_is_read_off(devices: tuple[str, ...]) -> None:
    subjects, values = subjects_with(devices)
    rng = np.random.default_rng(0)
    before = {r["recording_id"]: rng.standard_normal(16) for r in subjects}
    after = {k: v + 5 * np.eye(16)[devices.index(values[k])] for k, v in before.items()}
    found = confound.measure(before, after, "device", values, subjects)
    assert found.compared.after.low > 0.95 and found.compared.difference.low > 0
    assert found.compared.before.low < 0.5 < found.compared.before.high
    assert set(found.values) == set(devices) and sum(found.values.values()) == 30
    rare = values | {"d/0_0": "z"}
    assert confound.measure(before, after, "device", rare, subjects).left_out == ("z",)
    in_test = {r["recording_id"]: "y" for r in subjects[-8:] if r["split"] == "test"}
    late = values | in_test | {f"d/{n}_0": "y" for n in (3, 7, 11)}
    assert confound.measure(before, after, "device", late, subjects).left_out == ("y",)
    with pytest.raises(NotRun, match=r"device: fewer than two values have 2 persons.*there are a"):
        confound.measure(before, after, "device", dict.fromkeys(values, "a"), subjects)


def cloud(n: int, width: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal((n, width))


def test_agreement_with_the_teacher_is_found_and_is_none_by_chance() -> None:
    after, before = cloud(120, 24, 0), cloud(120, 24, 1)
    turn = np.linalg.qr(cloud(300, 24, 2))[0]  # into more dimensions than there are pairs
    persons = [f"p{n}" for n in range(120)]
    found = agreement.measure(before, after, after @ turn.T + 0.02 * cloud(120, 300, 3), persons)
    assert found.after.low > 0.9 and found.difference.low > 0.5 and found.difference.p < 1e-6
    assert found.before.low < 0 < found.before.high
    assert abs(found.floor_after) < 0.05 and (found.pairs, found.persons) == (120, 120)
    same = agreement.measure(after, after, cloud(120, 8, 4), persons)
    assert same.encoders.value == pytest.approx(1) and same.difference.p == 1.0
    assert same.after.low < 0 < same.after.high
    plainly = gauges.alignment(torch.from_numpy(after), torch.from_numpy(cloud(120, 300, 5)))
    wide = agreement.measure(after, after, cloud(120, 300, 5), persons)
    assert wide.after.value == pytest.approx(plainly)
    alike = agreement.measure(
        after, after, (after * 0 + 1e3 * cloud(1, 24, 6)) * (1 + 1e-12 * after), persons
    )
    assert alike.after.value == alike.after.low == alike.floor_after == 0.0
    with pytest.raises(NotRun, match="9 held-out persons"):
        agreement.measure(before, after, after, [f"p{n % 9}" for n in range(120)])


def test_likeness_within_persons_is_the_floor_of_an_agreement() -> None:
    """Both sides tell persons apart and nothing else: reports of other persons agree as well."""
    owner = np.arange(160) // 4
    persons = [f"p{n}" for n in owner]
    sound = cloud(40, 12, 0)[owner] + 0.3 * cloud(160, 12, 1)
    text = cloud(40, 12, 2)[owner] + 0.3 * cloud(160, 12, 3)
    found = agreement.measure(sound, sound, text, persons)
    assert found.floor_after > 0.1
    assert found.after.low < found.floor_after < found.after.high


def test_the_jackknife_covers() -> None:
    """The spread of many worlds is what the interval of one says."""
    said: list[Interval] = []
    for seed in range(40):
        x = cloud(80, 6, 2 * seed)
        owner = [f"p{n // 2}" for n in range(80)]
        found = agreement.measure(x, x, x[:, :3] + cloud(80, 3, 2 * seed + 1), owner)
        said.append(found.after)
    truth = float(np.std([i.value for i in said], ddof=1))
    assert 0.6 < np.mean([i.se for i in said]) / truth < 1.6


def test_a_large_dataset_is_measured_on_whole_persons() -> None:
    x = cloud(4000, 4, 0)
    found = agreement.measure(x, x, x, [f"p{n // 8}" for n in range(4000)])
    assert 1000 <= found.pairs < 1008 and found.pairs == 8 * found.persons


@pytest.mark.parametrize(
    ("dataset", "name"), [(d, t) for d, m in load_all().items() for t in m.tasks]
)
def test_every_class_of_every_task_has_statements_of_its_own(dataset: str, name: str) -> None:
    manifest = load_all()[dataset]
    classes = prompts.of_task(manifest, name)
    assert len(classes) == len(manifest.tasks[name].codes)
    texts = [r.text for own in classes for r in own]
    assert all(classes) and len(set(texts)) == len(texts)


def test_statements_come_from_the_manifest_the_report_or_the_words() -> None:
    icbhi, kauh = load_all()["icbhi"], load_all()["kauh"]
    healthy, copd = prompts.of_task(icbhi, "copd")
    assert "Clinical status: healthy." in [r.text for r in healthy]
    assert {r.terms for r in copd} == {("diagnosis=COPD",)}
    _, ill = prompts.of_task(kauh, "obstructive")
    assert ill[0].text == "Diagnosis: asthma." and ill[0].terms == ()
    task = {"title": "m", "label": "murmur", "positive": ["P"], "negative": ["N"]}
    said = {"prompts": {"negative": ["Quiet."], "positive": ["A murmur.", "It murmurs."]}}
    own = Manifest.model_validate(manifest_values(tasks={"murmur": task | said}))
    assert [[r.text for r in c] for c in prompts.of_task(own, "murmur")] == [
        ["Quiet."],
        ["A murmur.", "It murmurs."],
    ]
    for wrong in ({"positive": ["A murmur."]}, {"negative": [], "positive": ["A murmur."]}):
        with pytest.raises(ValueError, match="prompts are of each class: negative, positive"):
            Manifest.model_validate(manifest_values(tasks={"murmur": task | {"prompts": wrong}}))
    with pytest.raises(ValueError, match="question"):
        Manifest.model_validate(manifest_values(tasks={"murmur": task | {"question": "ilness"}}))


def test_tasks_of_one_question_are_of_one_kind_and_of_several_datasets() -> None:
    asked: dict[str, list[tuple[str, str]]] = {}
    for dataset, manifest in load_all().items():
        for task in manifest.tasks.values():
            if task.question:
                asked.setdefault(task.question, []).append((dataset, task.kind))
    for question, own in asked.items():
        assert len({d for d, _ in own}) > 1 and len({k for _, k in own}) == 1, question


def test_numbers_are_plain_json() -> None:
    gap = Difference(value=0.1, low=math.nan, high=1.0, se=0.1, draws=2, failed=0, p=0.5)
    said = plain.of({"a": {10: gap}, "b": (np.float64(1.5), math.inf, "x", None, True, 3)})
    assert said == {
        "a": {"10": {"value": 0.1, "low": None, "high": 1.0, "p": 0.5}},
        "b": [1.5, None, "x", None, True, 3],
    }
    json.dumps(said, allow_nan=False)


@pytest.mark.slow
def test_a_finished_run_is_measured_once_and_reads_test_reports_apart(
    tiny_archive: TinyIcbhi,
    tiny_settings: Settings,
    materialise: Callable[..., dict[str, store.Outcome]],
) -> None:
    for number in range(109, 160):
        for take in (1, 2):
            diagnosis = "COPD" if number % 2 else "Healthy"
            sound = tone(10 * number - 900 + 5 * take)
            side = "test" if number % 5 < 2 else "train"
            tiny_archive.add(f"{number}_1b{take}_Tc_sc_Meditron", sound, side, diagnosis)
    tiny_archive.save()
    materialise()
    recipe = dataclasses.replace(RECIPE, epochs=1, stop_on_collapse=False)
    known = {"icbhi": load_all()["icbhi"]}
    with pytest.raises(FileNotFoundError, match="train_alignment"):
        beyond.measure(tiny_settings, recipe, known, silent)
    embeddings.embed(tiny_settings, recipe, silent)
    training.align(tiny_settings, recipe, known, silent)
    outcome = beyond.measure(tiny_settings, recipe, known, silent)
    place = training.run_folder(tiny_settings, recipe, known)
    found = json.loads((place / "beyond.json").read_text())
    assert found["schema"] == 1 and found["regime"] == "disjoint"
    copd = found["zero_shot"]["icbhi/copd"]
    assert copd["auroc"]["low"] <= copd["auroc"]["value"] <= copd["auroc"]["high"]
    assert copd["prompts"]["positive"] and copd["units"] == 2 * copd["persons"]
    assert found["retrieval"]["icbhi/lung"]["report"]["recall"]["10"]["value"] > 0
    assert {"before", "after", "encoders"} <= found["agreement"]["icbhi/lung"].keys()
    shares = found["label_efficiency"]["icbhi/copd"]["shares"]
    assert [s["share"] for s in shares] == [0.1, 0.5, 1.0] and "p" in shares[0]["difference"]
    assert found["transfer"] == [] and set(found["confound"]) == set()
    # What training may read has no report of a test person; the measures have them elsewhere.
    corpus = layout.Corpus(tiny_settings.data_root)
    pairs = store.read_table(corpus.table("pairs")).to_pylist()
    tested = {r["full_hash"] for r in pairs if r["split"] == "test"}
    read, _ = vectors.read(embeddings.table(tiny_settings, recipe))
    assert tested and not tested & read.keys()
    (measured,) = corpus.measured_texts.iterdir()
    kept = {h for p in measured.glob("part-*.npz") for h in np.load(p)["hashes"].tolist()}
    assert tested <= kept
    assert beyond.measure(tiny_settings, recipe, known, silent).skipped
    assert outcome.facts["zero_shot"].keys() == {"icbhi/copd", "icbhi/copd_meditron"}
    # A run of the encoder's own loss alone has no space that texts share.
    aligned = dataclasses.replace(checkpoint.load(place / "checkpoint"), heads={})
    texts = beyond_texts.Texts(vectors=read, missing=None, aligned=aligned)
    with pytest.raises(NotRun, match="aligned nothing"):
        texts.reports(list(read)[:2])
    assert texts.raw(list(read)[:2]).shape[0] == 2
    gone = beyond_texts.read(
        dataclasses.replace(aligned, teacher=None), recipe, [], [], corpus.measured_texts, silent
    )
    with pytest.raises(NotRun, match="the teacher is not at hand"):
        gone.raw(["x"])
