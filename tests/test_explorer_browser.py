"""The explorer in a browser: search, filter, open, hear, look, mark, by mouse and by keys."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from explorer_world import World, world

from pipeline import settings as configuration


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("explored") / "data")


@pytest.fixture(scope="module")
def address(made: World) -> Iterator[str]:
    """Of `acula explore`, as a user starts it; interrupted at the end, as a user ends it."""
    command = Path(sys.executable).with_name("acula")
    told = os.environ | {f"{configuration.PREFIX}DATA_ROOT": str(made.root)}
    with subprocess.Popen(
        [command, "explore", "--port", "0"], env=told, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        lines = iter(server.stdout.readline, "")
        found = next(m for line in lines if (m := re.search(r"http://127\.0\.0\.1:\d+", line)))
        yield found[0]
        host = found[0].removeprefix("http://")
        with socket.create_connection(
            ("127.0.0.1", int(host.split(":")[1]))
        ) as slow:  # never finishes what it sends
            begun = f"POST /mark/x HTTP/1.1\r\nHost: {host}\r\nOrigin: {found[0]}\r\n"
            slow.sendall(f"{begun}Content-Length: 9\r\n\r\nwhy".encode())
            server.send_signal(signal.SIGINT)
            assert server.wait(120) in (0, -signal.SIGINT, 130)


def until(view: Any, condition: str) -> None:
    """Wait for a condition; the page's policy forbids the driver's own way, eval."""
    for _ in range(1200):
        if view.evaluate(condition):
            return
        view.wait_for_timeout(50)
    raise AssertionError(f"not within a minute: {condition}")


@pytest.mark.browser
def test_a_listener_searches_opens_hears_and_marks(
    made: World, address: str, chromium: Any, tmp_path: Path
) -> None:
    view = chromium.new_page(viewport={"width": 1280, "height": 1000})
    said: list[str] = []
    requests: list[str] = []
    view.on("console", lambda m: said.append(m.text))
    view.on("pageerror", lambda e: said.append(str(e)))
    view.on("request", lambda r: requests.append(r.url))
    # A slow script must cost no key: the keys below are pressed as soon as a page can be seen.
    view.route("**/explorer.js", lambda r: (time.sleep(0.2), r.continue_()))
    view.goto(address)
    rows = view.locator("table.rows tbody tr")
    assert rows.count() == 50

    view.get_by_label("Dataset").select_option("icbhi")  # filters at once
    view.wait_for_url("**dataset=icbhi**")
    view.keyboard.press("/")
    view.keyboard.type("trachea")
    view.keyboard.press("Enter")
    view.wait_for_url("**q=trachea**")
    wanted = sorted(
        k
        for k, r in made.rows.items()
        if r["dataset"] == "icbhi" and "trachea" in r["full_text"].lower()
    )
    assert 1 < len(wanted) <= 50
    assert rows.locator("th a").all_inner_texts() == wanted
    assert "q=trachea" in view.url and "split" not in view.url  # nothing that says nothing

    view.locator("body").click(position={"x": 2, "y": 2})
    view.keyboard.press("j")
    view.keyboard.press("j")
    view.keyboard.press("Enter")  # the second row
    view.wait_for_url("**/recording/**")
    assert view.locator("h1").inner_text() == wanted[1]
    seconds = made.rows[wanted[1]]["duration_s"]
    until(view, "document.querySelector('audio').readyState > 0")
    assert view.evaluate("document.querySelector('audio').duration") == pytest.approx(
        seconds, abs=0.01
    )
    view.keyboard.press("Space")
    until(view, "document.querySelector('audio').currentTime > 0.2")
    assert view.locator(".head").is_visible()
    view.keyboard.press("Space")
    assert view.evaluate("document.querySelector('audio').paused")
    box = view.locator(".canvas").bounding_box()
    view.mouse.click(box["x"] + box["width"] / 2, box["y"] + 30)  # jumps to the middle
    until(view, "!document.querySelector('audio').seeking")
    assert view.evaluate("document.querySelector('audio').currentTime") == pytest.approx(
        seconds / 2, rel=0.05
    )

    picture = view.locator(".mel img")
    assert picture.evaluate("p => p.complete && p.naturalWidth") > 300
    events = view.locator(".event")
    assert events.count() >= 1
    assert events.first.bounding_box()["width"] > 5
    chip = view.locator(".report .chip").first
    finding = chip.get_attribute("href")
    chip.click()
    assert view.locator(f"{finding}:target").is_visible()
    view.locator("[data-load] .flow li").first.wait_for()  # the chain, drawn when it has come
    assert "Archive" in view.locator(".flow").inner_text()

    view.keyboard.press("m")
    view.keyboard.type("a hum at 50 Hz <b>")
    view.get_by_role("button", name="Mark as doubtful").click()
    view.get_by_role("button", name="Take the mark back").wait_for()
    assert "a hum at 50 Hz <b>" in view.locator(".mark").inner_text()
    view.screenshot(path=tmp_path / "recording.png", full_page=True)
    view.keyboard.press("j")
    view.get_by_role("heading", name=wanted[2]).wait_for()
    view.keyboard.press("l")
    view.wait_for_url("**/?**q=trachea**")
    assert rows.nth(1).get_by_text("doubtful").is_visible()
    view.screenshot(path=tmp_path / "list.png")
    assert not said
    assert {r.split("/")[2] for r in requests if not r.startswith("data:")} == {address[7:]}
    view.close()


@pytest.mark.browser
def test_without_a_script_everything_but_keys_is_there(
    made: World, address: str, chromium: Any
) -> None:
    context = chromium.new_context(
        java_script_enabled=False, viewport={"width": 400, "height": 800}
    )
    view = context.new_page()
    view.goto(f"{address}/?dataset=hflung")
    wide = view.evaluate("document.documentElement.scrollWidth")
    assert wide <= 400  # a phone needs no sideways scrolling
    view.get_by_label("Words").fill("stridor")
    view.get_by_role("button", name="Filter").click()
    name = view.locator("table.rows th a").first.inner_text()
    view.locator("table.rows th a").first.click()
    assert view.locator("h1").inner_text() == name
    assert view.evaluate("document.documentElement.scrollWidth") <= 400
    view.get_by_role("link", name="the chain from the archive").click()
    assert "Archive" in view.locator("body").inner_text()
    context.close()
