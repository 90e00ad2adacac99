"""Reports of all real metadata that are at hand, checked: no difference is allowed."""

import csv
import importlib
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from audit_world import audit_rows, rendered

from pipeline.audit.summary import Row
from pipeline.manifest import load_all
from pipeline.readers import coughvid
from pipeline.records import Recording, recording_id

pytestmark = pytest.mark.slow


def unpack(archive: Path, place: Path, suffix: str) -> None:
    """Small text members of an archive, each with an empty wav beside it."""
    place.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as members:
        for member in members:
            content = members.extractfile(member)
            if content is not None and member.name.endswith(suffix):
                path = place / Path(member.name).name
                path.write_bytes(content.read())
                path.with_suffix(".wav").touch()


def circor(real: Path, made: Path) -> None:
    shutil.copy(real / "training_data.csv", made)
    shutil.copytree(real / "training_data", made / "training_data", ignore=_sound)
    unpack(real / "metadata_only.tar.gz", made / "training_data", ".hea")


def icbhi(real: Path, made: Path) -> None:
    for table in real.glob("*.txt"):
        shutil.copy(table, made)
    unpack(real / "cycle_txt_all_920.tar.gz", made / "ICBHI_final_database", ".txt")


def sprsound(real: Path, made: Path) -> None:
    shutil.copytree(real / "Patient Summary", made / "Patient Summary")
    unpack(real / "all_train2022_json.tar.gz", made / "BioCAS2022" / "train2022_json", ".json")


def coughs(real: Path, made: Path) -> None:
    folder = made / "public_dataset"
    folder.mkdir()
    shutil.copy(real / "public_dataset" / "metadata_compiled.csv", folder)
    with (folder / "metadata_compiled.csv").open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            (folder / f"{row['uuid']}.webm").touch()


def zchsound(real: Path, made: Path) -> None:
    table = made / "Clean Heartsound Data Details.csv"
    shutil.copy(next(real.glob("Clean*.csv")), table)
    for line in table.read_text(encoding="utf-8-sig").splitlines()[1:]:
        (made / line.split(";")[0]).touch()


def hflung(real: Path, made: Path) -> None:
    for side in ("train", "test"):
        shutil.copytree(real / side, made / side)
        for label in (made / side).glob("*_label.txt"):
            label.with_name(label.name.replace("_label.txt", ".wav")).touch()


def _sound(_: str, names: list[str]) -> list[str]:
    return [n for n in names if n.endswith(".wav")]


ARCHIVES: dict[str, tuple[Callable[[Path, Path], None], int]] = {
    "circor": (circor, 3163),
    "icbhi": (icbhi, 920),
    "sprsound": (sprsound, 1949),
    "coughvid": (coughs, 20072),
    "zchsound": (zchsound, 67),
    "hflung": (hflung, 3),
}


@pytest.mark.parametrize("dataset", ARCHIVES)
def test_no_report_of_real_metadata_differs(
    dataset: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, expected = ARCHIVES[dataset]
    make(shared / "real" / dataset, tmp_path)
    # Rows without a clear cough are left out of the pairs, but their metadata render as well.
    monkeypatch.setattr(coughvid, "_COUGH_DETECTED", 0.0)
    reader = importlib.import_module(f"pipeline.readers.{dataset}")
    found = [r for r in reader.read(tmp_path) if isinstance(r, Recording)]
    assert len(found) == expected

    def rows() -> Iterator[Row]:
        for r in found:
            yield rendered(dataset, recording_id(dataset, r.native_id), r.findings)

    summary = audit_rows(load_all()[dataset], rows())
    assert summary.differences == 0, summary.examples
    assert summary.reports == expected
