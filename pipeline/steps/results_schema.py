"""The form of ``results.json``: one row per task, variant, protocol and head of a run.

``Results.model_json_schema()`` lies beside the results as ``results.schema.json``. Scores are
AUROC (macro one-vs-rest over classes) or MAE in the task's unit; intervals are 95 % over persons.
"""

from typing import Any, Literal

from pydantic import Field

from acula_model.evaluation.task import Kind
from pipeline.sources import Strict

VERSION = 1
Mark = Literal["ok", "warn", "bad", "none"]


class Interval(Strict):
    """A number with its 95 % interval over persons; no edges where resampling gave none."""

    value: float
    low: float | None
    high: float | None


class Side(Interval):
    """The score of one encoder."""

    sd_over_seeds: float | None = Field(description="null where the protocol has one seed")


class Gap(Interval):
    """One score - another, paired by person; below zero is better for an MAE."""

    p: float = Field(description="paired permutation test over persons, two-sided")


class Difference(Gap):
    """After - before alignment, of predictions averaged over seeds."""

    p_holm: float = Field(description="holds for all tasks of the variant, protocol and head")
    minimum_detectable: float | None = Field(description="found at 5 % with 80 % power")


class Leak(Strict):
    """What the words of reports tell about the label."""

    full: float | None
    strict: float | None


class Floors(Strict):
    """What needs no sound, or no learning."""

    chance: float | None = Field(description="0.5, or the MAE of always saying the mean of train")
    majority: float | None = Field(description="accuracy of always saying the largest class")
    shortcut: Interval | None = Field(description="metadata that hear no sound, linear head")
    identity_lookup: float | None = Field(description="repeating the person's known label")
    shuffled: Interval | None = Field(description="the same head on shuffled labels; middle 95 %")
    label_leak: Leak | None


class Leakage(Strict):
    """Who and what is on both sides, counted from the tables."""

    shared_persons: int = Field(description="tested, and in train or validation of the task")
    aligned_persons: int = Field(description="in validation or test, and in alignment training")
    heard_persons: int = Field(description="tested, and heard in training without a report")
    near_duplicates: int | None = Field(description="tested recordings whose sound was learned")
    near_reason: str | None = Field(description="why near_duplicates is null")
    pretraining: str


class Verdict(Strict):
    """Whether a row's number can be believed, in one short sentence."""

    mark: Mark
    words: str


class Group(Strict):
    """The scores within one value of an attribute; the interval is of ``after``."""

    attribute: str
    value: str
    units: int
    persons: list[int] = Field(description="of each class; of all in regression")
    before: float | None
    after: float | None
    low: float | None
    high: float | None
    too_small: bool = Field(description="fewer than 10 persons of a class")


class Measured(Strict):
    """A row without its verdict."""

    task: str
    title: str
    dataset: str
    kind: Kind
    unit: str
    metric: Literal["auroc", "mae"]
    variant: str
    protocol: str
    head: str
    regime: str
    before: Side | None
    after: Side | None
    difference: Difference | None
    beyond_shortcut: Gap | None = Field(description="after - shortcut")
    floors: Floors
    units: dict[str, int]
    persons: dict[str, int]
    classes: dict[str, list[int]]
    class_names: list[str]
    leakage: Leakage
    flags: list[str] = Field(description="keys of Results.flags")
    reason: str | None = Field(description="why the task was not run")
    details: dict[str, Any] = Field(description="before and after: as in the scores tables")
    subgroups: list[Group]
    certificate: dict[str, Any] | None


class Row(Measured):
    """One task, variant, protocol and head."""

    verdict: Verdict


class Run(Strict):
    """What was trained."""

    name: str
    recipe: str
    regime: str
    encoder: str
    teacher: str
    best_epoch: int | None
    made_up: bool = Field(description="sample archives: the numbers say nothing about people")
    weights: str = Field(description="what training started from")
    draws: int = Field(description="resamples, and as many swaps")


class Mean(Strict):
    """Mean over tasks of one dataset, or of all; null where no task has both scores."""

    tasks: int
    before: float | None
    after: float | None
    difference: Gap | None


class OfDataset(Mean):
    dataset: str


class Summary(Mean):
    """Of the headline rows: split without shared persons, default protocol, linear head."""

    variant: str
    protocol: str
    metric: str
    datasets: list[OfDataset]


class Results(Strict):
    """A run's results."""

    # Named `schema` in the file; a field of that name would hide a method of the base.
    version: int = Field(alias="schema")
    run: Run
    summary: Summary
    flags: dict[str, str] = Field(description="flag -> what it says")
    rows: list[Row]
    beyond: dict[str, Any] | None = None
