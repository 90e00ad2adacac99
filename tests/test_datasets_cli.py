"""`acula datasets` as a person types it: list, show, get, check."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from publishers import Publisher, publisher, tree
from shipping import ship
from typer.testing import CliRunner
from worlds import write_small

from pipeline import cli, cli_datasets, samples
from pipeline import manifest as manifests
from pipeline.manifest import load_all
from pipeline.steps import inspection


@pytest.fixture
def run(settings, monkeypatch: pytest.MonkeyPatch):
    """The command in an empty folder with no settings but these."""
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*words: str, **environment: str):
        return CliRunner().invoke(cli.app, ["datasets", *words], env=environment)

    return invoke


@pytest.fixture
def server() -> Iterator[Publisher]:
    with publisher() as running:
        yield running


def test_the_literal_command_lists_every_dataset(tmp_path: Path) -> None:
    acula = Path(sys.executable).parent / "acula"
    environment = {"PATH": "/usr/bin", "ACULA_ARCHIVES": "download", "COLUMNS": "200"}
    done = subprocess.run(
        [acula, "datasets"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for dataset, manifest in load_all().items():
        (line,) = [x for x in done.stdout.splitlines() if x.startswith(f"│ {dataset} ")]
        assert (f"acula datasets get {dataset}" in line) == (manifest.access == "open")
    assert "free at data" in done.stdout and not list(tmp_path.iterdir())


def test_show_says_what_a_person_must_do(run) -> None:
    page = run("show", "mmlung").output
    for words in (
        "mtm1g19@soton.ac.uk",
        "ACULA_AGREED=mmlung",
        "<subject>_deepbreaths",
        "Interspeech",
    ):
        assert words in page
    assert "5,000 clips" in run("show", "uk_covid19").output
    wrong = run("show", "icbih")
    assert wrong.exit_code == 2 and "valid ids" in wrong.output


def test_get_then_list_then_check(
    run, tmp_path: Path, server: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_small(samples.sample("kauh").write, tmp_path / "kauh")
    (tmp_path / "packing").mkdir()
    manifest = ship("kauh", folder, tmp_path / "packing", server, tmp_path)
    monkeypatch.setattr(manifests, "FOLDER", tmp_path)
    monkeypatch.setattr(cli_datasets, "load_all", lambda: {"kauh": manifest})
    before = run(ACULA_ARCHIVES="download").output
    assert "nothing" in before and "AudioFiles.zip, Data annotation.xlsx" in before
    got = run("get", "kauh")
    assert got.exit_code == 0, got.output
    assert manifest.licence.name in got.output and manifest.attribution in got.output
    assert tree(Path("data/kauh/archive")) == tree(folder)
    assert f"{len(tree(folder))} files" in run(ACULA_ARCHIVES="download").output
    checked = run("check", "kauh", ACULA_ARCHIVES="download")
    assert checked.exit_code == 1 and "336" in checked.output, "a small sample is not the dataset"
    assert f"{len(tree(folder))} right" in checked.output
    wav = next(Path("data/kauh/archive").rglob("*.wav"))
    wav.write_bytes(b"RIFF other")
    assert "other bytes" in run("check", "kauh", ACULA_ARCHIVES="download").output
    server.offer("AudioFiles.zip", status=404, faults=-1)
    failed = run("get", "kauh", ACULA_DATA_ROOT="elsewhere")
    assert failed.exit_code == 1 and "HTTP 404" in failed.output


def lines(dataset: str, root: Path) -> dict[str, inspection.Difference]:
    return {line.what: line for line in inspection.check(load_all()[dataset], root)}


def test_a_folder_is_checked_by_grammar_count_and_checksum(tmp_path: Path) -> None:
    root = tmp_path / "icbhi"
    sounds = root / "ICBHI_final_database"
    sounds.mkdir(parents=True)
    for n in range(920):
        stem = f"{101 + n // 8}_{1 + n % 8}b1_Tc_sc_Meditron"
        (sounds / f"{stem}.wav").touch()
        (sounds / f"{stem}.txt").touch()
    (sounds / "filename_format.txt").touch()
    for file in load_all()["icbhi"].files[1:]:
        (root / file.name).write_text("other")
    found = lines("icbhi", root)
    assert not found["recordings"].wrong and not found["cycle tables"].wrong
    assert found["other bytes"].wrong and found["other bytes"].found == "3"
    (sounds / "101_9z9_Tc_sc_Meditron.wav").touch()
    next(sounds.glob("102*.wav")).unlink()
    found = lines("icbhi", root)
    assert found["recordings"].wrong and found["recordings"].found == "919"
    assert found["other files"].examples == ["ICBHI_final_database/101_9z9_Tc_sc_Meditron.wav"]


@pytest.mark.parametrize("dataset", sorted(load_all()))
def test_grammars_know_the_files_of_their_dataset(dataset: str, tmp_path: Path) -> None:
    """No recording of a sample archive is a stranger, and every kind of file is there."""
    root = write_small(samples.sample(dataset).write, tmp_path / dataset)
    found = lines(dataset, root)
    kinds = load_all()[dataset].contents
    assert all(int(found[kind.what].found) > 0 for kind in kinds if kind.what != "notes")
    strangers = found.get("other files")
    assert not strangers or int(strangers.found) <= 12, strangers
