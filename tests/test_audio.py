"""normalise(): levels, rates and hashes against oracles; every kind of bad file by its reason."""

import io
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.records import REASONS
from pipeline.steps import audio
from pipeline.steps.audio import SAMPLE_RATE, BadAudio, Normalised, normalise

Sound = npt.NDArray[Any]
_names = itertools.count()


def hum(rate: int = SAMPLE_RATE, seconds: float = 1.0) -> Sound:
    """Three partials below 2 kHz and some noise, peak near 0.5."""
    t = np.arange(round(rate * seconds)) / rate
    partials = sum(np.sin(2 * np.pi * hz * t) for hz in (110.0, 440.0, 1700.0))
    return 0.15 * partials + 0.01 * np.random.default_rng(rate).standard_normal(len(t))


def encoded(sound: Sound, rate: int, container: str = "WAV", subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound, rate, format=container, subtype=subtype)
    return file.getvalue()


def compressed(sound: Sound, rate: int, container: str, codec: str = "libopus") -> bytes:
    """[samples] or [samples, channels] through FFmpeg."""
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        layout = "mono" if channels == 1 else "stereo"
        stream: Any = out.add_stream(codec, rate=rate, layout=layout)
        packed = sound.astype(np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audio")


def heard(folder: Path, content: bytes, suffix: str = ".wav") -> tuple[Normalised, Sound]:
    path = folder / f"{next(_names)}{suffix}"
    path.write_bytes(content)
    found = normalise(path)
    samples, rate = soundfile.read(io.BytesIO(found.flac), dtype="int16")
    assert rate == SAMPLE_RATE and samples.ndim == 1
    return found, samples


def refused(folder: Path, content: bytes, suffix: str = ".wav") -> str:
    with pytest.raises(BadAudio) as error:
        heard(folder, content, suffix)
    assert error.value.reason in REASONS
    return error.value.reason


def level_db(samples: Sound) -> float:
    return 20 * np.log10(np.sqrt(np.mean(np.square(samples, dtype=np.float64))) / 32768)


def test_16_khz_16_bit_passes_bit_exact(folder: Path) -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32768, SAMPLE_RATE, dtype=np.int16)
    pcm[:2] = -32768, 32767
    found, samples = heard(folder, encoded(pcm, SAMPLE_RATE))
    assert np.array_equal(samples, pcm)
    assert (found.native_rate, found.native_channels, found.duration_s) == (SAMPLE_RATE, 1, 1.0)
    assert found.peak == 1.0 and found.native_format == "WAV/PCM_16"


