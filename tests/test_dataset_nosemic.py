"""NoseMic: the reader on a sample archive and on hand-made names; no recording of it is public."""

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import worlds
from worlds import archive_of, bad_sound, digest, write_small

from pipeline.findings import resolve
from pipeline.manifest import FOLDER, load
from pipeline.readers import nosemic as reader
from pipeline.samples import nosemic as sample
from pipeline.steps import audio

MANIFEST = load(FOLDER / "nosemic.yaml")
rows = partial(worlds.rows, reader.read)
archive = archive_of(sample.write)


def test_sample_archive_is_deterministic(archive: Path, tmp_path: Path):
    assert digest(archive) == digest(write_small(sample.write, tmp_path))


def test_sample_archive_is_as_published(archive: Path):
    found, refused = rows(archive)
    users = (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 17, 18, 19, 20, 21)
    assert {r.person for r in found.values()} == {str(u) for u in users}
    assert {name: r.reason for name, r in refused.items()} == {
        "audio/.DS_Store": "bad_name", "audio/4_1_2_again_15.wav": "bad_name",
    }  # fmt: skip
    assert any("." in r.row["respiratory_rate"] for r in found.values())
    assert len(found) == 32
    for recording in found.values():
        said = resolve(MANIFEST, recording.findings)["respiratory_rate"]
        assert 8 < float(str(said.value)) < 35 and said.unit == "breaths per minute"
    assert sum(p.stat().st_size for p in archive.rglob("*.wav")) < 20e6
    assert not bad_sound(archive, dict(list(found.items())[:4]))


def heard_rate(path: Path) -> float:
    """The strongest rhythm of the loudness, two peaks a breath, in breaths per minute."""
    sound, rate = soundfile.read(io.BytesIO(audio.normalise(path).flac), dtype="float32")
    step = rate // 10
    loudness = np.log(np.abs(sound[: len(sound) // step * step]).reshape(-1, step).mean(1))
    strength = np.abs(np.fft.rfft((loudness - loudness.mean()) * np.hanning(len(loudness)), 8192))
    breaths = np.arange(8192 // 2 // 2) * 60 * 10 / 8192
    both = strength[: len(breaths)] + strength[: 2 * len(breaths) : 2]
    return float(breaths[np.argmax(np.where((breaths > 8) & (breaths < 45), both, 0))])


def test_the_rate_can_be_heard(archive: Path):
    found, _ = rows(archive)
    errors = [
        abs(heard_rate(archive / r.member) - float(str(r.findings["respiratory_rate"])))
        for r in list(found.values())[::2]
    ]
    assert np.median(errors) < 0.7


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("4_1_2_14.5.wav", 14.5),
        ("21_rest_a-b_15.wav", 15.0),
        ("04_1_2_9.25.wav", 9.25),
        ("4_1_2_14.5.1.wav", None),
        ("4_1_2_.5.wav", None),
        ("4_1_2_14,5.wav", None),
        ("4_1_2_-3.wav", None),
        ("4_1_14.5.wav", None),
        ("4_1_2_3_14.5.wav", None),
        ("P4_1_2_14.5.wav", None),
        ("4__2_14.5.wav", None),
        ("4_1_2_14.5", None),
        ("4_1_2_14.5.mp3", None),
        ("4_1_2_14.5.wav.part", None),
        ("._4_1_2_14.5.wav", None),
        (".DS_Store", None),
    ],
)
def test_names(tmp_path: Path, name: str, rate: float | None):
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / name).touch()
    found, refused = rows(tmp_path)
    if rate is None:
        assert not found and refused[f"audio/{name}"].reason == "bad_name"
        return
    (recording,) = found.values()
    assert recording.native_id == recording.case_id == name.removesuffix(".wav")
    assert recording.person == name.partition("_")[0].lstrip("0")
    assert (recording.modality, recording.findings) == ("breath", {"respiratory_rate": rate})
    user, x, y, label = name.removesuffix(".wav").split("_")
    assert recording.row == {"user": user, "x": x, "y": y, "respiratory_rate": label}


def test_what_else_cannot_be_used(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="audio/"):
        list(reader.read(tmp_path))
    (tmp_path / "audio" / "4_1_2_14.wav").mkdir(parents=True)
    (tmp_path / "audio" / "4_1_2_0.0.wav").touch()
    found, refused = rows(tmp_path)
    assert not found
    assert refused["audio/4_1_2_14.wav"].reason == "bad_name"
    assert refused["audio/4_1_2_0.0.wav"].reason == "bad_metadata"


def test_it_is_had_on_request_and_says_how():
    assert MANIFEST.access == "request" and not MANIFEST.files and MANIFEST.use == "probes"
    for part in ("drive.google.com", "<folder>/nosemic/audio", "14.5.wav", "reserved", "ask"):
        assert part in MANIFEST.instructions
