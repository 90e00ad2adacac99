"""Rewriting: what is asked, kept and accepted, whichever model answers."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from acula_model.teachers import hash_of
from pipeline import settings as configuration
from pipeline.rewriter_address import EndpointAddress, LocalAddress, parse
from pipeline.rewriting import Answer, RewriteError, answers_in, build
from pipeline.rewriting.cache import Cache, question
from pipeline.rewriting.prompt import Prompt, load
from pipeline.rewriting.rewrite import Counts, Draft, blank, identity, rewrite_all, text_of

# What the stand-in for a parser knows. Each word is one finding.
FINDINGS = ("murmur", "fever", "wheezes", "stethoscope")
LONG = "The sound was recorded with a stethoscope while the patient was sitting, in a quiet room, "


class Writer:
    """A rewriter by a function; counts what it is asked."""

    name, revision = "writer", "r1"

    def __init__(self, write: Callable[[str], str], options: Mapping[str, Any] | None = None):
        self.write, self.options = write, options or {"decoding": "greedy"}
        self.asked: Counter[str] = Counter()

    def rewrite(self, prompts: Sequence[str]) -> Iterator[tuple[int, Answer]]:
        for index, prompt in reversed(list(enumerate(prompts))):  # not in the order asked
            report = prompt.split("-----")[1].strip()
            self.asked[report] += 1
            yield index, Answer(text=self.write(report), revision="r1")


def row(number: int, finding: str = "murmur") -> dict[str, Any]:
    """A row of the reports table whose strict text leaves one finding out."""
    strict = [{"text": f"{LONG}as visit {number}.", "findings": ["device"]}]
    full = [*strict, {"text": f"There was {finding}.", "findings": [finding]}]
    made: dict[str, Any] = {"recording_id": f"heart/{number}", "dataset": "heart"}
    for regime, said in (("full", full), ("strict", strict)):
        text, terms = " ".join(str(s["text"]) for s in said), [f"{finding}=yes"]
        made |= {f"{regime}_text": text, f"{regime}_hash": hash_of(text, terms)}
        made |= {f"{regime}_terms": terms, f"{regime}_sentences": json.dumps(said)}
    return made


def rows(count: int) -> list[dict[str, Any]]:
    return [row(number) for number in range(count)]


def same_words(draft: Draft, text: str) -> str | None:
    """Accept a text with exactly the findings of the draft."""
    before, after = ({f for f in FINDINGS if f in said} for said in (draft.text, text))
    return "invented" if after - before else "lost" if before - after else None


def moved(report: str) -> str:
    """Other words, same findings."""
    return f"In this case: {report}"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(answers_in(tmp_path))


def run(
    some: list[dict[str, Any]], writer: Any, cache: Cache, prompt: Prompt | None = None
) -> tuple[list[dict[str, Any]], Counts]:
    values = {r["recording_id"]: {} for r in some}
    done = prompt or load()
    return rewrite_all(some, values, writer, same_words, cache, done, lambda _: None)


def test_an_accepted_rewrite_changes_text_and_hash_alone(cache: Cache) -> None:
    before = row(1)
    (after,), counts = run([before], Writer(moved), cache)
    assert after["full_text"] == moved(before["full_text"]) and after["full_rewritten"]
    assert after["full_hash"] == hash_of(after["full_text"], before["full_terms"])
    for name in ("full_terms", "full_sentences", "strict_terms", "strict_sentences"):
        assert after[name] == before[name]
    assert (after["rewriter"], after["prompt_version"]) == ("writer", load().version)
    assert (after["full_rewrite_revision"], after["full_refusal"]) == ("r1", None)
    assert set(after) == set(before) | set(blank())
    assert counts.facts() == {"texts": 2, "asked": 2, "rewritten": 2, "refused": {}}


def test_a_refused_rewrite_leaves_the_template_text_and_is_counted(cache: Cache) -> None:
    def invents(report: str) -> str:
        return moved(report) + (" A fever was noted." if "murmur" in report else "")

    before = row(1)
    (after,), counts = run([before], Writer(invents), cache)
    assert after["full_text"] == before["full_text"] and after["full_hash"] == before["full_hash"]
    assert (after["full_rewritten"], after["full_refusal"]) == (False, "invented")
    assert after["strict_rewritten"] and after["full_rewrite_key"]
    assert (counts.rewritten, counts.refused) == (1, {"invented": 1})


def test_a_strict_text_is_written_from_strict_sentences_alone(cache: Cache) -> None:
    writer = Writer(moved)
    run(rows(3), writer, cache)
    for number in range(3):
        assert writer.asked[f"{LONG}as visit {number}."] == 1
    # A model that knows the label from elsewhere is refused there.
    (after,), _ = run([row(7)], Writer(lambda _: f"{LONG}as visit 7, with a murmur."), cache)
    assert after["strict_refusal"] == "invented"


def test_a_text_is_asked_once_whatever_the_part(cache: Cache) -> None:
    some = [*rows(4), row(2) | {"recording_id": "heart/again"}]
    first = Writer(moved)
    whole, counts = run(some, first, cache)
    assert set(first.asked.values()) == {1} and counts.asked == 8 and counts.texts == 10
    second = Writer(lambda _: "never asked")
    parts = [run(some[i : i + 2], second, cache) for i in range(0, 5, 2)]
    assert [r for part, _ in parts for r in part] == whole and not second.asked
    total = sum((c for _, c in parts), Counts())
    assert (total.texts, total.asked, total.rewritten) == (10, 0, 10)


def test_answers_are_kept_by_content_prompt_model_and_options(cache: Cache) -> None:
    run(rows(1), Writer(moved), cache)
    same, other_options = Writer(moved), Writer(moved, {"decoding": "beam"})
    other_model, other_prompt = Writer(moved), Writer(moved)
    other_model.revision = "r2"
    run(rows(1), same, cache)
    run(rows(1), other_options, cache)
    run(rows(1), other_model, cache)
    changed = Prompt(load().template.replace("Keep every fact", "Keep all facts"))
    (after,), _ = run(rows(1), other_prompt, cache, changed)
    assert [w.asked.total() for w in (same, other_options, other_model, other_prompt)] == [
        0, 2, 2, 2,
    ]  # fmt: skip
    assert after["prompt_version"] == changed.version != load().version
    assert identity(same, load()) != identity(same, changed)
    keys = {question(load(), same, text).key for text in ("a", "b", "a ")}
    assert len(keys) == 3


def test_a_verdict_is_not_kept_so_a_better_parser_asks_nothing(cache: Cache) -> None:
    writer = Writer(lambda report: moved(report) + " A fever was noted.")
    values: dict[str, dict[str, Any]] = {"heart/0": {}}
    (refused,), _ = run(rows(1), writer, cache)
    (taken,), counts = rewrite_all(
        rows(1), values, writer, lambda *_: None, cache, load(), lambda _: None
    )
    assert (refused["full_rewritten"], taken["full_rewritten"], counts.asked) == (False, True, 0)


def test_a_text_is_made_again_from_its_row(cache: Cache) -> None:
    (one, two), _ = run(
        rows(2), Writer(lambda r: moved(r) if "visit 0" in r else r + " A fever."), cache
    )
    for regime in ("full", "strict"):
        assert text_of(one, regime, cache) == one[f"{regime}_text"] != row(0)[f"{regime}_text"]
        assert text_of(two, regime, cache) == row(1)[f"{regime}_text"]
    with pytest.raises(RewriteError, match="not in the file of answers"):
        text_of(one | {"full_rewrite_key": two["full_rewrite_key"]}, "full", cache)


def test_a_row_that_does_not_fit_its_sentences_is_an_error(cache: Cache) -> None:
    with pytest.raises(ValueError, match="heart/0: the strict text is not that of its sentences"):
        run([row(0) | {"strict_text": row(0)["full_text"]}], Writer(moved), cache)


def test_a_report_is_never_cut_to_be_asked(cache: Cache) -> None:
    long = row(0)
    said = [{"text": "Murmur. " * 600 + "End.", "findings": ["murmur"]}]
    long |= {"full_sentences": json.dumps(said), "full_text": said[0]["text"]}
    writer = Writer(moved)
    (after,), counts = run([long], writer, cache)
    assert after["full_refusal"] == "not_asked" and after["full_rewrite_key"] is None
    assert writer.asked.total() == 1 and counts.refused == {"not_asked": 1}


def test_a_prompt_holds_the_report_once(tmp_path: Path) -> None:
    assert "No murmur {{ x }}" in load().about("No murmur {{ x }}")
    for text, error in (("no place", "once"), ("{{ report }} {{ rport }}", "rport")):
        path = tmp_path / "prompt.j2"
        path.write_text(text)
        with pytest.raises(ValueError, match=error):
            load(path)


def test_a_file_that_holds_no_answers_is_named(tmp_path: Path) -> None:
    path = answers_in(tmp_path)
    path.parent.mkdir()
    path.write_text("no database " * 100)
    with pytest.raises(RewriteError, match=r"answers\.sqlite: the file of answers cannot be read"):
        run(rows(1), Writer(moved), Cache(path))


def test_addresses(tmp_path: Path) -> None:
    assert parse("none") is None
    assert parse("https://h.org/v1#a/b") == EndpointAddress("https://h.org/v1", "a/b")
    assert parse("http://h:8/v1/chat/completions/#m") == EndpointAddress("http://h:8/v1", "m")
    assert parse(f"local:{tmp_path}") == LocalAddress(str(tmp_path))
    assert parse(f"local:{tmp_path}@0123") == LocalAddress(str(tmp_path), "0123")
    assert parse("local:a/b@v1.0") == LocalAddress("a/b", "v1.0")


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"REWRITER": "gpt"}, r"rewriter: .*'gpt' is no rewriter; valid: `none`, `https://host/v1"),
        ({"REWRITER": "https://h.org/v1"}, r"lacks a host or, after `#`, a model"),
        ({"REWRITER": "https://me:secret@h.org/v1#m"}, r"neither a password nor a query"),
        ({"REWRITER": "local:a/b"}, r"needs a revision.*`local:a/b@<commit>`"),
        ({"REWRITER": "local:/not/there"}, r"neither a folder nor a Hub id; valid: "),
        ({"REWRITER": "local:"}, r"neither a folder nor a Hub id"),
        ({"REWRITER_KEY_VARIABLE": "sk-123"}, r"name of a variable, never the key"),
        ({"REWRITER_KEY_VARIABLE": "ACULA_KEY"}, r"begin with ACULA_ are settings"),
        ({"REWRITES_PER_MINUTE": "0"}, r"rewrites_per_minute: "),
        ({"REWRITERS": "none"}, r"no setting ACULA_REWRITERS; valid: .*ACULA_REWRITER"),
    ],
)
def test_a_wrong_setting_says_what_is_valid(
    settings: Callable[..., configuration.Settings],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    error: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"ACULA_{name}", value)
    with pytest.raises(configuration.SettingsError, match=error) as caught:
        settings()
    assert "sk-123" not in str(caught.value) and "secret" not in str(caught.value)


def test_off_by_default_and_then_nothing_is_imported(
    settings: Callable[..., configuration.Settings],
) -> None:
    assert settings().rewriter == "none" and build(settings()) is None
    code = (
        "import sys; from pipeline import settings, rewriting\n"
        "assert rewriting.build(settings.load()) is None\n"
        "heavy = {'torch', 'transformers', 'requests', 'sqlite3', 'pipeline.rewriting.endpoint'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