@pytest.mark.parametrize("subtype", ["PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_depth_is_rounded_to_16_bit(folder: Path, subtype: str) -> None:
    sound = hum()
    _, samples = heard(folder, encoded(sound, SAMPLE_RATE, subtype=subtype))
    assert np.abs(samples - sound * 32768).max() <= 0.51


def test_equal_sound_has_equal_hash_in_any_container(folder: Path) -> None:
    pcm = np.rint(hum() * 32768).astype(np.int16)
    hashes = {
        heard(folder, encoded(pcm, SAMPLE_RATE, kind, subtype), suffix)[0].audio_sha256
        for kind, subtype, suffix in (
            ("WAV", "PCM_16", ".wav"),
            ("WAV", "PCM_24", ".WAV"),
            ("FLAC", "PCM_16", ".flac"),
        )
    }
    assert len(hashes) == 1
    pcm[100] += 1
    assert heard(folder, encoded(pcm, SAMPLE_RATE))[0].audio_sha256 not in hashes


@pytest.mark.parametrize("rate", [4000, 8000, 10_000, 44_100, 48_000])
def test_resampling_equals_librosa_soxr_hq(folder: Path, rate: int) -> None:
    import librosa

    sound = hum(rate, 1.5)
    found, samples = heard(folder, encoded(sound, rate, subtype="FLOAT"))
    oracle = librosa.resample(
        sound.astype(np.float32), orig_sr=rate, target_sr=SAMPLE_RATE, res_type="soxr_hq"
    )
    assert len(samples) == len(oracle) and found.duration_s == 1.5
    assert np.abs(samples - oracle * 32768).max() <= 1


def test_stereo_is_averaged(folder: Path) -> None:
    sound = hum()
    _, samples = heard(folder, encoded(np.stack([sound, 0 * sound], 1), SAMPLE_RATE))
    assert np.abs(samples - sound * 16384).max() <= 1


@pytest.mark.parametrize("container", ["ogg", "webm"])
def test_opus_keeps_level_and_length(folder: Path, container: str) -> None:
    """FFmpeg's own down-mix of identical channels would be 3 dB too loud."""
    sound = hum(48_000, 2.0)
    _, reference = heard(folder, encoded(sound, 48_000))
    for channels in (1, 2):
        content = compressed(np.stack([sound] * channels, 1), 48_000, container)
        found, samples = heard(folder, content, f".{container}")
        assert level_db(samples) == pytest.approx(level_db(sound * 32768), abs=0.3)
        assert found.native_channels == channels and found.native_rate == 48_000
        assert found.duration_s == pytest.approx(2.0, abs=0.03)
        assert found.rms_dbfs == pytest.approx(level_db(samples), abs=0.02)
        short = min(len(samples), len(reference))
        assert np.corrcoef(samples[:short], reference[:short])[0, 1] > 0.98


def test_values_above_full_scale_are_clipped_not_wrapped(folder: Path) -> None:
    found, samples = heard(folder, encoded(4 * hum(), SAMPLE_RATE, subtype="FLOAT"))
    loud = 4 * hum()
    assert (samples[loud > 1] == 32767).all() and (samples[loud < -1] == -32768).all()
    assert found.clipped_fraction == pytest.approx((np.abs(loud) >= 0.999).mean(), abs=1e-5)


def test_unsigned_bytes_have_no_offset(folder: Path) -> None:
    """An 8-bit wav by another name goes through FFmpeg, which hands out 0..255."""
    _, samples = heard(folder, encoded(hum(), SAMPLE_RATE, subtype="PCM_U8"), ".mp3")
    assert np.abs(samples - hum() * 32768).max() <= 300


WAV = encoded(hum(), SAMPLE_RATE)
FLAC = encoded(hum(), SAMPLE_RATE, "FLAC")
OGG = compressed(hum(48_000, 3.0), 48_000, "ogg")
WEBM = compressed(hum(48_000, 3.0), 48_000, "webm")
MP3 = compressed(hum(44_100), 44_100, "mp3", "libmp3lame")


def flawed(value: float) -> bytes:
    sound = hum()
    sound[500] = value
    return encoded(sound, SAMPLE_RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    ("content", "suffix", "reason"),
    [
        (b"", ".wav", "empty_file"),
        (b"", ".webm", "empty_file"),
        (WAV[:44], ".wav", "header_only"),
        (encoded(hum()[:0], SAMPLE_RATE), ".wav", "header_only"),
        (WAV[:30], ".wav", "header_only"),
        (WAV[:-2], ".wav", "truncated"),
        (WAV[: len(WAV) // 2], ".wav", "truncated"),
        (OGG[: len(OGG) // 2], ".ogg", "truncated"),
        (OGG[:-5], ".ogg", "truncated"),
        (WEBM[: len(WEBM) // 2], ".webm", "truncated"),
        (encoded(0 * hum(), SAMPLE_RATE), ".wav", "silent"),
        (encoded(5e-5 * hum(), SAMPLE_RATE, subtype="PCM_24"), ".wav", "silent"),
        (encoded(np.stack([hum(), -hum()], 1), SAMPLE_RATE), ".wav", "silent"),
        (encoded(hum(seconds=0.3), SAMPLE_RATE), ".wav", "too_short"),
        (b"0.036\t0.579\t0\t0\r\n" * 40, ".wav", "undecodable"),
        (b"<html>404</html>", ".webm", "undecodable"),
        (flawed(np.nan), ".wav", "undecodable"),
        (flawed(np.inf), ".wav", "undecodable"),
        (flawed(3e38), ".wav", "undecodable"),
        (FLAC[: len(FLAC) // 2], ".flac", "undecodable"),
        (WEBM.replace(b"A_OPUS", b"A_XPUS"), ".webm", "undecodable"),
        (WAV[:24] + (1).to_bytes(4, "little") + WAV[28:], ".wav", "undecodable"),
    ],
)
def test_bad_files_have_their_reason(
    folder: Path, content: bytes, suffix: str, reason: str
) -> None:
    assert refused(folder, content, suffix) == reason


def test_a_cut_file_is_refused_each_time(folder: Path) -> None:
    """FFmpeg logs the same line only once in a row; the line is all that tells."""
    assert [refused(folder, WEBM[:-400], ".webm") for _ in range(3)] == ["truncated"] * 3


def test_length_of_a_stream_is_not_stated(folder: Path) -> None:
    """Writers that cannot seek leave the data size at its largest; that is no cut file."""
    at = WAV.index(b"data") + 4
    found, _ = heard(folder, WAV[:at] + b"\xff\xff\xff\xff" + WAV[at + 4 :])
    assert found.duration_s == 1.0


def test_chunks_before_the_samples_are_stepped_over(folder: Path) -> None:
    odd = b"LIST" + (3).to_bytes(4, "little") + b"abc\0"
    _, samples = heard(folder, WAV[:36] + odd + WAV[36:])
    assert np.array_equal(samples, heard(folder, WAV)[1])


def test_a_tag_in_latin_1_does_no_harm(folder: Path) -> None:
    found, _ = heard(folder, MP3.replace(b"Lavf", b"L\xe4vf"), ".mp3")
    assert found.native_rate == 44_100


# Total samples of the stream, 36 bits from the middle of byte 21 on: a header that promises
# 68 billion must not be believed before they are there.
BOASTFUL = FLAC[:21] + bytes([FLAC[21] | 0x0F]) + FLAC[22:]
SOUND = {".wav": WAV, ".flac": FLAC, ".ogg": OGG, ".webm": WEBM, ".mp3": MP3}


@settings(max_examples=250, deadline=None)
@given(
    kind=st.sampled_from([*SOUND, ".m4a", ".aiff"]),
    start=st.integers(0, 300),
    tail=st.binary(max_size=300),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8),
    keep_rest=st.booleans(),
)
@example(kind=".flac", start=len(BOASTFUL), tail=b"", edits=[], keep_rest=False)
def test_damage_never_raises_anything_else(
    folder: Path,
    kind: str,
    start: int,
    tail: bytes,
    edits: list[tuple[float, int]],
    keep_rest: bool,
) -> None:
    """A real beginning, any bytes, perhaps the real rest with some bytes changed."""
    whole = BOASTFUL if start == len(BOASTFUL) else SOUND.get(kind, b"")
    content = bytearray(whole[:start] + (whole[start:] if keep_rest else tail))
    for place, value in edits if content else ():
        content[int(place**3 * len(content))] = value  # most of them in the header
    path = folder / f"damaged{kind}"
    path.write_bytes(content)
    try:
        found = normalise(path)
    except BadAudio as error:
        assert error.reason in REASONS
    else:
        assert found.duration_s >= 0.5 and np.isfinite(found.rms_dbfs)


def test_the_same_version_makes_the_same_bytes(folder: Path) -> None:
    """Parts are kept by VERSION: who changes these hashes raises it, here or in decoding.

    Without resampling and lossy codecs, which may differ in the last bit between processors.
    """
    pcm = (np.arange(SAMPLE_RATE, dtype=np.int32) * 7919 % 20_001 - 10_000).astype(np.int32)
    both = np.stack([pcm, np.roll(pcm, 7)], 1)
    files = (
        encoded(pcm.astype(np.int16), SAMPLE_RATE),
        encoded(both.astype(np.int16), SAMPLE_RATE),
        encoded((both << 13) + 4321, SAMPLE_RATE, "FLAC", "PCM_24"),
    )
    found = [heard(folder, content)[0].audio_sha256[:16] for content in files]
    assert (audio.VERSION, found) == (
        1,
        ["572b470604c55966", "64bf447deb77f48d", "326b02081f358d9e"],
    )


@pytest.mark.parametrize("module", ["part_audio", "report_parts"])
def test_workers_start_light(module: str) -> None:
    """Each worker process imports this; torch alone would cost it seconds and 200 MiB."""
    code = (
        f"import sys, pipeline.pool, pipeline.steps.{module}\n"
        "heavy = {'torch', 'librosa', 'transformers', 'scipy', 'av', 'pyarrow', 'pandas'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)
