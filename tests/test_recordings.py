"""The recordings step on a tiny archive: nothing lost, nothing done twice, a kill does no harm."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import TinyIcbhi, tone

from pipeline.readers import icbhi as reader
from pipeline.records import Recording, Rejected
from pipeline.settings import Settings
from pipeline.steps import archive, layout, parts, recordings, store

Materialise = Callable[..., dict[str, store.Outcome]]


@pytest.fixture
def here(tiny_settings: Settings) -> layout.Dataset:
    return layout.Dataset(tiny_settings.data_root, "icbhi")


def names(here: layout.Dataset) -> set[str]:
    return {r["native_id"] for r in store.read_table(here.recordings).to_pylist()}


def refused(here: layout.Dataset) -> dict[str, str]:
    """File name -> reason."""
    rows = store.read_table(here.quarantine).to_pylist()
    return {Path(r["name"]).name: r["reason"] for r in rows}


def flacs(here: layout.Dataset) -> dict[str, bytes]:
    rows = store.read_table(here.recordings).to_pylist()
    return {
        r["native_id"]: parts.read_flac(here.parts, r["part"], r["offset"], r["size"]) for r in rows
    }


def test_every_planted_defect_is_named_and_nothing_is_lost(
    tiny_archive: TinyIcbhi, materialise: Materialise, here: layout.Dataset, tmp_path: Path
) -> None:
    sound, good = tone(333), tiny_archive.wav("101_1b1_Tc_sc_Meditron").read_bytes()
    outside = tmp_path / "outside.wav"
    outside.write_bytes(good)
    planted = {
        "201_1b1_Tc_sc_Meditron.wav": ("empty_file", b""),
        "202_1b1_Tc_sc_Meditron.wav": ("header_only", good[:44]),
        "203_1b1_Tc_sc_Meditron.wav": ("truncated", good[:-600]),
        "204_1b1_Tc_sc_Meditron.wav": ("undecodable", b"no sound at all"),
        "205_1b1_Tc_sc_Meditron.wav": ("silent", None),
        "206_1b1_Tc_sc_Meditron.wav": ("too_short", None),
        "207_1b1_Tc_sc_Meditron.wav": ("unknown_code", None),
        "208_1b1_Tc_sc_Meditron.wav": ("bad_metadata", None),
        "209_1b1_Tc_sc_Meditron.wav": ("no_metadata", None),
        "210_1b1_Tc_sc_Nokia.wav": ("bad_name", None),
        "211_1b1_Tc_sc_Meditron.wav": ("no_audio_file", None),
        "212_1b1_Tc_sc_Meditron.wav": ("undecodable", None),
        "213_1b1_Tc_sc_Meditron.wav": ("conflicting_duplicate", None),
        "214_1b1_Tc_sc_Meditron.wav": ("conflicting_duplicate", None),
    }
    usable = {p.stem for p in tiny_archive.root.rglob("*.wav")}
    for number, (name, (_, content)) in enumerate(planted.items()):
        path = tiny_archive.add(Path(name).stem, tone(1000 + 7 * number), "train")
        if content is not None:
            path.write_bytes(content)
    wav = {name[:3]: tiny_archive.wav(Path(name).stem) for name in planted}
    tiny_archive.add(wav["205"].stem, 0 * sound, "train")
    tiny_archive.add(wav["206"].stem, sound[:1200], "train")
    tiny_archive.diagnoses["207"] = "Flu"
    wav["208"].with_suffix(".txt").write_text("0.9\t0.4\t0\t0\n")
    del tiny_archive.diagnoses["209"]
    del tiny_archive.sides["210_1b1_Tc_sc_Nokia"]
    wav["211"].unlink()
    wav["212"].unlink()
    wav["212"].symlink_to(outside)
    for patient, diagnosis in (("213", "COPD"), ("214", "Healthy")):
        tiny_archive.add(wav[patient].stem, sound, "train")
        tiny_archive.diagnoses[patient] = diagnosis
    twin = tiny_archive.add("215_1b1_Tc_sc_Meditron", tone(5), "train")
    twin.write_bytes(good)  # an exact duplicate with the same label is usable
    usable.add(twin.stem)
    tiny_archive.save()

    facts = materialise("recordings")["recordings"].facts
    assert refused(here) == {name: reason for name, (reason, _) in planted.items()}
    assert names(here) == usable
    reasons = Counter(reason for reason, _ in planted.values())
    assert facts["recordings"] == len(usable) and facts["quarantined"] == len(planted)
    assert facts["quarantine_by_reason"] == dict(reasons)
    table = store.read_table(here.quarantine).to_pylist()
    detail = {Path(r["name"]).name: r["detail"] for r in table}
    assert "Flu" in detail["207_1b1_Tc_sc_Meditron.wav"]
    assert "outside the archive" in detail["212_1b1_Tc_sc_Meditron.wav"]
    assert "214_1b1" in detail["213_1b1_Tc_sc_Meditron.wav"]
    assert all(r["meaning"] for r in table)


def test_unchanged_is_skipped_and_parts_serve_the_right_sound(
    tiny_archive: TinyIcbhi,
    materialise: Materialise,
    here: layout.Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "RECORDINGS_PER_PART", 4)
    first = materialise("recordings")["recordings"]
    assert not first.skipped and first.facts["parts_made"] > 2
    again = materialise("recordings", workers=2)["recordings"]
    assert again.skipped and (again.version, again.facts) == (first.version, first.facts)
    for native_id, flac in flacs(here).items():
        path = here.folder / "one.flac"
        path.write_bytes(flac)
        ours = parts.audio.normalise(path).audio_sha256
        assert ours == parts.audio.normalise(tiny_archive.wav(native_id)).audio_sha256


def test_two_processes_give_the_same_tables_as_one(
    materialise: Materialise, here: layout.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "RECORDINGS_PER_PART", 4)
    one = materialise("recordings")["recordings"]
    sounds = flacs(here)
    two = materialise("recordings", data_root=tmp_path / "other", workers=2)["recordings"]
    assert (two.version, two.facts) == (one.version, one.facts)
    assert flacs(layout.Dataset(tmp_path / "other", "icbhi")) == sounds


def test_only_the_part_of_a_touched_file_is_redone(
    tiny_archive: TinyIcbhi,
    materialise: Materialise,
    here: layout.Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "RECORDINGS_PER_PART", 4)
    before = materialise("recordings")["recordings"]
    kept = {p.name for p in here.parts.iterdir()}
    tiny_archive.add("103_1b1_Tc_sc_Meditron", tone(777), "train")
    after = materialise("recordings")["recordings"]
    assert before.facts["parts_made"] > 2 and after.facts["parts_made"] == 1
    assert after.version != before.version and not after.skipped
    now = {p.name for p in here.parts.iterdir()}
    assert len(now) == len(kept) and len(kept - now) == 2  # its tar and its parquet
    assert len(flacs(here)) == 16


def test_a_metadata_edit_redoes_no_part(
    tiny_archive: TinyIcbhi, materialise: Materialise, here: layout.Dataset
) -> None:
    materialise("recordings")
    tiny_archive.people["101"] = ("70", "M", "NA", "NA", "NA")
    tiny_archive.save()
    after = materialise("recordings")["recordings"]
    assert not after.skipped and after.facts["parts_made"] == 0
    rows = store.read_table(here.recordings).to_pylist()
    assert '"age": 70.0' in next(r["findings"] for r in rows if r["person"] == "101")


def test_a_lost_tar_is_made_again(
    tiny_archive: TinyIcbhi, materialise: Materialise, here: layout.Dataset
) -> None:
    materialise("recordings")
    next(here.parts.glob("*.tar")).unlink()
    tiny_archive.people["101"] = ("70", "M", "NA", "NA", "NA")
    tiny_archive.save()
    assert materialise("recordings")["recordings"].facts["parts_made"] == 1
    assert len(flacs(here)) == 16


def test_a_moved_archive_is_read_where_it_is(
    tiny_archive: TinyIcbhi, materialise: Materialise, here: layout.Dataset, tmp_path: Path
) -> None:
    """Same names, sizes and times elsewhere: the record must not point at the old folder."""
    first = materialise("recordings")["recordings"]
    moved = tmp_path / "moved"
    (tmp_path / "archives").rename(moved)
    found = materialise("recordings", archives=str(moved))
    assert found["archive"].facts["root"] == str(moved / "icbhi")
    assert found["recordings"].skipped and found["recordings"].version == first.version


def test_a_missing_label_contradicts_nothing(
    tiny_archive: TinyIcbhi,
    materialise: Materialise,
    here: layout.Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same sound twice, once without a diagnosis: both stay, and are later one person."""
    for patient in ("213", "214"):
        tiny_archive.add(f"{patient}_1b1_Tc_sc_Meditron", tone(333), "train")
    tiny_archive.save()
    read = reader.read

    def forgetful(root: Path) -> Iterator[Recording | Rejected]:
        for row in read(root):
            if isinstance(row, Recording) and row.person == "214":
                del row.findings["diagnosis"]
            yield row

    monkeypatch.setattr(reader, "read", forgetful)
    assert materialise("recordings")["recordings"].facts["quarantined"] == 0


