"""The literal commands in a fresh project folder, from nothing to the results page and the UI."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dagster_server import answering, free_address

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
pytestmark = pytest.mark.slow


@dataclass
class Project:
    """A folder with the project's own dagster.yaml and pyproject.toml, and nothing else."""

    root: Path

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=self.root,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            check=False,
        )

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER_", "ACULA_"))}
        return kept | {"ACULA_SAMPLE_SCALE": "0.2"} | variables


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("project")
    for name in ("dagster.yaml", "pyproject.toml"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    return Project(root)


@pytest.fixture(scope="module")
def nothing_upstream(project: Project) -> subprocess.CompletedProcess[str]:
    return project.run("dagster", "asset", "materialize", "--select", "train_alignment")


@pytest.fixture(scope="module")
def made(project: Project, nothing_upstream) -> subprocess.CompletedProcess[str]:
    return project.run("dagster", "asset", "materialize", "--select", "*results_page")


def test_with_nothing_upstream_the_literal_command_names_the_one_to_run(nothing_upstream):
    said = nothing_upstream.stdout + nothing_upstream.stderr
    assert nothing_upstream.returncode == 1
    assert "run `dagster asset materialize --select '*train_alignment'` first" in said


def test_everything_is_made_with_one_command(project, made):
    assert made.returncode == 0, made.stderr[-3000:]
    page = project.root / "data" / "results_page" / "index.html"
    assert page.stat().st_size > 50_000
    said = project.run("acula", "page")
    assert page.as_uri() in said.stdout


def test_the_literal_command_then_finds_everything_made(project, made):
    before = {p: p.stat().st_mtime_ns for p in (project.root / "data").rglob("*") if p.is_file()}
    again = project.run("dagster", "asset", "materialize", "--select", "train_alignment")
    assert again.returncode == 0, again.stderr[-3000:]
    assert "inputs unchanged" in again.stderr
    after = {p: p.stat().st_mtime_ns for p in (project.root / "data").rglob("*") if p.is_file()}
    assert after == before


@pytest.mark.parametrize("flags", [["-m", "pipeline.definitions"], ["-f", "one.py"]])
def test_explicit_targets_keep_working(project, made, flags):
    (project.root / "one.py").write_text(
        "import dagster as dg\n\n\n@dg.asset\ndef subjects(): ...\n\n\n"
        "defs = dg.Definitions([subjects])\n"
    )
    run = project.run("dagster", "asset", "materialize", *flags, "--select", "subjects")
    assert run.returncode == 0, run.stderr[-3000:]


def test_a_misspelt_setting_stops_the_command(project):
    run = project.run(
        "dagster", "asset", "materialize", "--select", "pairs", ACULA_DATASETS="icbhy"
    )
    assert run.returncode != 0
    assert "no dataset icbhy; valid ids: circor, coswara, coughvid" in run.stdout + run.stderr


@pytest.fixture(scope="module")
def ui(project: Project, made) -> Iterator[str]:
    """`dagster dev` on the same folder; it must show what the command line made."""
    url, port = free_address()
    log = project.root / "dev.log"
    with log.open("w") as lines:
        server = subprocess.Popen(
            [str(BIN / "dagster"), "dev", "-p", str(port)],
            cwd=project.root,
            env=project.environment(),
            stdout=lines,
            stderr=lines,
            preexec_fn=_own_signals,
        )
    try:
        yield answering(url, server, log)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(120)


def _own_signals() -> None:
    """A background shell leaves SIGINT ignored, and Dagster would copy that to SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.browser
def test_the_ui_shows_groups_history_and_scores(ui, chromium):
    page = chromium.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(f"{ui}/asset-groups")
    for group in ("icbhi", "circor", "uk_covid19", "alignment", "evaluation"):
        page.get_by_text(group, exact=True).first.wait_for(timeout=120_000)
    page.goto(f"{ui}/assets/train_alignment?view=overview")
    page.get_by_text("mean_auroc").first.wait_for(timeout=120_000)
    page.goto(f"{ui}/assets/pairs?view=checks")
    page.get_by_text("no_person_on_both_sides").first.wait_for(timeout=120_000)
    page.close()
    assert not errors


@pytest.mark.browser
def test_the_results_page_opens_from_disk_without_a_request(project, made, chromium):
    page = chromium.new_page()
    requests: list[str] = []
    page.on("request", lambda r: requests.append(r.url))
    place = (project.root / "data" / "results_page" / "index.html").as_uri()
    page.goto(place)
    assert page.get_by_role("table").first.is_visible()
    players = page.locator("audio")
    assert players.count() == 10
    duration = players.first.evaluate(
        "a => new Promise(r => { a.onloadedmetadata = () => r(a.duration); a.load() })"
    )
    assert 0.5 <= duration <= 9
    page.close()
    assert [u for u in requests if not u.startswith(("data:", "blob:"))] == [place]
