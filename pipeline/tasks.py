"""The part of a manifest that says what is predicted, of whom, and on which published splits."""

import math
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from acula_model.evaluation.task import Kind, Published
from pipeline.records import Split
from pipeline.sources import Strict
from pipeline.vocabulary import Question

Class = str | bool
BINARY = ("negative", "positive")
SIDES: dict[str, Split] = {s: s for s in get_args(Split)}


class ListedSplit(Strict):
    """Three published arrays; one position in all of them is one recording.

    That is how the published loader reads them, so a list that is out of step with the others is
    copied with its fault. Which recording a name means is the rule of the dataset's ``published``.
    """

    names: str = Field(description="array of file names")
    sides: str = Field(description="array of train, val and test")
    labels: str = Field(description="array of labels")
    read_sides: dict[str, Split] = Field(
        SIDES, description="side in the array -> side on which the published code uses it"
    )
    read_labels: dict[str, str] = Field(
        {}, description="label in the array -> class; where empty, 0, 1, ... are the classes"
    )

    @property
    def files(self) -> tuple[str, str, str]:
        return self.names, self.sides, self.labels


class ListedPersons(Strict):
    """The persons whom the published code names; each is left out in turn."""

    persons: list[str] = Field(min_length=1, description="as the dataset calls them")


# official: the side on which the publisher of the data put the recording. all: each person who
# has the label is left out in turn.
Variant = Literal["official", "all"] | ListedSplit | ListedPersons


class Task(Strict):
    """What is predicted: a finding and its classes, the recordings it is asked of, and the splits.

    Every task has the variant ``subject_clean``, by our own split of persons; ``variants`` are
    those that others published. A binary task names the codes of its two classes, a multiclass
    task those of each class in order; a regression predicts a number in the finding's unit.
    """

    title: str
    number: int | None = Field(
        None, ge=1, le=18, description="among the 18 of the published evaluation; None: our own"
    )
    kind: Kind = "binary"
    label: str
    positive: list[Class] = Field([])
    negative: list[Class] = Field([])
    classes: dict[str, list[Class]] = Field({}, description="name -> codes, in order")
    where: dict[str, list[str]] = Field({}, description="findings that select recordings")
    aggregate: Literal["recording", "case"] = Field(
        "recording", description="case: mean score over the recordings of one visit"
    )
    scheme: Literal["holdout", "leave_one_person_out"] = "holdout"
    masks: list[str] = Field(
        [], description="further findings that give the label away; left out of strict reports"
    )
    variants: dict[Annotated[str, Field(pattern="^as_published(_[a-z0-9]+)*$")], Variant] = Field(
        {}, description="name -> a split that others published"
    )
    published: Published | None = Field(
        None, description="how the published code trains its head, where this is such a task"
    )
    question: Question | None = Field(
        None, description="what it asks in the words of all datasets; a head may move between them"
    )
    prompts: dict[str, list[str]] = Field(
        {},
        description="class -> statements of it, by which it is recognised without a head; where "
        "empty, the dataset's own report sentences, or the label's words",
    )

    @model_validator(mode="after")
    def _has_the_classes_of_its_kind(self) -> "Task":
        given = {"positive": self.positive, "negative": self.negative, "classes": self.classes}
        wanted = {"binary": {"positive", "negative"}, "multiclass": {"classes"}}
        needs = wanted.get(self.kind, set())
        if wrong := [n for n, value in given.items() if bool(value) != (n in needs)]:
            raise ValueError(
                f"a {self.kind} task has {' and '.join(sorted(needs)) or 'no classes'}; "
                f"look at {', '.join(wrong)}"
            )
        if self.kind == "multiclass" and (len(self.classes) < 3 or not all(self.classes.values())):
            raise ValueError("a multiclass task has three classes or more, each with a code")
        codes = [c for own in self.codes.values() for c in own]
        if twice := [c for i, c in enumerate(codes) if c in codes[:i]]:
            raise ValueError(f"{twice} cannot be in two classes")
        if self.prompts and (
            set(self.prompts) != set(self.codes) or not all(self.prompts.values())
        ):
            raise ValueError(f"prompts are of each class: {', '.join(self.codes) or 'none here'}")
        return self

    @model_validator(mode="after")
    def _variants_fit_the_scheme(self) -> "Task":
        for name, how in self.variants.items():
            each = how == "all" or isinstance(how, ListedPersons)
            if each != (self.scheme == "leave_one_person_out"):
                raise ValueError(f"{name} is no split of a task of scheme {self.scheme}")
            if isinstance(how, ListedSplit):
                strangers = set(how.read_labels.values()) - set(self.codes)
                if strangers:
                    raise ValueError(f"{name}: no class {', '.join(sorted(strangers))}")
        return self

    @property
    def metric(self) -> Literal["auroc", "mae"]:
        """The headline number's name; it follows from the kind."""
        return "mae" if self.kind == "regression" else "auroc"

    @property
    def codes(self) -> dict[str, list[Class]]:
        """Class -> its codes, in the order of the labels 0, 1, ...; none for a regression."""
        if self.kind == "binary":
            return dict(zip(BINARY, (self.negative, self.positive), strict=True))
        return self.classes

    def label_of(self, value: Any) -> float | None:
        """A finding's value as a label: the class's index or the number; None if in no class."""
        if self.kind == "regression":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return float(value) if number and math.isfinite(value) else None
        return next((float(i) for i, own in enumerate(self.codes.values()) if value in own), None)

    @property
    def listed_files(self) -> list[str]:
        """The published arrays that its variants are made of."""
        splits = [how for how in self.variants.values() if isinstance(how, ListedSplit)]
        return list(dict.fromkeys(path for how in splits for path in how.files))