def test_an_empty_folder_names_the_dataset(
    tiny_archive: TinyIcbhi, materialise: Materialise
) -> None:
    for path in sorted(tiny_archive.root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(archive.ArchiveError, match=r"icbhi.*missing or empty.*ACULA_DATASETS"):
        materialise("archive")


def test_an_archive_without_usable_sound_says_why(
    tiny_archive: TinyIcbhi, materialise: Materialise
) -> None:
    for wav in tiny_archive.root.rglob("*.wav"):
        wav.write_bytes(b"")
    with pytest.raises(recordings.EmptyDataset, match=r"icbhi: no usable.*'empty_file': 16"):
        materialise("recordings")


def test_metadata_without_any_audio_are_counted_and_go_on(
    tiny_archive: TinyIcbhi, materialise: Materialise
) -> None:
    for wav in tiny_archive.root.rglob("*.wav"):
        wav.unlink()
    made = materialise("reports")
    assert made["recordings"].facts["quarantine_by_reason"] == {"no_audio_file": 16}
    assert made["recordings"].facts["recordings"] == made["reports"].facts["reports"] == 0


def test_a_run_killed_between_tar_and_table_is_repaired(
    materialise: Materialise, here: layout.Dataset
) -> None:
    whole = materialise("recordings")["recordings"]
    sounds = flacs(here)
    tar = next(here.parts.glob("*.tar"))
    tar.with_suffix(".parquet").unlink()
    tar.write_bytes(tar.read_bytes()[:3000])
    here.recordings_stamp.unlink()
    for stray in (f".{tar.name}.unfinished-1", "0123456789abcdef.tar"):
        (here.parts / stray).write_bytes(b"half")
    repaired = materialise("recordings")["recordings"]
    assert repaired.version == whole.version and repaired.facts["parts_made"] == 1
    assert flacs(here) == sounds
    assert sorted(p.suffix for p in here.parts.iterdir()) == [".parquet", ".tar"]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_raised_as_it_is_and_leaves_the_old_table(
    tiny_archive: TinyIcbhi,
    materialise: Materialise,
    here: layout.Dataset,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    """No space for a part in this process; a file that cannot be read in a worker."""
    monkeypatch.setattr(parts, "RECORDINGS_PER_PART", 4)
    materialise("recordings")
    old = here.recordings.read_bytes()
    for wav in tiny_archive.root.rglob("*.wav"):
        os.utime(wav, ns=(0, 0))  # all parts are due
    if workers == 1:

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(parts.pq, "write_table", full)
        expected = r"data/icbhi/parts: the disk is full \(\d+ MB free\)\. .* ACULA_DATA_ROOT"
    else:
        unreadable = tiny_archive.wav("103_1b1_Tc_sc_Meditron")
        unreadable.unlink()
        unreadable.mkdir()
        expected = r"\[Errno 21\] Is a directory.*103_1b1"
    with pytest.raises(OSError, match=expected):
        materialise("recordings", workers=workers)
    assert here.recordings.read_bytes() == old
    assert not list(here.folder.rglob("*unfinished*"))
    with pytest.raises(FileNotFoundError, match="materialize"):
        store.version_at(here.recordings_stamp)  # and nothing downstream takes it for current
