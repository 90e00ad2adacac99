"""Dagster's UI in a browser: a dataset is materialised by clicking, and shows what we give it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster_server import answering, free_address

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PROJECT = Path(__file__).parents[1]
# Runs start from the webserver itself: the default coordinator waits for the daemon.
INSTANCE = """
telemetry: {enabled: false}
nux: {enabled: false}
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, chromium: Any) -> Iterator[str]:
    """A webserver with an empty history over one small sample dataset."""
    home = tmp_path_factory.mktemp("dagster_home")
    (home / "dagster.yaml").write_text(INSTANCE)
    url, port = free_address()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER_", "ACULA_"))}
    environment |= {
        "DAGSTER_HOME": str(home),
        "ACULA_DATA_ROOT": str(tmp_path_factory.mktemp("data")),
        "ACULA_DATASETS": "icbhi",
        "ACULA_SAMPLE_SCALE": "0.1",
        "ACULA_WORKERS": "1",
    }
    command = [sys.executable, "-m", "dagster_webserver", "-m", "pipeline.definitions"]
    log = home / "webserver.log"
    with log.open("w") as lines:
        server = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(port)],
            cwd=PROJECT,
            env=environment,
            stdout=lines,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield answering(url, server, log)
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def test_a_dataset_is_materialised_by_clicking_and_shows_itself(
    address: str, chromium: Any, tmp_path: Path
) -> None:
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    view = context.new_page()
    view.set_default_timeout(60_000)
    said: list[str] = []
    foreign: list[str] = []
    view.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
    view.on("pageerror", lambda e: said.append(str(e)))

    def only_here(route: Any) -> None:
        if route.request.url.startswith(address):
            route.continue_()
        else:
            foreign.append(route.request.url)
            route.abort()

    context.route(re.compile("^(https?|wss?):"), only_here)
    view.goto(f"{address}/locations/pipeline.definitions/asset-groups/icbhi")
    view.locator("button", has_text="Materialize all").first.click()
    view.get_by_text("Launched run").first.wait_for()
    view.goto(f"{address}/runs")
    view.get_by_text("Success", exact=True).first.wait_for(timeout=300_000)

    view.goto(f"{address}/assets/icbhi/recordings?view=overview")
    words = ("durations", "native_rates", "quarantine_by_reason", "not_used", "acula")
    for shown in (*words, "44,100", "truncated"):
        view.get_by_text(shown, exact=True).first.wait_for()
    row = view.locator("tr", has=view.get_by_text("histograms", exact=True)).last
    row.get_by_text("Show Markdown").click()
    picture = view.locator("img[src^='data:image/png']")
    picture.wait_for()
    assert picture.evaluate("i => i.decode().then(() => i.naturalWidth)") > 400
    view.screenshot(path=tmp_path / "histograms.png")

    view.goto(f"{address}/assets/icbhi/reports?view=checks")
    view.get_by_text("says_what_the_metadata_say").first.click()
    view.get_by_text("A failure means at least one contradiction").first.wait_for()
    for shown in ("texts_are_whole", "texts_differ", "differences_full"):
        view.get_by_text(shown).first.wait_for()
    view.screenshot(path=tmp_path / "checks.png")
    context.close()
    assert not foreign
    assert not said
