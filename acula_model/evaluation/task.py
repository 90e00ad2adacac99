"""A probe task as the evaluation sees it: rows with a fold and a label, and how to score them."""

from dataclasses import dataclass
from typing import Literal, TypedDict

Kind = Literal["binary", "multiclass", "regression"]
Fold = Literal["train", "val", "test", "each"]


class TaskRow(TypedDict):
    """One recording of one task and variant.

    ``fold`` is train, val or test; ``each`` in tasks that leave out one person after another.
    ``label`` is a class index (0 and 1 for negative and positive), or a number in the task's unit.
    """

    task: str
    variant: str
    recording_id: str
    case_id: str
    person_id: str
    fold: Fold
    label: float


@dataclass(frozen=True, kw_only=True)
class Published:
    """How the published benchmark trains its head on this task, as its code really behaves.

    Attributes:
        epochs: Passes over the training side.
        batch_size: Recordings in a step.
        validate_every: Epochs between two looks at validation; the best state is tested.
        l2: Factor of the sum of squared weights and biases.
        patience: Looks without a better validation after which training stops; None never.
        val_share: Of the training recordings, where no validation list is published.
    """

    epochs: int = 64
    batch_size: int = 32
    validate_every: int = 1
    l2: float = 1e-5
    patience: int | None = None
    val_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """What decides how a task's rows are scored.

    Attributes:
        id: ``<dataset>/<task>``.
        title: For people.
        kind: AUROC for binary tasks, macro one-vs-rest AUROC for multiclass, MAE for regression.
        classes: Names by label: (negative, positive), or the classes in order.
        unit: Of a regression label.
        aggregate: ``case`` scores the mean over the recordings of one visit.
        scheme: ``leave_one_person_out`` tests every person by a head that never met them.
        published: The published protocol, where there is one.
    """

    id: str
    title: str
    kind: Kind = "binary"
    classes: tuple[str, ...] = ("negative", "positive")
    unit: str = ""
    aggregate: Literal["recording", "case"] = "recording"
    scheme: Literal["holdout", "leave_one_person_out"] = "holdout"
    published: Published | None = None

    @property
    def metric(self) -> Literal["auroc", "mae"]:
        """The headline number's name."""
        return "mae" if self.kind == "regression" else "auroc"
