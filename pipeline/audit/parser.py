"""One sentence -> its claims. Knows the lexicon and English, never the templates."""

from collections.abc import Sequence
from functools import lru_cache

from pipeline.audit import counts, scope, terms
from pipeline.audit.claims import Claim, Number, Reading, State
from pipeline.audit.lexicon import Lexicon
from pipeline.audit.scan import Mention

_CACHED = 1 << 13  # distinct sentences kept per dataset: most reports repeat most sentences


class Parser:
    """Reads the sentences of one dataset's reports."""

    def __init__(self, lexicon: Lexicon):
        self.lexicon = lexicon
        self.read = lru_cache(maxsize=_CACHED)(self._read)
        units = {s.unit: n for n, s in lexicon.manifest.findings.items() if s.kind == "number"}
        self._by_unit = {u: (n,) for u, n in units.items() if u not in terms.DAYS and u != "1"}

    def _read(self, text: str) -> Reading:
        mentions = self.lexicon.phrases.scan(text)
        scope.mark(mentions)

        def choose(m: Mention, findings: Sequence[str]) -> tuple[str, ...]:
            return self._meant(mentions, m, findings)

        claims = self._quantities(mentions)
        claims += counts.read(self.lexicon, mentions, choose)
        for m in mentions:
            if m.used:
                continue
            if m.entry.words:
                claims += self._words(mentions, m)
            elif m.entry.topics:
                claims += self._topics(mentions, m)
            elif m.unsure:
                meant = self._meant(mentions, m, m.entry.labels)
                claims.append(Claim(meant, m.text, state="unknown"))
            if m.entry.stage and self.lexicon.ages:
                claims.append(Claim(tuple(self.lexicon.ages), m.text, stage=m.entry.stage))
        claims = _announced_away([*claims, *self._places(mentions)])
        return Reading(
            claims=tuple(claims),
            strangers=tuple(m.text for m in mentions if self._is_stranger(m)),
            unread=tuple(m.text for m in mentions if m.role == "unread" or self._is_stray(m)),
            advice=tuple(m.text for m in mentions if m.role == "advice"),
        )

    def _is_stranger(self, m: Mention) -> bool:
        if m.role == "stage" and not self.lexicon.ages and not m.entry.words:
            return m.text != "the child"
        return m.role == "stranger"

    @staticmethod
    def _is_stray(m: Mention) -> bool:
        return m.role == "number" and not m.used

    def _quantities(self, mentions: list[Mention]) -> list[Claim]:
        """Numbers with a unit, or announced by what they measure."""
        claims: list[Claim] = []
        for m in mentions:
            if m.role == "birth" and self.lexicon.ages:
                number = Number(0.0, unit="days")
                claims.append(Claim(tuple(self.lexicon.ages), m.text, number=number))
            if m.role != "number":
                continue
            unit = mentions[m.at + 1].entry.unit if _is_unit(mentions, m.at + 1) else ""
            findings = self._measured(unit) if unit else self._announced(mentions, m)
            if not findings:
                continue
            m.used = True
            before = mentions[m.at - 1].role if m.at else ""
            number = Number(m.value, m.decimals, unit, before == "about", before == "below")
            claims.append(Claim(findings, f"{m.text} {unit}".strip(), number=number))
        return claims

    def _measured(self, unit: str) -> tuple[str, ...]:
        return tuple(self.lexicon.ages) if unit in terms.DAYS else self._by_unit.get(unit, ())

    def _announced(self, mentions: Sequence[Mention], m: Mention) -> tuple[str, ...]:
        """Finding named before the number with nothing but marks and small words between."""
        for i in range(m.at - 1, -1, -1):
            other = mentions[i]
            if other.entry.cues and other.role == "cue":
                return other.entry.cues
            if other.role in ("number", "end", "joiner", "unread", "group"):
                break
            if other.entry.topics or other.entry.words:
                break
        return ()

    def _words(self, mentions: Sequence[Mention], m: Mention) -> list[Claim]:
        claims: list[Claim] = []
        state: State = "absent" if m.denied else "present"
        for word in dict.fromkeys(w for _, w in m.entry.words):
            owners = [f for f, w in m.entry.words if w == word]
            meant = self._meant(mentions, m, owners)
            each = self._is_each_named(mentions, m, meant)
            claims += [
                Claim(who, m.text, state=state, word=word)
                for who in ([(f,) for f in meant] if each else [meant])
            ]
        return claims

    def _topics(self, mentions: Sequence[Mention], m: Mention) -> list[Claim]:
        state: State = "unknown" if m.unsure else "absent" if m.denied else "present"
        claims: list[Claim] = []
        for finding in self._meant(mentions, m, m.entry.topics):
            local = self.lexicon.locals.get(finding)
            if local is None:
                claims.append(Claim((finding,), m.text, state=state))
            else:
                claims += _here(mentions, m, finding, local, state)
        claims += [
            Claim((f,), m.text, state="absent", weak=True)
            for f in m.entry.denies
            if state == "present"
        ]
        return claims

    def _places(self, mentions: Sequence[Mention]) -> list[Claim]:
        """Where it is loudest, said by reference: at this site, or in the one place named."""
        placed = {f: c["place"] for f, c in self.lexicon.contexts.items() if "place" in c}
        loudest = tuple(f for f, value in placed.items() if value == "loudest")
        site = next((f for f, value in placed.items() if value == "auscultation site"), None)
        if not loudest or site is None:
            return []
        named = {(m.entry.words[0][1], m) for m in mentions if placed.keys() & dict(m.entry.words)}
        alone = [m for m in mentions if m.text in terms.ALONE]
        if len(named) == 1 and alone and not any(m.role == "not_here" for m in mentions):
            ((word, m),) = named
            if self._meant(mentions, m, tuple(placed)) != (site,):
                return [Claim(loudest, m.text, word=word, weak=True)]
        return [
            Claim(loudest, m.text, same_as=site)
            for m in mentions
            if m.role == "here"
            and not m.denied
            and self._meant(mentions, m, tuple(placed)) == loudest
        ]

    def _meant(
        self, mentions: Sequence[Mention], m: Mention, findings: Sequence[str]
    ) -> tuple[str, ...]:
        """Those findings whose context the sentence has named around the mention."""
        if len(findings) < 2:
            return tuple(findings)
        named = {f: self.lexicon.contexts.get(f, {}) for f in findings}
        score = dict.fromkeys(findings, 0)
        for family in dict.fromkeys(family for c in named.values() for family in c):
            active = _active(mentions, m.at, family) or {terms.DEFAULT_CONTEXTS.get(family)}
            for f, families in named.items():
                if family in families:
                    score[f] += 1 if families[family] in active else -1
        best = max(score.values())
        return tuple(f for f in findings if score[f] == best)

    def _is_each_named(
        self, mentions: Sequence[Mention], m: Mention, findings: Sequence[str]
    ) -> bool:
        """A word may be about all of several: tests for influenza A and B were negative."""
        return len(findings) > 1 and all(
            families and all(v in _active(mentions, m.at, f) for f, v in families.items())
            for families in (self.lexicon.contexts.get(name, {}) for name in findings)
        )


