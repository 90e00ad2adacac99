"""The chain from a pair to its bytes: an ordered list of links, each with what is known of it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

# recorded: what the tables say. verified: derived or hashed again just now, and equal.
# missing: what the tables point at is not there. altered: it is there and differs.
State = Literal["recorded", "verified", "missing", "altered"]
Kind = Literal["pair", "recording", "quarantined"]
BAD: tuple[State, ...] = ("missing", "altered")


class LineageError(ValueError):
    """Something stands in the way of a trace; says what to do."""


class UnknownId(LineageError):
    """Nothing in the corpus is called so; says what is called nearly so."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """One step on the way from a pair to its bytes.

    Attributes:
        name: archive, member, audio, metadata, findings, person, split, report, pair, shard,
            teacher_vector, run, dagster or quarantine.
        title: What it is, for a reader.
        state: See ``State``.
        facts: JSON values by name, in the order in which a reader wants them.
        note: What was found wrong, or why it could not be checked; empty otherwise.
    """

    name: str
    title: str
    state: State = "recorded"
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    note: str = ""

    def judged(self, state: State, note: str = "") -> "Link":
        """The same link after a check."""
        return replace(self, state=state, note=note)


@dataclass(frozen=True, kw_only=True)
class Chain:
    """All links of one pair, of a recording that is only probed, or of a refused one."""

    subject: str
    kind: Kind
    links: tuple[Link, ...]

    @property
    def sound(self) -> bool:
        """No link is missing or altered."""
        return not self.broken

    @property
    def broken(self) -> list[Link]:
        """Links that are missing or altered."""
        return [link for link in self.links if link.state in BAD]

    def link(self, name: str) -> Link:
        """One link by name; KeyError where the chain has none."""
        for link in self.links:
            if link.name == name:
                return link
        raise KeyError(f"{self.subject} has no link {name!r}")

    def extended(self, links: Iterable[Link]) -> "Chain":
        """The chain with further links at its end."""
        return replace(self, links=(*self.links, *links))

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "subject": self.subject,
            "kind": self.kind,
            "sound": self.sound,
            "links": [asdict(link) for link in self.links],
        }
