"""The front end equals librosa and the published front ends, and refuses what is no sound."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from acula_model import windowing
from acula_model.encoders.ast import ASTFrontEnd
from acula_model.encoders.clap import ClapFrontEnd
from acula_model.front_end import FrontEnd, MelFrontEnd, mel_filters

GOLDEN = Path(__file__).parents[2] / "shared" / "golden" / "opera"
golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden files in {GOLDEN}")
RULES = runpy.run_path(str(GOLDEN / "rules.py")) if GOLDEN.is_dir() else {}
CLIPS = ["sweep", "noise", "short", "long", "silent", "padded"]
OURS = MelFrontEnd()


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def librosa_log_mel(wave: np.ndarray) -> np.ndarray:
    """[T, M], as OPERA and the AcuLa release write it."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=wave, sr=16_000, n_fft=1_024, hop_length=512, n_mels=64, fmin=50, fmax=8_000
    )
    db = librosa.power_to_db(power, ref=np.max)
    spread = db.max() - db.min()
    return ((db - db.min()) / spread if spread else np.zeros_like(db)).T


@golden
@pytest.mark.parametrize("clip", CLIPS)
def test_acula_train_profile(clip: str):
    want = np.load(GOLDEN / "logmel_train.npz")[clip]
    got = MelFrontEnd(profile="acula-train").windows(RULES["waveforms"]()[clip])
    assert got.shape == (1, 256, 64)
    assert np.abs(got[0].numpy() - want).max() <= 1e-5


@golden
@pytest.mark.parametrize("clip", CLIPS)
def test_opera_eval_profile(clip: str):
    wave = RULES["waveforms"]()[clip]
    want = json.loads((GOLDEN / "logmel.json").read_text())[clip]
    start, end = want["trim_start_end"]
    assert np.array_equal(windowing.trim(wave), wave[start:end])
    got = MelFrontEnd(profile="opera-eval").windows(wave).numpy()
    assert [list(g.shape) for g in got] == want["eval_chunks"]["shapes"]
    assert np.allclose(got.mean((1, 2)), want["eval_chunks"]["means"], atol=1e-5)
    last = np.load(GOLDEN / "logmel_eval.npz")
    if f"{clip}__eval_last_chunk" in last:
        assert np.abs(got[-1] - last[f"{clip}__eval_last_chunk"]).max() <= 1e-5


@golden
@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(
    ("variant", "seconds", "fill"),
    [("8s_repeat", 8, "repeat"), ("8s_zero", 8, "zeros"), ("2s_repeat", 2, "repeat")],
)
def test_opera_eval_of_whole_clips(clip: str, variant: str, seconds: int, fill: windowing.Fill):
    wave = RULES["waveforms"]()[clip]
    want = json.loads((GOLDEN / "logmel.json").read_text())[clip][f"eval_entire_{variant}"]
    got = OURS.log_mel(windowing.opera_eval_whole(wave, seconds * 16_000, fill)[0])
    assert list(got.shape) == want["shape"]
    assert abs(got.double().mean().item() - want["mean"]) <= 1e-5
    if variant == "8s_repeat":  # 251 frames; what encoders of any length are evaluated with
        (window,) = MelFrontEnd(profile="opera-whole", frames=251).windows(wave)
        assert torch.equal(window, got)
    full = np.load(GOLDEN / "logmel_eval.npz")
    if (key := f"{clip}__eval_entire_{variant}") in full:
        assert np.abs(got.numpy() - full[key]).max() <= 1e-5


@pytest.mark.parametrize("kind", ["noise", "click", "tiny", "square", "tone", "silence", "short"])
def test_equals_librosa(kind: str):
    time = np.arange(OURS.window_samples) / 16_000
    click = np.zeros(OURS.window_samples)
    click[50_000] = 1
    waves = {
        "noise": noise(OURS.window_samples),
        "click": click,
        "tiny": 1e-7 * noise(OURS.window_samples),
        "square": np.sign(np.sin(time * 800)),
        "tone": np.sin(2 * np.pi * 437 * time),
        "silence": np.zeros(OURS.window_samples),
        "short": noise(1_100),
    }
    wave = waves[kind].astype(np.float32)
    assert np.abs(OURS.log_mel(wave).numpy() - librosa_log_mel(wave)).max() <= 1e-5


