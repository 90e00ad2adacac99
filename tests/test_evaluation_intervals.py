"""Intervals over persons cover as often as they say; comparisons are paired and scale free."""

from dataclasses import replace

import numpy as np
import pytest
from costs import cost
from sklearn.metrics import roc_auc_score

from acula_model.evaluation import intervals, metrics
from acula_model.evaluation.intervals import Scored


def world(persons: int, each: int, skill: float = 1.0, seed: int = 0, own: float = 1.0) -> Scored:
    """Recordings of one person have one label and nearly one score."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(persons) % 2, each).astype(float)
    person_score = own * np.repeat(rng.standard_normal(persons), each) + skill * labels
    return Scored(
        outputs=person_score + 0.05 * rng.standard_normal(len(labels)),
        labels=labels,
        persons=[f"p{n // each}" for n in range(len(labels))],
    )


def test_many_recordings_of_few_persons_are_not_many_persons() -> None:
    clustered = world(30, 20)
    alone = replace(clustered, persons=[str(n) for n in range(600)])
    by_person, by_recording = (intervals.interval([s]) for s in (clustered, alone))
    assert by_person.value == by_recording.value
    assert by_person.value == pytest.approx(roc_auc_score(clustered.labels, clustered.outputs))
    assert by_person.low < by_person.value < by_person.high
    assert by_person.high - by_person.low > 3 * (by_recording.high - by_recording.low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = 0.76025  # of two normals one standard deviation apart: Phi(1 / sqrt 2)
    found = [intervals.interval([world(60, 3, seed=s)], draws=500) for s in range(200)]
    assert 0.90 <= np.mean([i.low <= truth <= i.high for i in found]) <= 0.99
    spread = np.std([i.value for i in found])
    assert np.mean([i.se for i in found]) == pytest.approx(spread, rel=0.15)


def test_an_error_of_numbers_has_an_interval_too() -> None:
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        person = np.repeat(rng.standard_normal(50), 4)  # one error per person
        scored = Scored(
            outputs=person, labels=0 * person, persons=[str(n // 4) for n in range(200)],
            kind="regression",
        )  # fmt: skip
        found = intervals.interval([scored], draws=500)
        covered.append(found.low <= np.sqrt(2 / np.pi) <= found.high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_draws_are_whole_persons_and_do_not_depend_on_memory() -> None:
    one = np.concatenate(list(intervals.person_counts(7, 500, 3, units=1)))
    parts = list(intervals.person_counts(7, 500, 3, units=intervals._CELLS // 64))
    assert len(parts) > 1 and (np.concatenate(parts) == one).all()
    assert (one.sum(1) == 7).all() and (one == 0).any()


def test_resampling_is_what_it_says_it_is() -> None:
    """The vectorised resamples against repeating the rows of the drawn persons."""
    scored = world(9, 2)
    counts = np.concatenate(list(intervals.person_counts(9, 50, 0, units=18)))
    people = sorted(set(scored.persons))
    for value, drawn in zip(intervals._resampled([scored], 50, 0)[0], counts, strict=True):
        times = [int(drawn[people.index(p)]) for p in scored.persons]
        labels = np.repeat(scored.labels, times)
        if len(set(labels)) == 2:
            assert value == pytest.approx(roc_auc_score(labels, np.repeat(scored.outputs, times)))
        else:
            assert np.isnan(value)


def test_resamples_without_a_class_are_counted_and_spoil_nothing() -> None:
    found = intervals.interval([world(4, 3)])
    # All four draws of one class: 2 * (1/2)^4 of 2,000.
    assert found.failed == pytest.approx(250, abs=60)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_identical_models_differ_by_nothing() -> None:
    found = intervals.difference(world(20, 2), world(20, 2))
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_difference_is_paired_and_turns_round() -> None:
    ours, other = world(60, 2, skill=2.0), world(60, 2, skill=0.5)
    found, reverse = intervals.difference(ours, other), intervals.difference(other, ours)
    assert found.value == pytest.approx(ours.value - other.value) and found.low > 0
    assert (reverse.value, reverse.low, reverse.high) == pytest.approx(
        (-found.value, -found.high, -found.low)
    )
    alone = [intervals.interval([s]) for s in (ours, other)]
    assert found.high - found.low < sum(i.high - i.low for i in alone)
    assert found.p < 0.01


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_p_values_of_equal_models_are_uniform(kind: intervals.Kind) -> None:
    """At 5 % about 5 % of comparisons of equally good models say that they differ."""
    low = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(30) % (2 if kind == "binary" else 3), 2).astype(float)
        shape = (60, 3) if kind == "multiclass" else (60,)
        truth = np.eye(3)[labels.astype(int)] if kind == "multiclass" else labels
        common = rng.standard_normal(shape)
        ours, other = (
            Scored(
                outputs=truth + common + rng.standard_normal(shape), labels=labels,
                persons=[str(n // 2) for n in range(60)], kind=kind,
            )
            for _ in range(2)
        )  # fmt: skip
        if kind != "regression":  # another scale of the same ranks is no difference
            other = replace(other, outputs=1 / (1 + np.exp(-9 * other.outputs)))
        low.append(intervals.difference(ours, other, draws=200).p < 0.05)
    assert np.mean(low) <= 0.11


def test_what_is_called_detectable_is_detected_four_times_in_five() -> None:
    """Simulated with the effect set to what the formula gives for a pilot of the same size."""
    rng = np.random.default_rng(0)
    pilot = intervals.difference(*pair(rng, 0.0))
    found = [intervals.difference(*pair(rng, pilot.detectable), draws=300) for _ in range(150)]
    assert np.mean([d.low > 0 or d.high < 0 for d in found]) == pytest.approx(0.8, abs=0.12)


def pair(rng: np.random.Generator, effect: float) -> tuple[Scored, Scored]:
    """Two models' errors for 80 persons; the first's are larger by ``effect``."""
    error = np.abs(rng.normal(5, 0.5, 80))
    made = [error + effect + rng.normal(0, 0.3, 80), error + rng.normal(0, 0.3, 80)]
    people = [str(n) for n in range(80)]
    zero = np.zeros(80)
    return (
        Scored(outputs=made[0], labels=zero, persons=people, kind="regression"),
        Scored(outputs=made[1], labels=zero, persons=people, kind="regression"),
    )


def test_runs_of_a_task_are_averaged_before_tasks() -> None:
    """Three seeds of one task weigh no more than one seed of another."""
    good, bad = world(40, 1, skill=3.0), world(40, 1, skill=0.0)
    flat = replace(good, outputs=0 * good.outputs)
    found = intervals.mean_difference({"a": [good] * 3, "b": [bad]}, {"a": [flat] * 3, "b": [flat]})
    assert found.value == pytest.approx(np.mean([good.value - 0.5, bad.value - 0.5]))


def test_other_units_are_not_compared() -> None:
    ours = world(20, 2)
    with pytest.raises(ValueError, match="different test units"):
        intervals.difference(ours, replace(ours, labels=1 - ours.labels))
    with pytest.raises(ValueError, match="same tasks"):
        intervals.mean_difference({"a": [ours]}, {"b": [ours]})


def test_holm_by_hand() -> None:
    assert intervals.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9}) == pytest.approx(
        {"a": 0.04, "c": 0.09, "b": 0.09, "d": 0.9}
    )
    assert intervals.holm({}) == {}


def test_a_task_of_2500_clips_takes_less_than_a_second() -> None:
    rng = np.random.default_rng(0)
    scored = Scored(
        outputs=rng.random(2500), labels=(rng.random(2500) < 0.1).astype(np.float64),
        persons=[str(n) for n in range(2500)],
    )  # fmt: skip
    found = intervals.interval([scored])
    assert cost(lambda: intervals.interval([scored])) < 25 and found.draws == 2000
    assert metrics.auroc(scored.outputs, scored.labels) == found.value
