"""Small worlds that several test files share: an ICBHI archive written by hand, settings, a run."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from unpacking import bench, elsewhere, fast  # noqa: F401  # fixtures of the unpacking tests

from pipeline import settings as configuration
from pipeline.manifest import Manifest, load_all
from pipeline.steps import archive, pairs, recordings, report_table, shards, store, subjects

# What a user has set is not what is tested, no proxy reaches the tests' own servers, and messages
# are read as they are without colour (which typer takes from FORCE_COLOR and GITHUB_ACTIONS).
_SET = ("ACULA_", "AWS_", "DAGSTER_", "FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS")
for name in list(os.environ):
    if name.startswith(_SET) or name.lower().endswith("_proxy"):
        del os.environ[name]
os.environ["COLUMNS"] = "80"
os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.environ["AWS_CONFIG_FILE"] = os.devnull
os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when huggingface_hub is imported
# How long an example takes says how fast and how busy the computer is; and what is red must be red
# everywhere. Other examples: --hypothesis-profile=default.
hypothesis.settings.register_profile(
    "everywhere the same",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("everywhere the same")

# Files that take minutes start first, so that no process has one left at the end.
LONGEST = ("test_learning.py", "test_demo.py", "test_training.py")
STEPS = ("archive", "recordings", "reports", "subjects", "pairs", "shards")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order of files, but for the longest."""
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))  # stable


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Which files a process has run before depends on how fast it is; what is drawn must not."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings and reference numbers beside the project."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: real recordings are not part of the project")
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The system's Chromium without a window, which talks to nobody by itself."""
    from playwright.sync_api import sync_playwright

    found = [p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(p).exists()]
    if not found:
        pytest.skip("no Chromium on this computer: install the package `chromium`")
    flags = [
        "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
        "--mute-audio",
    ]  # fmt: skip
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found[0], args=flags)
        yield browser
        browser.close()


def manifest_values(**changes: Any) -> dict[str, Any]:
    """A valid manifest as its YAML would be, with changes."""
    return {
        "id": "heart",
        "title": "Heart sounds",
        "description": "Made up.",
        "homepage": "https://example.org",
        "version": "1",
        "licence": {"name": "CC BY 4.0", "source": "its page"},
        "attribution": "Nobody",
        "citation": ["Nobody, 2020"],
        "files": [{"name": "a.zip", "urls": ["https://example.org/a.zip"]}],
        "findings": {"murmur": {"kind": "code", "label": "m", "words": {"P": "one", "N": "none"}}},
        "tasks": {
            "murmur": {"title": "m", "label": "murmur", "positive": ["P"], "negative": ["N"]}
        },
    } | changes


@dataclass
class TinyIcbhi:
    """An archive in ICBHI's layout; change its tables, then ``save`` them."""

    root: Path
    people: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    diagnoses: dict[str, str] = field(default_factory=dict[str, str])
    sides: dict[str, str] = field(default_factory=dict[str, str])

    def wav(self, stem: str) -> Path:
        return self.root / "ICBHI_final_database" / f"{stem}.wav"

    def add(
        self, stem: str, sound: npt.NDArray[np.float64], side: str, diagnosis: str = "COPD"
    ) -> Path:
        """One recording at 4 kHz with two cycles, and its rows in the three tables."""
        patient = stem[:3]
        age = str(20 + int(patient) % 70)  # so that reports of two persons differ
        self.people.setdefault(patient, (age, "F", "24.5", "NA", "NA"))
        self.diagnoses.setdefault(patient, diagnosis)
        self.sides[stem] = side
        path = self.wav(stem)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, 4000)
        path.with_suffix(".txt").write_text("0.1\t0.4\t1\t0\r\n0.4\t0.9\t0\t0\r\n")
        return path

    def save(self) -> None:
        tables = {
            "ICBHI_Challenge_demographic_information.txt": [
                "\t".join((p, *rest)) for p, rest in self.people.items()
            ],
            "ICBHI_Challenge_diagnosis.txt": [f"{p}\t{d}" for p, d in self.diagnoses.items()],
            "ICBHI_challenge_train_test.txt": [f"{s}\t{side}" for s, side in self.sides.items()],
        }
        for name, lines in tables.items():
            (self.root / name).write_text("\n".join(lines) + "\n")


def tone(hz: float, seconds: float = 1.0, rate: int = 4000) -> npt.NDArray[np.float64]:
    """A sine at a third of full scale."""
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate) / 3


@pytest.fixture
def tiny_archive(tmp_path: Path) -> TinyIcbhi:
    """Eight persons with two recordings each; 101-104 train, 105-107 test, 108 on both sides."""
    tiny = TinyIcbhi(tmp_path / "archives" / "icbhi")
    for number in range(101, 109):
        for take in (1, 2):
            side = "test" if number >= 105 and (number, take) != (108, 1) else "train"
            diagnosis = "COPD" if number % 2 else "Healthy"
            sound = tone(10 * number - 900 + 5 * take)
            tiny.add(f"{number}_1b{take}_Tc_sc_Meditron", sound, side, diagnosis)
    tiny.save()
    return tiny


@pytest.fixture
def settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., configuration.Settings]:
    """Settings for a data root in ``tmp_path``, whatever the environment says."""
    for name in [n for n in os.environ if n.startswith(configuration.PREFIX)]:
        monkeypatch.delenv(name)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)  # no acula.toml here

    def make(**overrides: object) -> configuration.Settings:
        return configuration.load(**{"data_root": tmp_path / "data", "workers": 1} | overrides)

    return make


@pytest.fixture
def tiny_settings(
    tiny_archive: TinyIcbhi, settings: Callable[..., configuration.Settings]
) -> configuration.Settings:
    """Settings that read the tiny archive alone."""
    return settings(archives=str(tiny_archive.root.parent), datasets="icbhi")


@pytest.fixture
def icbhi() -> Manifest:
    return load_all()["icbhi"]


@pytest.fixture
def materialise(tiny_settings: configuration.Settings) -> Callable[..., dict[str, store.Outcome]]:
    """Run the data steps of the tiny archive up to one of ``STEPS``."""

    def run(
        until: str = "shards", manifest: Manifest | None = None, **overrides: object
    ) -> dict[str, store.Outcome]:
        at = tiny_settings.model_copy(update=overrides)
        known = {"icbhi": manifest or load_all()["icbhi"]}
        work: dict[str, Callable[[], store.Outcome]] = {
            "archive": lambda: archive.obtain(known["icbhi"], at),
            "recordings": lambda: recordings.prepare(known["icbhi"], at, lambda _: None),
            "reports": lambda: report_table.make(known["icbhi"], at),
            "subjects": lambda: subjects.decide(at, known),
            "pairs": lambda: pairs.join(at),
            "shards": lambda: shards.write(at, known, lambda _: None),
        }
        return {step: work[step]() for step in STEPS[: STEPS.index(until) + 1]}

    return run


pytest.register_assert_rewrite("worlds")  # its failures show values, too