def _is_unit(mentions: Sequence[Mention], at: int) -> bool:
    return at < len(mentions) and mentions[at].role == "unit"


def _active(mentions: Sequence[Mention], at: int, family: str) -> frozenset[str]:
    """Contexts of one family named last before a place, in its statement first, else after it."""
    first = last = at
    while first > 0 and mentions[first - 1].role != "end":
        first -= 1
    while last + 1 < len(mentions) and mentions[last + 1].role != "end":
        last += 1
    near = (range(at, first - 1, -1), range(at + 1, last + 1))
    far = (range(first - 1, -1, -1), range(last + 1, len(mentions)))
    for side in (*near, *far):
        for i in side:
            named = frozenset(v for f, v in mentions[i].entry.contexts if f == family)
            if named:
                return named
    return frozenset()


def _announced_away(claims: list[Claim]) -> list[Claim]:
    """Without "there is some" where the same sentence says what: "symptoms: fever"."""
    told = {f for c in claims if c.word for f in c.findings}
    return [
        c for c in claims if not _is_bare(c) or c.state != "present" or c.findings[0] not in told
    ]


def _is_bare(claim: Claim) -> bool:
    return not (claim.word or claim.number or claim.stage or claim.same_as)


def _here(
    mentions: Sequence[Mention], m: Mention, whole: str, local: str, state: State
) -> list[Claim]:
    """Claims about the visit and about this recording, by where the sentence puts the finding."""
    around = scope.clause(mentions, m.at)
    here = [n for n in around if n.role == "here"]
    not_here = any(n.denied for n in here) or any(n.role == "not_here" for n in around)
    elsewhere = any(n.role == "elsewhere" for n in around)
    existential = any(n.role == "existential" for n in around)
    at_large = Claim((whole,), m.text, state=state)
    at_site = Claim((local,), m.text, state=state)
    if state == "unknown":
        return [at_large, at_site]
    if state == "absent":
        return [at_site] if here else [at_large, at_site]
    if not_here:
        return [at_large, Claim((local,), m.text, state="absent")]
    if (here or existential) and not elsewhere:
        return [at_large, at_site]
    return [at_large]