def test_mel_filters_are_slaneys():
    import librosa

    for low, high, bins in [(50.0, 8_000.0, 64), (0.0, 8_000.0, 128), (20.0, 900.0, 20)]:
        got = mel_filters(MelFrontEnd(f_min=low, f_max=high, n_mels=bins))
        want = librosa.filters.mel(sr=16_000, n_fft=1_024, n_mels=bins, fmin=low, fmax=high)
        assert np.abs(got - want).max() <= 1e-7


def test_values_fill_zero_to_one_and_silence_is_zero():
    mel = OURS.log_mel(noise(OURS.window_samples))
    assert mel.dtype == torch.float32
    assert (mel.min(), mel.max()) == (0, 1)
    assert not OURS.windows(np.zeros(1_000, np.float32)).any()


@pytest.mark.parametrize(
    ("windows_long", "count"),
    [(0.01, 1), (0.9, 1), (1.0, 1), (1.2, 1), (1.26, 2), (2.0, 2), (3.3, 4)],
)
def test_a_rest_is_kept_from_a_quarter_window(windows_long: float, count: int):
    wave = noise(round(windows_long * OURS.window_samples))
    assert OURS.windows(wave).shape == (count, 256, 64)


@given(
    frames=st.integers(1, 300),
    longer=st.floats(1, 40),
    overlap=st.floats(0, 0.99, exclude_max=True),
)
@settings(max_examples=300)
def test_windows_hear_the_recording_to_its_end(frames: int, longer: float, overlap: float):
    total = int(frames * longer)
    starts = windowing.starts(total, frames, overlap)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert np.diff(starts).max(initial=0) <= frames  # nothing between two windows is left out
    heard = starts[-1] + frames
    assert heard <= total
    assert total - heard < windowing.SHORTEST_REST * frames


def test_a_last_window_ends_with_the_recording():
    assert windowing.starts(512, 256) == [0, 256]
    assert windowing.starts(512 + 63, 256) == [0, 256]
    assert windowing.starts(512 + 64, 256) == [0, 256, 320]
    assert windowing.starts(600, 200, overlap=0.5) == [0, 100, 200, 300, 400]


FRONT_ENDS = [OURS, MelFrontEnd(overlap=0.5), ASTFrontEnd(), ClapFrontEnd()]
PUBLISHED = [
    MelFrontEnd(profile="acula-train"), MelFrontEnd(profile="opera-eval"),
    MelFrontEnd(profile="opera-whole", frames=251), ASTFrontEnd(profile="published"),
    ClapFrontEnd(profile="published"),
]  # fmt: skip


@pytest.mark.parametrize("front_end", FRONT_ENDS + PUBLISHED, ids=lambda f: f"{f.key}-{f.profile}")
@given(seconds=st.floats(0, 60), level=st.sampled_from([0.0, 1e-9, 1e-3, 1.0]))
@example(seconds=0.0, level=1.0)
@example(seconds=60.0, level=1.0)
@settings(max_examples=6, deadline=None)
def test_any_length_becomes_windows(front_end: FrontEnd, seconds: float, level: float):
    wave = level * noise(max(1, int(seconds * front_end.sample_rate)))
    raw_KTM = front_end.spectrum(wave)
    total = raw_KTM.shape[1]
    if front_end.cuts:
        assert raw_KTM.shape[0] == 1
        assert total == front_end.total(len(wave)) >= front_end.frames
    cut = front_end.windows(wave)
    length = total if not front_end.one_length else front_end.frames
    assert cut.shape == (
        len(raw_KTM) * len(front_end.starts(total)), length, front_end.n_mels,
    )  # fmt: skip
    assert cut.dtype == torch.float32
    assert torch.isfinite(cut).all()
    assert raw_KTM.min() >= front_end.floor - 1e-3


