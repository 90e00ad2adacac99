"""How many of what: binds the numbers of a sentence to the sounds that it counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.audit import terms
from pipeline.audit.claims import Claim, Number
from pipeline.audit.lexicon import Lexicon
from pipeline.audit.scan import Mention

Choose = Callable[[Mention, Sequence[str]], tuple[str, ...]]


@dataclass
class _Sentence:
    """Numbers by place; a share ("three of seven cycles") stands where its noun stands."""

    lexicon: Lexicon
    mentions: Sequence[Mention]
    shares: dict[int, float] = field(default_factory=dict[int, float])
    totals: set[int] = field(default_factory=set[int])  # places of numbers that are totals
    total: float | None = None
    bound: float = 0.0

    def is_total(self, m: Mention) -> bool:
        return m.role == "group" or any(
            self.lexicon.labels[t] in terms.TOTALS for t in m.entry.topics
        )

    def counted(self, m: Mention) -> tuple[str, ...]:
        if self.is_total(m):
            return ()
        return tuple(t for t in m.entry.topics if t in self.lexicon.counts)


def read(lexicon: Lexicon, mentions: Sequence[Mention], choose: Choose) -> list[Claim]:
    """Claims about counts; marks the mentions and numbers that they use."""
    sentence = _Sentence(lexicon, mentions)
    sentence.totals |= {m.at for m in mentions if m.used}  # a height or an age counts nothing
    claims: list[Claim] = []
    for m in mentions:
        if m.role == "nothing" and not any(n.entry.topics for n in mentions):
            claims += [_count((name,), 0.0, m) for name in sorted(lexicon.counts)]
        if sentence.is_total(m):
            claims += _total(sentence, m)
    for m in mentions:
        found = sentence.counted(m)
        if not found or m.used:
            continue
        value, place = _number_of(sentence, m)
        if value is None and m.entry.words:
            continue  # "labelled normal" is a word of the whole recording, not a count
        m.used = True
        if place is not None:
            mentions[place].used = True
        if m.unsure:
            claims.append(Claim(found, m.text, state="unknown"))
        elif m.denied:
            claims += [_count((name,), 0.0, m) for name in found]
        elif value is None:
            claims.append(Claim(found, m.text))
        else:
            sentence.bound += value
            claims.append(_count(choose(m, found), value, m))
    return claims


def _count(findings: tuple[str, ...], value: float, m: Mention) -> Claim:
    return Claim(findings, m.text, number=Number(value))


def _total(sentence: _Sentence, noun: Mention) -> list[Claim]:
    """A total and a share of it: seven cycles, three of seven, all seven, both, the only one."""
    mentions = sentence.mentions
    i = noun.at - 1
    while i >= 0 and mentions[i].role in ("verb", "plain") and mentions[i].text != ",":
        i -= 1
    if i < 0:
        return []
    m, share = mentions[i], None
    if m.role == "number":
        total = m.value
        m.used = True
        sentence.totals.add(i)
        before = mentions[i - 1] if i else None
        if before is not None and before.text == "of" and i > 1:
            if mentions[i - 2].role == "number":
                share = mentions[i - 2].value
                mentions[i - 2].used = True
                sentence.totals.add(i - 2)
        elif before is not None and before.text in ("all", "both", "each", "every"):
            share = total
    elif m.text == "both":
        total = share = 2.0
    elif m.text == "only":
        total = share = 1.0
    else:
        return []
    sentence.total = total
    if share is not None:
        sentence.shares[noun.at] = share
    noun.used = True
    if noun.role == "group":
        members = sentence.lexicon.groups[noun.entry.unit]
        return [Claim(members, noun.text, number=Number(total), total=True)]
    return [Claim(noun.entry.topics, noun.text, number=Number(total))]


def _number_of(sentence: _Sentence, m: Mention) -> tuple[float | None, int | None]:
    """The number that counts a mention, and its place: before it, else after it."""
    mentions = sentence.mentions
    for i in range(m.at - 1, -1, -1):
        other = mentions[i]
        if other.role in ("joiner", "end") or sentence.counted(other):
            break
        if (value := _value(sentence, other)) is not None:
            return value, i
    alone = True  # only joiners and further counted things so far
    for i in range(m.at + 1, len(mentions)):
        other = mentions[i]
        if other.role == "end" or (other.role == "stop" and other.text == "but"):
            break
        if sentence.counted(other):
            if not alone:
                break
            continue
        if (value := _value(sentence, other)) is not None:
            return (None, None) if _belongs_to_next(sentence, i) else (value, i)
        if other.role != "joiner":
            alone = False
    return None, None


def _value(sentence: _Sentence, m: Mention) -> float | None:
    if m.at in sentence.shares:
        return sentence.shares[m.at]
    if m.role == "number" and m.at not in sentence.totals:
        return m.value
    if sentence.total is None:
        return None
    if m.text in ("all", "both", "it", "each", "every"):
        return sentence.total
    if m.text in ("rest", "remaining"):
        return sentence.total - sentence.bound
    return None


def _belongs_to_next(sentence: _Sentence, i: int) -> bool:
    for other in sentence.mentions[i + 1 :]:
        if other.role in ("joiner", "end"):
            return False
        if sentence.counted(other):
            return True
    return False
