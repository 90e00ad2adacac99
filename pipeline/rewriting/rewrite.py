"""Rows of the reports table + a rewriter -> the same rows in other words, where these hold.

Of each text the rewriter sees the sentences of that text alone, so a strict one cannot learn what
it leaves out. Sentences, their findings and the terms stay those of the template.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from acula_model.counting import Counted
from acula_model.teachers import hash_of
from pipeline.records import Value
from pipeline.rewriting import REGIMES, Answer, RewriteError, Rewriter, form
from pipeline.rewriting.cache import Cache, Question, question
from pipeline.rewriting.prompt import Prompt

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A template's text of one recording, and what it states.

    Attributes:
        regime: ``full`` or ``strict``.
        sentences: Each with the names of the findings that it states.
        values: All findings of the recording as the source has them, stated here or not.
    """

    dataset: str
    recording_id: str
    regime: str
    sentences: tuple[tuple[str, tuple[str, ...]], ...]
    values: Mapping[str, Value]

    @property
    def text(self) -> str:
        return " ".join(text for text, _ in self.sentences)

    @property
    def stated(self) -> tuple[str, ...]:
        """Names of the findings that the text states."""
        return tuple(dict.fromkeys(name for _, names in self.sentences for name in names))


# A draft and its text in other words -> why it says something else, or None where it does not.
Accept = Callable[[Draft, str], str | None]


@dataclass(kw_only=True)
class Counts:
    """What became of texts; sums over parts are counts, too.

    Attributes:
        texts: All, of both regimes.
        asked: Questions that a model answered now; equal ones are asked once.
        rewritten: Texts that are in other words.
        refused: Texts that stayed as they are, by reason.
    """

    texts: int = 0
    asked: int = 0
    rewritten: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            texts=self.texts + other.texts,
            asked=self.asked + other.asked,
            rewritten=self.rewritten + other.rewritten,
            refused=self.refused + other.refused,
        )

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"refused": dict(sorted(self.refused.items()))}


def blank() -> dict[str, Any]:
    """What the columns of rewriting hold in a row that no model was asked about."""
    one: dict[str, Any] = {"rewritten": False, "refusal": None, "rewrite_key": None}
    one["rewrite_revision"] = None
    regimes = {f"{regime}_{name}": value for regime in REGIMES for name, value in one.items()}
    return {"rewriter": None, "prompt_version": None} | regimes


def rewrite_all(
    rows: Sequence[Row],
    values: Mapping[str, Mapping[str, Value]],
    rewriter: Rewriter,
    accept: Accept,
    cache: Cache,
    prompt: Prompt,
    progress: Callable[[str], None] = print,
) -> tuple[list[dict[str, Any]], Counts]:
    """Both texts of every row in other words, where these say the same.

    Call it in one process and with any number of rows: which rows come together decides nothing.

    Args:
        rows: Of the reports table, as the template made them.
        values: recording_id -> its findings, of every row.
        rewriter: Is asked what the cache does not know.
        accept: Decides on every answer of an acceptable form, known or new.
        cache: Keeps each answer as soon as it is there.
        prompt: What stands around a text.
        progress: Called with a line now and then.

    Returns:
        The rows with the columns of ``blank()`` filled, text and hash changed where a rewrite was
        accepted; and counts.

    Raises:
        RewriteError: The rewriter does not answer. What it answered is kept.
        ValueError: A row's text is not that of its sentences.
    """
    drafts = [
        (number, _draft(row, regime, values[row["recording_id"]]))
        for number, row in enumerate(rows)
        for regime in REGIMES
    ]
    # Only the form of a text is changed here, never its length: a cut report loses facts.
    questions = {
        text: question(prompt, rewriter, text)
        for text in {form.plain(draft.text) for _, draft in drafts}
        if len(text) <= form.LONGEST_SOURCE
    }
    answers, asked = _answers(sorted(questions.values(), key=_key), rewriter, cache, progress)
    head = {"rewriter": rewriter.name, "prompt_version": prompt.version}
    made = [dict(row) | blank() | head for row in rows]
    counts = Counts(texts=len(drafts), asked=asked)
    for number, draft in drafts:
        row, regime = made[number], draft.regime
        known = questions.get(form.plain(draft.text))
        if known is None:
            refusal, text = "not_asked", ""
        else:
            answer = answers[known.key]
            text = form.cleaned(answer.text)
            refusal = form.refusal(answer.text, answer.finish, draft.text) or accept(draft, text)
            row[f"{regime}_rewrite_key"] = known.key
            row[f"{regime}_rewrite_revision"] = answer.revision
        if refusal is None:
            row[f"{regime}_text"] = text
            row[f"{regime}_hash"] = hash_of(text, row[f"{regime}_terms"])
            row[f"{regime}_rewritten"] = True
            counts.rewritten += 1
        else:
            row[f"{regime}_refusal"] = refusal
            counts.refused[refusal] += 1
    return made, counts


def text_of(row: Row, regime: str, cache: Cache) -> str:
    """A row's text made again: from its sentences, or from the answer that its key leads to.

    Raises:
        RewriteError: The answer is not there, or is one about another text.
    """
    source = " ".join(s["text"] for s in json.loads(row[f"{regime}_sentences"]))
    if not row[f"{regime}_rewritten"]:
        return source
    key = row[f"{regime}_rewrite_key"]
    about, answer = cache.find([key]).get(key, (None, None))
    if answer is None or about != form.plain(source):
        raise RewriteError("lost", row["recording_id"], f"{regime}, {key}")
    return form.cleaned(answer.text)


def identity(rewriter: Rewriter, prompt: Prompt) -> dict[str, Any]:
    """All that a rewriter adds to what the reports depend on, as JSON."""
    return {
        "name": rewriter.name,
        "revision": rewriter.revision,
        "options": dict(rewriter.options),
        "prompt": prompt.version,
    }


def _draft(row: Row, regime: str, values: Mapping[str, Value]) -> Draft:
    said = json.loads(row[f"{regime}_sentences"])
    draft = Draft(
        dataset=row["dataset"],
        recording_id=row["recording_id"],
        regime=regime,
        sentences=tuple((s["text"], tuple(s["findings"])) for s in said),
        values=values,
    )
    if draft.text != row[f"{regime}_text"]:
        raise ValueError(f"{draft.recording_id}: the {regime} text is not that of its sentences")
    return draft


def _answers(
    questions: Sequence[Question],
    rewriter: Rewriter,
    cache: Cache,
    progress: Callable[[str], None],
) -> tuple[dict[str, Answer], int]:
    """key -> answer of all questions, and how many were asked now."""
    answers = _known(questions, cache)
    if len(answers) == len(questions):
        return answers, 0
    with cache.writing(lambda: progress("rewriting: waiting for another process")) as file:
        answers = _known(questions, cache)  # that process may have asked
        missing = [q for q in questions if q.key not in answers]
        prompts = [q.prompt.about(q.source) for q in missing]
        counted = Counted(progress, "rewriting: {} texts answered", len(missing))
        for index, answer in rewriter.rewrite(prompts):
            file.add(missing[index], answer)
            answers[missing[index].key] = answer
            counted.add()
    return answers, counted.done


def _known(questions: Sequence[Question], cache: Cache) -> dict[str, Answer]:
    found = cache.find([q.key for q in questions])
    return {key: answer for key, (_, answer) in found.items()}


def _key(question: Question) -> str:
    return question.key
