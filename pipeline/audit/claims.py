"""What a sentence was read to say."""

from dataclasses import dataclass, field
from typing import Literal

State = Literal["present", "absent", "unknown"]


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written."""

    value: float
    decimals: int = 0
    unit: str = ""
    about: bool = False
    below: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement about one finding.

    ``findings`` are the findings that it can be about; more than one where the sentence does
    not tell them apart. Exactly one of word, number, stage, total or a bare state is said.
    """

    findings: tuple[str, ...]
    text: str
    state: State = "present"
    word: str = ""
    number: Number | None = None
    stage: tuple[float, float] | None = None
    total: bool = False  # the number is the sum of the findings
    same_as: str = ""  # the word is that of another finding
    weak: bool = False  # implied by wording: it confirms, but alone it states nothing


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything in one sentence: its claims, and what belongs to none.

    ``stated``: the findings that the claims state.
    """

    claims: tuple[Claim, ...]
    strangers: tuple[str, ...] = ()  # medical words that no finding of the dataset means
    unread: tuple[str, ...] = ()  # words in no table and numbers that belong to nothing
    advice: tuple[str, ...] = ()
    stated: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        claims = [c for c in self.claims if not c.stage and not c.total]
        found = {f for c in claims for f in (*c.findings, *((c.same_as,) if c.same_as else ()))}
        object.__setattr__(self, "stated", frozenset(found))