@pytest.mark.parametrize("front_end", FRONT_ENDS, ids=lambda f: f"{f.key}-{f.profile}")
@given(place=st.floats(0, 1), seconds=st.floats(11, 25))
@example(place=0.0, seconds=12.0)
@example(place=1.0, seconds=12.345)
@settings(max_examples=8, deadline=None)
def test_an_excerpt_is_a_part_of_the_whole(front_end: FrontEnd, place: float, seconds: float):
    wave = noise(int(seconds * front_end.sample_rate))
    (whole_TM,) = front_end.spectrum(wave)
    first = int(place * (len(whole_TM) - front_end.frames))
    start, stop = front_end.heard(first, front_end.frames)
    before, after = max(0, -start), max(0, stop - len(wave))
    part_TM = front_end.excerpt(wave[start + before : stop - after], before, after)
    want_TM = whole_TM[first : first + front_end.frames]
    assert (part_TM - want_TM).abs().max() <= 1e-4


@pytest.mark.parametrize("front_end", FRONT_ENDS + PUBLISHED, ids=lambda f: f"{f.key}-{f.profile}")
def test_a_window_is_normalised_by_itself(front_end: FrontEnd):
    raw_BTM = front_end.floor + 50 * torch.rand(3, 20, front_end.n_mels)
    raw_BTM[1] *= 0.3
    raw_BTM[2] = front_end.floor
    before = raw_BTM.clone()
    together = front_end.normalise(raw_BTM)
    alone = torch.cat([front_end.normalise(one[None]) for one in raw_BTM])
    assert torch.equal(together, alone)
    assert torch.equal(raw_BTM, before)
    if isinstance(front_end, MelFrontEnd):
        assert together.amin((1, 2)).tolist() == [0, 0, 0]
        assert together.amax((1, 2)).tolist() == [1, 1, 0]


def test_filters_say_where_a_bin_listens():
    for front_end in FRONT_ENDS:
        hz = np.linspace(0, front_end.sample_rate / 2, front_end.n_fft // 2 + 1)
        tone = np.sin(2 * np.pi * 1_000 * np.arange(front_end.sample_rate) / front_end.sample_rate)
        loudest = front_end.log_mel(tone).mean(0).argmax()
        assert abs(np.average(hz, weights=front_end.filters()[loudest]) - 1_000) < 40


def test_key_changes_with_every_setting_and_is_the_same_in_another_process():
    changed = [
        {"sample_rate": 22_050}, {"n_fft": 2_048}, {"hop": 256}, {"n_mels": 80}, {"f_min": 20.0},
        {"f_max": 4_000.0}, {"frames": 128}, {"top_db": 60.0}, {"profile": "acula-train"},
        {"overlap": 0.5},
    ]  # fmt: skip
    keys = {MelFrontEnd(**values).key for values in changed}
    assert len(keys | {OURS.key}) == len(changed) + 1
    code = (
        "import sys; from acula_model.front_end import MelFrontEnd as M; print(M().key);"
        "assert not {'torch', 'librosa'} & sys.modules.keys()"
    )
    root = Path(__file__).parents[1]
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == OURS.key


@pytest.mark.parametrize(
    ("wave", "reason"),
    [
        (np.zeros((2, 100), np.float32), "mono"),
        (np.zeros(100, np.int16), "floating point"),
        (np.zeros(0, np.float32), "empty"),
        (np.array([0.0, np.nan], np.float32), "finite"),
    ],
)
def test_what_is_no_sound_is_refused(wave: np.ndarray, reason: str):
    with pytest.raises(ValueError, match=reason):
        OURS.windows(wave)
    with pytest.raises(ValueError, match=reason):
        OURS.spectrum(wave)
    with pytest.raises(ValueError, match=reason):
        OURS.log_mel(wave)


@pytest.mark.parametrize(
    "values",
    [{"f_max": 9_000.0}, {"overlap": 1.0}, {"profile": "acula-train", "frames": 128},
     {"profile": "no such"}],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(values: dict):
    with pytest.raises(ValueError):
        MelFrontEnd(**values)
