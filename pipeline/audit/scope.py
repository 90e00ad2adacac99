"""What a sentence denies and what it leaves open: marks on its mentions."""

from collections.abc import Sequence

from pipeline.audit import english
from pipeline.audit.scan import Mention

_FORWARD = frozenset(
    (
        "could not tell", "could not decide", "could not say", "cannot tell", "not known",
        "unable to tell", "unable to determine", "unsure", "undecided", "not clear",
        "questionable",
    )
)  # fmt: skip
_COPULAS = frozenset(english.COPULAS)


def mark(mentions: Sequence[Mention]) -> None:
    """Set ``denied`` and ``unsure`` on what can be denied or left open."""
    _denials(mentions)
    for cue in mentions:
        if cue.role == "unsure":
            target = _nearest(mentions, cue)
            if target is not None:
                target.unsure, target.denied = True, False


def clause(mentions: Sequence[Mention], at: int) -> Sequence[Mention]:
    """The mentions between the marks that end a statement around one place."""
    start = end = at
    while start > 0 and not _ends(mentions[start - 1]):
        start -= 1
    while end + 1 < len(mentions) and not _ends(mentions[end + 1]):
        end += 1
    return mentions[start : end + 1]


def _ends(mention: Mention) -> bool:
    return mention.role == "end" or (mention.role == "stop" and mention.text in ("but", "however"))


def _deniable(mention: Mention) -> bool:
    entry = mention.entry
    if entry.stage:
        return False  # "no murmur in this child" does not deny the child
    return bool(entry.words or entry.topics) or mention.role in ("here", "stranger", "cue")


def _denials(mentions: Sequence[Mention]) -> None:
    scope = after_verb = False
    subject: list[Mention] = []  # what stands before the verb of the running statement
    told = False  # the running statement has its verb
    for i, m in enumerate(mentions):
        following = mentions[i + 1] if i + 1 < len(mentions) else None
        before = mentions[i - 1] if i else None
        if m.role in ("end", "stop"):
            scope = after_verb = told = False
            subject = []
        elif m.role == "negation":
            copula = before is not None and before.text in _COPULAS
            verb = following is not None and following.role == "verb"  # "murmur not detected"
            if (copula or verb) and m.text in ("not", "never"):
                for s in subject:
                    s.denied = True
            scope, after_verb = True, m.text in english.ABSENCES
        elif m.role == "denial_after":
            if following is not None and _deniable(following):  # "absent murmurs"
                scope, after_verb = True, True
            else:
                for s in subject:
                    s.denied = True
        elif m.role == "joiner":
            if scope and after_verb and m.text in (",", "and"):
                scope = False
            if following is not None and _starts(following, m) and m.text in (",", "and"):
                scope = False
            if told and m.text in (",", "and"):
                subject, told = [], False
        elif m.role == "mark" and m.text == ":":
            scope = False
        elif m.role == "verb":
            after_verb = told = True
        if _deniable(m):
            if scope:
                m.denied = True
                scope = before is None or before.text != "non"
            subject.append(m)


def _starts(mention: Mention, joiner: Mention) -> bool:
    if mention.text == "a":
        return joiner.text == "and"
    return mention.role == "starter" or mention.text in english.STARTERS


def _nearest(mentions: Sequence[Mention], cue: Mention) -> Mention | None:
    forward = cue.text in _FORWARD
    sides = (range(cue.at + 1, len(mentions)), range(cue.at - 1, -1, -1))
    for side in sides if forward else reversed(sides):
        for i in side:
            m = mentions[i]
            if m.role in ("end", "stop"):
                break
            if m.entry.topics or m.entry.labels:
                return m
    return None
