"""Rewriting by an endpoint that has every fault a server can have, and across a kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path

import pytest
from chat_server import MODEL, Chat, Reply, served
from test_rewriting import Writer, moved, row, rows, run

from pipeline import settings as configuration
from pipeline.rewriter_address import EndpointAddress
from pipeline.rewriting import RewriteError, answers_in, build, endpoint
from pipeline.rewriting.cache import Cache
from pipeline.rewriting.endpoint import Endpoint
from pipeline.rewriting.pace import Pace
from pipeline.rewriting.prompt import load
from pipeline.rewriting.rewrite import rewrite_all


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def chat() -> Iterator[Chat]:
    with served(moved) as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(answers_in(tmp_path))


def client(chat: Chat, clock: Clock, per_minute: float = 6e4, at_once: int = 1) -> Endpoint:
    pace = Pace(per_minute, clock, clock.sleep)
    return Endpoint(EndpointAddress(chat.url, MODEL), None, pace, at_once, clock.sleep)


def ask(chat: Chat, clock: Clock, prompt: str = "-----\nNo murmur.\n-----") -> str:
    ((_, answer),) = client(chat, clock).rewrite([prompt])
    return answer.text


def test_good_answers_and_what_is_recorded_of_them(chat: Chat, clock: Clock, cache: Cache) -> None:
    (after,), counts = run(rows(1), client(chat, clock), cache)
    assert after["full_text"] == moved(row(0)["full_text"]) and counts.rewritten == 2
    assert after["rewriter"] == f"{chat.url}#{MODEL}"
    assert after["full_rewrite_revision"] == f"{MODEL}-2026/fp1"
    headers, body = chat.requests[0]
    assert (body["model"], body["temperature"], len(body["messages"])) == (MODEL, 0, 1)
    assert "Authorization" not in headers


def test_an_answer_that_adds_a_finding_is_refused_and_counted(
    chat: Chat, clock: Clock, cache: Cache
) -> None:
    chat.write = lambda report: moved(report) + " Wheezes and fever, too: wheezes."
    made, counts = run(rows(2), client(chat, clock), cache)
    assert [m["full_text"] for m in made] == [r["full_text"] for r in rows(2)]
    assert (counts.rewritten, counts.refused) == (0, {"invented": 4})


@pytest.mark.parametrize(
    ("reply", "refusal"),
    [
        (Reply(said=""), "empty"),
        (Reply(said=None), "empty"),
        (Reply(said="The murmur", finish="length"), "cut_off"),
        (Reply(said="", finish="content_filter"), "withheld"),
        (Reply(status=400, body=b'{"error": {"code": "content_filter"}}'), "withheld"),
    ],
)
def test_an_answer_without_a_report_is_kept_and_counted(
    chat: Chat, clock: Clock, cache: Cache, reply: Reply, refusal: str
) -> None:
    some = rows(1)
    some[0] |= {"strict_text": some[0]["full_text"], "strict_sentences": some[0]["full_sentences"]}
    chat.queue.append(reply)
    (after,), counts = run(some, client(chat, clock), cache)
    assert after["full_text"] == row(0)["full_text"] and counts.refused == {refusal: 2}
    _, again = run(some, client(chat, clock), cache)
    assert (again.asked, again.refused, chat.asked.total()) == (0, {refusal: 2}, 1)


@pytest.mark.parametrize(
    "faults",
    [
        [Reply(status=500), Reply(status=503, body=b"<html>busy</html>", kind="text/html")],
        [Reply(said="half an answer", cut=True)],
        [Reply(body=b'{"choices": [{"mess'), Reply(body=b"[]"), Reply(body=b'{"choices": []}')],
        [Reply(body=b'{"choices": [{"message": {"content": [1]}}]}')],
        [Reply(body=b'{"error": {"message": "overloaded", "code": 502}}')],
    ],
)
def test_a_passing_fault_is_tried_again_later_and_later(
    chat: Chat, clock: Clock, faults: list[Reply]
) -> None:
    chat.queue.extend(faults)
    assert ask(chat, clock) == moved("No murmur.")
    waits = [s for s in clock.slept if s > 0.5]
    assert len(waits) == len(faults) and waits == sorted(waits)


def test_retry_after_is_waited_for_in_seconds_or_until_a_date(chat: Chat, clock: Clock) -> None:
    chat.queue.append(Reply(status=429, headers={"Retry-After": "7"}))
    begun = clock.now
    ask(chat, clock)
    assert clock.now - begun == pytest.approx(7, abs=0.1)
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    chat.queue.append(Reply(status=503, headers={"Retry-After": later}))
    begun = clock.now
    ask(chat, clock)
    assert 35 < clock.now - begun < 42


@pytest.mark.parametrize(
    ("reply", "error", "requests"),
    [
        (Reply(status=500, body=b'{"error": "on fire"}'), r"failed again and again.*on fire", 6),
        (Reply(said="x", cut=True), r"the connection broke", 6),
        (Reply(body=b"what?"), r"are no JSON as OpenAI's protocol has it \(what\?\)", 6),
        (Reply(body=b"<!doctype html><title>Log in", kind="text/html"), r"web page.*in /v1", 1),
        (Reply(status=404, body=b"<html>"), r"no such model, or no /chat/completions", 1),
        (Reply(status=401), r"refuses access: the key.*ACULA_REWRITER_KEY_VARIABLE", 1),
        (
            Reply(status=400, body=b'{"error": {"message": "temperature:\\n\\u0007 only 1"}}'),
            r"does not accept.*HTTP 400: temperature: only 1",
            1,
        ),
        (Reply(status=429, headers={"Retry-After": "9999"}), r"ACULA_REWRITES_PER_MINUTE", 1),
        (Reply(status=429, body=b'{"error": {"code": "insufficient_quota"}}'), r"no credit", 1),
        (Reply(status=307, headers={"Location": "http://e.org/v2"}), r"redirects.*e\.org/v2", 1),
        (Reply(body=b" " * (1 << 19)), r"far longer than any report", 1),
    ],
)
def test_a_lasting_fault_stops_with_plain_words(
    chat: Chat, clock: Clock, reply: Reply, error: str, requests: int
) -> None:
    chat.queue.extend([reply] * 10)
    with pytest.raises(RewriteError, match=error) as caught:
        ask(chat, clock)
    assert str(caught.value).startswith(f"{chat.url}#{MODEL}: ")
    assert chat.asked.total() == requests


def test_nobody_there(clock: Clock) -> None:
    lost = Endpoint(EndpointAddress("http://127.0.0.1:9/v1", "m"), None, pause=clock.sleep)
    lost._pace = Pace(1e6, clock, clock.sleep)
    with pytest.raises(RewriteError, match="the endpoint cannot be reached"):
        list(lost.rewrite(["x"]))


def test_a_server_that_is_silent_is_not_waited_for(
    chat: Chat, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "TIMEOUT", (1, 0.05))
    monkeypatch.setattr(endpoint, "ATTEMPTS", 2)
    chat.queue.extend([Reply(said="x", stall=True)] * 2)
    with pytest.raises(RewriteError, match="no answer came in time"):
        ask(chat, clock)


def test_what_was_answered_before_a_failure_is_kept(chat: Chat, clock: Clock, cache: Cache) -> None:
    chat.queue.extend([Reply(said="one"), Reply(said="two"), Reply(status=401)])
    with pytest.raises(RewriteError, match="refuses access"):
        run(rows(3), client(chat, clock), cache)
    _, counts = run(rows(3), client(chat, clock), cache)
    assert counts.asked == 4 and sorted(chat.asked.values()) == [1, 1, 1, 1, 1, 2]


def test_the_rate_is_kept_by_repeated_requests_too(chat: Chat, clock: Clock, cache: Cache) -> None:
    times: list[float] = []
    chat.seen = lambda: times.append(clock.now)
    chat.queue.extend([Reply(status=500)] * 2)
    run(rows(3), client(chat, clock, per_minute=20), cache)
    gaps = [after - before for before, after in pairwise(times)]
    assert len(times) == 8 and min(gaps) >= 3 - 1e-9


def test_the_rate_and_the_number_under_way_hold_for_all_threads(
    chat: Chat, clock: Clock, cache: Cache
) -> None:
    answer = chat.write
    chat.write = lambda report: (time.sleep(0.01), answer(report))[1]
    begun = clock.now
    run(rows(10), client(chat, clock, per_minute=60, at_once=3), cache)
    assert clock.now - begun == pytest.approx(19) and chat.asked.total() == 20
    assert chat.most_under_way <= 3


def test_a_key_comes_from_the_variable_and_goes_to_the_server_alone(
    chat: Chat,
    settings: Callable[..., configuration.Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = settings(rewriter=f"{chat.url}#{MODEL}", rewriter_key_variable="WRITER_KEY")
    with pytest.raises(RewriteError, match=r"should hold the key is not set \(WRITER_KEY\)"):
        build(made)
    monkeypatch.setenv("WRITER_KEY", "abc\n")
    writer = build(made)
    assert writer is not None
    list(writer.rewrite(["-----\nNo murmur.\n-----"]))
    assert chat.requests[0][0]["Authorization"] == "Bearer abc"
    assert "abc" not in writer.name and "abc" not in str(writer.options)
    with pytest.raises(RewriteError, match="over https or to this computer"):
        build(settings(rewriter="http://far.org/v1#m", rewriter_key_variable="WRITER_KEY"))


KILLED = """
import sys
from pathlib import Path
from test_rewriting import rows, run
from pipeline.rewriter_address import EndpointAddress
from pipeline.rewriting.cache import Cache
from pipeline.rewriting.endpoint import Endpoint
writer = Endpoint(EndpointAddress(sys.argv[1], "small-writer"), None, per_minute=60000, at_once=1)
run(rows(6), writer, Cache(Path(sys.argv[2])))
"""


def test_a_killed_run_asks_nothing_twice(chat: Chat, clock: Clock, tmp_path: Path) -> None:
    path = answers_in(tmp_path)
    answer = chat.write
    chat.queue.extend(Reply(said=moved(f"{n}. No more.")) for n in range(5))
    chat.queue.append(Reply(said="too late", stall=True))
    tests = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{tests}:{tests.parent}"}
    command = [sys.executable, "-c", KILLED, chat.url, str(path)]
    with subprocess.Popen(command, env=environment) as running:
        until = time.monotonic() + 120
        while chat.asked.total() < 6 and time.monotonic() < until:
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    assert chat.asked.total() == 6
    answered = set(list(chat.asked)[:5])
    chat.write = answer
    _, counts = run(rows(6), client(chat, clock), Cache(path))
    assert counts.asked == 7  # of twelve texts five were known
    assert all(chat.asked[report] == 1 for report in answered)
    assert sorted(chat.asked.values()) == [1] * 11 + [2]  # the one whose answer never came
    _, counts = run(rows(6), client(chat, clock), Cache(path))
    assert counts.asked == 0 and chat.asked.total() == 13


def test_one_process_at_a_time_asks(cache: Cache, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.rewriting.cache import Cache\n"
        "with Cache(Path(sys.argv[1])).writing(): print('mine', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(answers_in(tmp_path))]
    root = Path(__file__).parents[1]
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=root, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin and other.stdout and other.stdout.readline() == "mine\n"

        def told(line: str) -> None:
            lines.append(line)
            if other.stdin and "waiting" in line:
                other.stdin.close()

        rewrite_all(rows(1), {"heart/0": {}}, Writer(moved), lambda *_: None, cache, load(), told)
    waited, answered = lines
    assert waited == "rewriting: waiting for another process"
    assert answered.startswith("rewriting: 2 of 2 texts answered in ")
