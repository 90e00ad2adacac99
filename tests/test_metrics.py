"""AUROC against scikit-learn, and intervals that resample persons."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from acula_model.metrics import Scored, auroc, auroc_interval, draw_persons, mean_difference


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-3, 3), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=25
    )
)
def test_auroc_equals_scikit_learn_with_ties_and_repeats(rows: list[tuple[int, int, int]]) -> None:
    scores, labels, weights = (np.array(column) for column in zip(*rows, strict=True))
    found = auroc(scores / 3, labels, np.stack([np.ones(len(rows)), weights]))
    for value, times in zip(found, (np.ones(len(rows), int), weights), strict=True):
        drawn = np.repeat(labels, times)
        if len(set(drawn)) < 2:
            assert np.isnan(value)
        else:
            oracle = roc_auc_score(drawn, np.repeat(scores / 3, times))
            assert value == pytest.approx(oracle, abs=1e-12)


def world(persons: int, each: int, skill: float = 1.0, seed: int = 0) -> Scored:
    """Recordings of one person have one label and nearly one score."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(persons) % 2, each)
    person_score = np.repeat(rng.standard_normal(persons), each) + skill * labels
    return Scored(
        scores=person_score + 0.05 * rng.standard_normal(len(labels)),
        labels=labels,
        persons=[f"p{n // each}" for n in range(len(labels))],
    )


def test_many_recordings_of_few_persons_are_not_many_persons() -> None:
    clustered = world(30, 20)
    alone = Scored(
        scores=clustered.scores,
        labels=clustered.labels,
        persons=[str(n) for n in range(len(clustered.labels))],
    )
    by_person, by_recording = auroc_interval(clustered), auroc_interval(alone)
    assert by_person.value == by_recording.value
    assert by_person.value == pytest.approx(roc_auc_score(clustered.labels, clustered.scores))
    assert by_person.low < by_person.value < by_person.high
    width = {k: i.high - i.low for k, i in (("person", by_person), ("recording", by_recording))}
    assert width["person"] > 3 * width["recording"]


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = 0.76025  # of two normals one standard deviation apart: Phi(1 / sqrt 2)
    intervals = [auroc_interval(world(60, 3, seed=s), draws=300) for s in range(100)]
    assert 86 <= sum(i.low <= truth <= i.high for i in intervals) <= 99


def test_draws_are_whole_persons_and_repeatable() -> None:
    people = ["b", "a", "b", "c"]
    drawn = draw_persons(people, draws=50)
    assert list(drawn) == ["a", "b", "c"]
    assert (np.sum(list(drawn.values()), axis=0) == 3).all()
    assert any((d == 0).any() for d in drawn.values())
    again = draw_persons(people[::-1], draws=50)
    assert all((again[p] == drawn[p]).all() for p in drawn)


def test_identical_runs_differ_by_nothing() -> None:
    tasks = {"a": [world(20, 2), world(20, 2, seed=1)], "b": [world(15, 1, seed=2)]}
    gap = mean_difference(tasks, tasks)
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)


def test_the_difference_has_the_right_sign_and_is_paired() -> None:
    ours = {"a": [world(60, 2, skill=2.0)], "b": [world(40, 2, skill=1.5, seed=1)]}
    other = {"a": [world(60, 2, skill=0.5)], "b": [world(40, 2, skill=0.2, seed=1)]}
    gap, reverse = mean_difference(ours, other), mean_difference(other, ours)
    expected = np.mean(
        [
            roc_auc_score(ours[t][0].labels, ours[t][0].scores)
            - roc_auc_score(other[t][0].labels, other[t][0].scores)
            for t in ours
        ]
    )
    assert gap.value == pytest.approx(expected) and gap.low > 0
    assert (reverse.value, reverse.low, reverse.high) == pytest.approx(
        (-gap.value, -gap.high, -gap.low)
    )
    # Both hear the same persons, so the difference is surer than either score.
    alone = [auroc_interval(r) for r in (ours["a"][0], other["a"][0])]
    both = mean_difference({"a": ours["a"]}, {"a": other["a"]})
    assert both.high - both.low < sum(i.high - i.low for i in alone)


def test_runs_of_a_task_are_averaged_before_tasks() -> None:
    """Three seeds of one task weigh no more than one seed of another."""
    good, bad = world(40, 1, skill=3.0), world(40, 1, skill=0.0)
    flat = Scored(scores=0 * good.scores, labels=good.labels, persons=good.persons)
    gap = mean_difference({"a": [good] * 3, "b": [bad]}, {"a": [flat] * 3, "b": [flat]})
    points = [auroc_interval(s).value - 0.5 for s in (good, bad)]
    assert gap.value == pytest.approx(np.mean(points))


def test_a_task_with_few_persons_leaves_no_nan() -> None:
    """Some resamples lack a class; they say nothing instead of spoiling the interval."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interval = auroc_interval(world(4, 3))
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
