"""Archives of real metadata without sound: readers look at names and tables, so wavs are empty."""

import csv
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from worlds import SHARED

REAL = SHARED / "real"


def _touch(paths: Iterable[Path]) -> None:
    for path in paths:
        os.close(os.open(path, os.O_CREAT))


def _unpacked(archive: Path, folder: Path) -> list[Path]:
    """The files of a tar, flat in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content:
                (folder / Path(member.name).name).write_bytes(content.read())
    return list(folder.iterdir())


def icbhi(root: Path) -> None:
    for path in (REAL / "icbhi").glob("ICBHI_*.txt"):
        shutil.copy(path, root)
    cycles = _unpacked(REAL / "icbhi/cycle_txt_all_920.tar.gz", root / "ICBHI_final_database")
    _touch(p.with_suffix(".wav") for p in cycles)


def hflung(root: Path) -> None:
    for side in ("train", "test"):
        shutil.copytree(REAL / "hflung" / side, root / side)
        labels = list((root / side).glob("*_label.txt"))
        _touch(p.with_name(p.name.replace("_label.txt", ".wav")) for p in labels)


def coughvid(root: Path) -> None:
    table = REAL / "coughvid/public_dataset/metadata_compiled.csv"
    (root / "public_dataset").mkdir()
    shutil.copy(table, root / "public_dataset")
    with table.open(newline="", encoding="utf-8") as lines:
        _touch(root / "public_dataset" / f"{r['uuid']}.webm" for r in csv.DictReader(lines))


def circor(root: Path) -> None:
    (root / "training_data").mkdir()
    shutil.copy(REAL / "circor/training_data.csv", root)
    for path in (REAL / "circor/training_data").glob("*.tsv"):
        shutil.copy(path, root / "training_data")
    names = (REAL / "circor/RECORDS").read_text().split()
    _touch(root / f"{name}.wav" for name in names)


def sprsound(root: Path) -> None:
    shutil.copytree(REAL / "sprsound/Patient Summary", root / "Patient Summary")
    labels = _unpacked(
        REAL / "sprsound/all_train2022_json.tar.gz", root / "BioCAS2022/train2022_json"
    )
    (root / "BioCAS2022/train2022_wav").mkdir()
    _touch(root / "BioCAS2022/train2022_wav" / f"{p.stem}.wav" for p in labels)
    for path in (REAL / "sprsound/other_years_json_samples").glob("*.json"):
        # BioCAS2025_test2025_json__<stem>.json, with a further folder in some releases
        folders, _, name = path.name.rpartition("__")
        release, folder = folders.split("_")[:2]
        for kind in ("json", "wav"):
            (root / release / f"{folder}_{kind}").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / release / f"{folder}_json" / name)
        _touch([(root / release / f"{folder}_wav" / name).with_suffix(".wav")])


def zchsound(root: Path) -> None:
    table = next((REAL / "zchsound").glob("Clean Heartsound Data Details*.csv"))
    shutil.copy(table, root / "Clean Heartsound Data Details.csv")
    _touch(root / line.split(";")[0] for line in table.read_text().splitlines()[1:])


# Real rows of participants of uk_covid19 are not at hand.
ARCHIVES: Mapping[str, Callable[[Path], None]] = {
    "icbhi": icbhi,
    "hflung": hflung,
    "coughvid": coughvid,
    "circor": circor,
    "sprsound": sprsound,
    "zchsound": zchsound,
}
