"""What comes back from a model: its form as a report, and a server's reply of whatever content."""

import json

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from test_rewriting import LONG

from pipeline.rewriting import RewriteError, form, replies

SOURCE = f"{LONG}as visit 3. No murmur was heard (grade 2)."


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "empty"),
        (" \x00\n ", "empty"),
        (f"Sure, here is the report: {SOURCE}", "chatter"),
        (
            "I cannot help with reports about patients, since these are private to them.",
            "chatter",
        ),
        (f"**{SOURCE}**", "markup"),
        (f"- {SOURCE}\n- No more is known.", "markup"),
        (f"{SOURCE}\n\nThis keeps every fact.", "paragraphs"),
        (SOURCE.replace("quiet", "quiét"), "not_ascii"),
        ("No murmur.", "too_short"),
        (SOURCE + " It was so." * 30, "too_long"),
        (SOURCE[:-1], "cut_off"),
        (SOURCE, "unchanged"),
        (SOURCE.replace("heard", "found"), None),
        (f'"{SOURCE.replace("heard", "found")}"', None),
        (f"<think>\n\nLet me see.\n</think>\n\n{SOURCE.replace('heard', 'found')}", None),
        (SOURCE.replace("heard", "found in \u201csystole\u201d \u2013 at rest"), None),
        (SOURCE.replace(". No", ".\nNo").replace("heard", "found\x07"), None),
    ],
)
def test_the_form_of_an_answer(said: str, reason: str | None) -> None:
    assert form.refusal(said, "stop", SOURCE) == reason
    if reason is None:
        assert form.cleaned(said).isascii() and "\n" not in form.cleaned(said)
    assert reason is None or reason in form.REFUSALS


def test_a_short_report_may_stay_short() -> None:
    assert form.refusal("Wheezes are marked.", "stop", "Wheezes were annotated.") is None
    assert form.refusal("Wheezes are marked.", "length", "Wheezes were annotated.") == "cut_off"
    assert form.refusal("", "withheld", SOURCE) == "withheld"


NAMES = ("choices", "message", "content", "finish_reason", "error", "code", "model", "refusal")
LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["stop", "length"])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=12,
)


@effort(max_examples=300, deadline=None)
@given(TREES | st.builds(lambda tree: {"choices": [tree]}, TREES), st.sampled_from([200, 400, 500]))
def test_any_reply_is_an_answer_or_an_error_in_plain_words(reply: object, status: int) -> None:
    content = json.dumps(reply).encode()
    try:
        answer = replies.read("name", status, "application/json", content, None, "")
    except RewriteError as error:
        assert str(error).isprintable()
    else:
        assert answer.text.encode() is not None and answer.revision.isprintable()


@effort(max_examples=300, deadline=None)
@given(st.text(), st.text())
def test_any_text_is_refused_or_a_line_of_ascii(said: str, source: str) -> None:
    reason = form.refusal(said, "stop", form.plain(source))
    assert reason is None or reason in form.REFUSALS
    if reason is None:
        assert form.cleaned(said).isascii() and form.cleaned(said).isprintable()
