"""A split -> everything the checks found, and a verdict in plain words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from pipeline.doctor import alone, drift, duplicates, persons, power
from pipeline.doctor.alone import Alone
from pipeline.doctor.drift import Drift
from pipeline.doctor.duplicates import Duplicates
from pipeline.doctor.near import Group
from pipeline.doctor.persons import Persons
from pipeline.doctor.power import Power
from pipeline.doctor.table import Split

SCHEMA = "acula.split-check/1"
# A column that tells this much without a sound is named in the verdict.
TELLING = 0.7
MOST_SIDES = 12  # one person left out in turn makes many

Level = Literal["fail", "warn", "unknown", "pass"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One line; ``fail`` says that a person or a recording is on two sides."""

    about: Literal["persons", "likely", "recordings", "near", "shortcut"]
    level: Level
    text: str


@dataclass(frozen=True, kw_only=True)
class Side:
    """Size of one side."""

    name: str
    recordings: int
    persons: int | None
    labels: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What is known about a split.

    Attributes:
        tested: What the tested side is called.
        likely: Persons by a stand-in, where columns for one are there.
        unheard: Recordings too short or too quiet for a fingerprint; None when no sound was read.
    """

    name: str
    tested: str
    sides: list[Side]
    persons: Persons | None
    likely: Persons | None
    duplicates: list[Duplicates]
    unheard: int | None
    alone: list[Alone]
    drift: list[Drift]
    power: list[Power]
    sources: dict[str, str]
    notes: list[str]
    verdicts: list[Verdict]

    @property
    def sound(self) -> bool:
        """Whether no person and no recording was found on two sides."""
        return not any(v.level == "fail" for v in self.verdicts)

    @property
    def strictly_sound(self) -> bool:
        """Nor a likely person, nor a sound that only resembles another, nor an unknown."""
        return all(v.level == "pass" for v in self.verdicts if v.about != "shortcut")

    def facts(self) -> dict[str, Any]:
        """For programs: plain values under a schema name that changes with their meaning."""
        table = asdict(self)
        for entry in table["alone"]:
            entry["table"] = [
                {"side": side, "label": label, "values": values}
                for side, label, values in entry["table"]
            ]
        return {"schema": SCHEMA, "sound": self.sound, **table}


def certify(
    split: Split, near: Sequence[Group] | None = None, unheard: int | None = None
) -> Certificate:
    """Run every check that the columns of a split allow.

    Args:
        split: The split.
        near: Groups of one sound by ``id``, where sounds were read.
        unheard: Recordings that have no fingerprint.
    """
    who, likely = persons.check(split, "person"), persons.check(split, "proxy")
    same = duplicates.check(split, near)
    telling = alone.check(split)
    verdicts = [
        *_persons(who, likely),
        *(_likely(likely) if likely else ()),
        *_duplicates(same),
        *(
            Verdict(
                about="shortcut",
                level="warn",
                text=f"Shortcut: {a.column} alone scores {a.auroc:.3f}, no sound heard.",
            )
            for a in telling
            if a.auroc is not None and not a.is_label and a.auroc >= TELLING
        ),
    ]
    return Certificate(
        name=split.name,
        tested=split.tested,
        sides=_sides(split),
        persons=who,
        likely=likely,
        duplicates=same,
        unheard=unheard,
        alone=telling,
        drift=drift.check(split),
        power=power.check(split),
        sources={r: c for r, c in split.sources.items()},
        notes=list(split.notes),
        verdicts=verdicts,
    )


def _sides(split: Split) -> list[Side]:
    keys, labels = split.keys("person"), split.column("label")
    found: list[Side] = []
    sides = [(name, split.on(name)) for name in split.sides]
    if len(sides) > MOST_SIDES:
        sides = [(f"{len(sides)} sides", np.ones(len(split.rows), bool))]
    for name, here in sides:
        counts = Counter(
            y for y, on in zip(labels or [], here, strict=False) if on and y is not None
        )
        few = counts if len(counts) <= alone.MOST_VALUES else {}
        found.append(
            Side(
                name=name,
                recordings=int(here.sum()),
                persons=None if keys is None else len(set(keys[here].tolist()) - {-1}),
                labels=dict(sorted(few.items())),
            )
        )
    return found


def _persons(who: Persons | None, likely: Persons | None) -> list[Verdict]:
    if who is None:
        by = "only by a stand-in, see below" if likely else "nothing names a person"
        return [Verdict(about="persons", level="unknown", text=f"Persons: not known ({by}).")]
    lines: list[Verdict] = []
    if who.shared:
        text = (
            f"Persons: {who.shared} of {who.total} are on more than one side; {who.seen} of "
            f"{who.tested} tested recordings are of a person whose others a model may have seen"
        )
        if who.lookup is not None and who.seen:
            text += f". Looking the person up scores {who.lookup:.3f}, no sound heard"
        if who.respelled:
            text += f". {who.respelled} of them are written differently on the two sides"
        text += f". For example {', '.join(who.examples[:5])}."
        lines.append(Verdict(about="persons", level="fail", text=text))
    else:
        text = f"Persons: none of {who.total} is on two sides."
        lines.append(Verdict(about="persons", level="pass", text=text))
    if who.unnamed:
        text = f"Persons: {who.unnamed} recordings name none, {who.unnamed_tested} of them tested."
        level: Level = "unknown" if who.unnamed_tested else "pass"
        lines.append(Verdict(about="persons", level=level, text=text))
    return lines


def _likely(likely: Persons) -> list[Verdict]:
    """A stand-in is no proof: two people of one town may share age and sex."""
    if not likely.seen and not likely.shared:
        text = f"Likely the same person: none of {likely.total} by {likely.source} is on two sides."
        return [Verdict(about="likely", level="pass", text=text)]
    text = (
        f"Likely the same person: {likely.seen} of {likely.tested} tested recordings share "
        f"{likely.source} with one on another side"
    )
    if likely.agreement is not None:
        text += f"; their labels agree by {likely.agreement:.0%}"
    if likely.unnamed_tested:
        text += (
            f"; {likely.unnamed_tested} tested recordings have no such facts (a file name that was "
            "cut finds no row of the metadata) and are not among them, so with all names joined "
            "the count can be higher"
        )
    return [Verdict(about="likely", level="warn", text=f"{text}.")]


def _duplicates(same: Sequence[Duplicates]) -> list[Verdict]:
    lines: list[Verdict] = []
    for entry in same:
        about = "near" if entry.kind == "near" else "recordings"
        meaning = duplicates.MEANING[entry.kind]
        if not entry.groups:
            text = f"Recordings: no two sides have {meaning}."
            lines.append(Verdict(about=about, level="pass", text=text))
            continue
        text = f"Recordings: {entry.groups} times two sides have {meaning} ({entry.tested} tested)"
        if entry.other_label:
            text += f", {entry.other_label} with different labels"
        if entry.other_person:
            text += f", {entry.other_person} under different persons"
        level: Level = "fail" if entry.kind in duplicates.CERTAIN else "warn"
        text += f". For example {' = '.join(entry.examples[0])}."
        lines.append(Verdict(about=about, level=level, text=text))
    return lines
