"""Cached spectra and shards read at random: the same windows, on disk, at any batch and workers."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from acula_model import features, mels, shards, spectra
from acula_model.ahead import ahead
from acula_model.encoders.ast import ASTFrontEnd
from acula_model.encoders.base import AudioEncoder
from acula_model.encoders.clap import ClapFrontEnd
from acula_model.flac_source import FlacSource
from acula_model.front_end import FrontEnd, MelFrontEnd

OURS = MelFrontEnd()
PUBLISHED = [
    MelFrontEnd(profile="acula-train"), MelFrontEnd(profile="opera-eval"),
    MelFrontEnd(profile="opera-whole", frames=251),
]  # fmt: skip
FRONT_ENDS = [OURS, MelFrontEnd(overlap=0.5), *PUBLISHED, ASTFrontEnd(), ClapFrontEnd()]
by_front_end = pytest.mark.parametrize(
    "front_end", FRONT_ENDS, ids=lambda f: f"{type(f).__name__}-{f.profile}-{f.overlap}"
)
SECONDS = (0.4, 3.0, 8.16, 11.7, 27.3)


def sound(seconds: float, seed: int) -> np.ndarray:
    """Coloured noise that fades by 40 dB, as 16-bit samples."""
    r = np.random.default_rng(seed)
    wave = np.cumsum(r.standard_normal(int(seconds * 16_000))) + r.standard_normal()
    wave = np.diff(wave, prepend=0) + 0.05 * wave
    return (wave / np.abs(wave).max() * np.geomspace(0.5, 0.005, len(wave)) * 32_767).astype("<i2")


def pair(wave: np.ndarray, number: int, **said: object) -> shards.Pair:
    flac = io.BytesIO()
    soundfile.write(flac, wave, 16_000, format="FLAC")
    meta = {
        "pair_id": f"{number:016x}", "recording_id": f"d/{number}", "dataset": "d",
        "modality": "lung", "split": "train", "align": True, "audio_sha256": f"{number}",
        "full_hash": f"report {number}", "full_terms": ["wheeze", "crackle"], "full_text": "long",
    }  # fmt: skip
    return shards.Pair(flac=flac.getvalue(), meta=meta | said)


WAVES = {f"{n:016x}": sound(s, n) for n, s in enumerate(SECONDS)}
IDS = list(WAVES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards."""
    root = tmp_path_factory.mktemp("shards")
    pairs = [pair(wave, n) for n, wave in enumerate(WAVES.values())]
    shards.write(root / "a.tar", pairs[:2])
    shards.write(root / "b.tar", pairs[2:])
    return root


def load(folder: Path, front_end: FrontEnd, lines: list[str] | None = None) -> mels.Mels:
    say = (lambda line: None) if lines is None else lines.append
    return mels.load(folder, folder / "mels", front_end, say)


def float_wave(pair_id: str, rate: int) -> np.ndarray:
    return shards.wave(pair(WAVES[pair_id], 0).flac, pair_id, rate)


def grid(source: spectra.Source, pair_id: str) -> torch.Tensor:
    return source.front_end.normalise(source.grid([pair_id])[0].to("cpu"))


@by_front_end
def test_windows_from_the_cache_are_the_front_ends(front_end: FrontEnd, folder: Path):
    """Published ones within 1e-5; any other within half a step of its recording's range."""
    found = load(folder, front_end)
    for pair_id in IDS:
        wave = float_wave(pair_id, front_end.sample_rate)
        raw, _ = found.grid([pair_id])
        got, want = front_end.normalise(raw.to("cpu")), front_end.windows(wave)
        assert got.shape == want.shape
        if front_end in PUBLISHED:
            assert (got - want).abs().max() <= 1e-5
        raw_KTM = front_end.spectrum(wave)
        whole = spectra.Raw.of(raw_KTM, front_end.depth)
        kept = raw_KTM.maximum(raw_KTM.amax((1, 2), keepdim=True) - front_end.depth)
        off_K = (whole.to("cpu") - kept).abs().amax((1, 2))
        assert (off_K <= 0.5 * torch.from_numpy(whole.step_B) + 4e-5).all()
        if isinstance(front_end, MelFrontEnd | ClapFrontEnd):
            assert (whole.step_B <= 140 / 65_535).all()  # dB


def test_the_stated_error_holds_for_the_widest_range():
    """Full scale, then digital silence, then a window 60 dB down that still has its own 80 dB."""
    quiet = 1e-4 * noise(255 * 512)
    quiet[60_000:60_500] *= 30
    quiet[80_000:90_000] = 0
    loud = 0.9 * np.sign(sound(8, 1))
    wave = np.concatenate([loud, np.zeros(200 * 512), quiet]).astype(np.float32)
    raw_KTM = OURS.spectrum(wave)
    got = spectra.Raw.of(raw_KTM, OURS.depth).to("cpu")
    assert (got - raw_KTM).abs().max() <= 0.0011  # dB
    want = OURS.windows(wave[-len(quiet) :])[0]
    assert want[60_000 // 512].max() > want.mean() + 0.2
    assert (OURS.normalise(got[:, -256:])[0, 1:-1] - want[1:-1]).abs().max() <= 2e-5


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(samples)


@pytest.mark.parametrize(
    "front_end", [f for f in FRONT_ENDS if f.cuts], ids=lambda f: f"{type(f).__name__}-{f.overlap}"
)
def test_a_crop_is_what_its_own_samples_give(front_end: FrontEnd, folder: Path):
    """Apart from frames at its edges, which hear what is beside the crop and not zeros."""
    found, pair_id = load(folder, front_end), IDS[-1]
    wave = float_wave(pair_id, front_end.sample_rate)
    edge = -(-front_end.lead // front_end.hop)
    for seed in range(4):
        seed_B = np.array([seed])
        raw_TM = found.crops([pair_id], seed_B).to("cpu")[0]
        total = front_end.total(len(wave))
        _, first = spectra.place(float(spectra.draw(seed_B)[0]), 1, total, front_end.frames)
        own = wave[first * front_end.hop :][: front_end.window_samples]
        (want_TM,) = front_end.spectrum(own)
        off = (raw_TM - want_TM)[edge : front_end.frames - edge].abs().max()
        assert off <= 0.0011 * front_end.decibel + 1e-4


@by_front_end
def test_shards_alone_give_the_same_windows_at_any_number_of_workers(
    front_end: FrontEnd, folder: Path
):
    cached, seed_B = load(folder, front_end), np.arange(20) ** 7
    ids = [IDS[n % len(IDS)] for n in range(len(seed_B))]
    want = cached.crops(ids, seed_B)
    sources = [FlacSource(folder, front_end, workers) for workers in (0, 3)]
    assert all(source.meta == cached.meta for source in sources)
    none, three = (source.crops(ids, seed_B) for source in sources)
    assert np.array_equal(none.level_BTM, three.level_BTM)
    assert np.array_equal(none.step_B, three.step_B)
    steps = torch.from_numpy(want.step_B + none.step_B)[:, None, None]
    if front_end.one_length:  # a crop of a whole published one keeps 80 dB below another top
        assert ((none.to("cpu") - want.to("cpu")).abs() <= 0.5 * steps + 1e-4).all()
    for pair_id in IDS:
        for source in sources:
            assert torch.equal(grid(source, pair_id), grid(cached, pair_id))


def test_windows_depend_on_the_seed_alone_and_reach_every_place(folder: Path):
    found, seed_B = load(folder, OURS), np.arange(20) * 987_654_321_987
    ids = [IDS[n % len(IDS)] for n in range(len(seed_B))]
    together = found.crops(ids, seed_B).to("cpu")
    alone = [found.crops([i], seed_B[n : n + 1]).to("cpu") for n, i in enumerate(ids)]
    assert torch.equal(together, torch.cat(alone))
    total, wanted = 60, 50
    shares = spectra.draw(np.random.default_rng(0).integers(-(2**62), 2**62, 4_000))
    drawn = [spectra.place(float(s), 3, total, wanted) for s in shares]
    counts = np.zeros((3, total - wanted + 1))
    np.add.at(counts, tuple(np.array(drawn).T), 1)
    expected = counts.sum() / counts.size
    assert ((counts - expected) ** 2 / expected).sum() < 63  # chi-square, 32 degrees, p = 0.001


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_windows_are_the_same_on_a_gpu(folder: Path):
    raw = load(folder, OURS).crops(IDS, np.arange(len(IDS)))
    want = OURS.normalise(raw.to("cpu"))
    assert (OURS.normalise(raw.to("cuda")).cpu() - want).abs().max() <= 1e-6


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 9), st.integers(1, 99), st.integers(0, 99))
def test_a_place_is_always_inside(share: float, windows: int, frames: int, more: int):
    window, first = spectra.place(share, windows, frames + more, frames)
    assert 0 <= window < windows
    assert 0 <= first <= more


def test_a_changed_report_touches_no_audio(tmp_path: Path):
    lines: list[str] = []
    for text in ("one report", "another report"):
        shards.write(tmp_path / "a.tar", [pair(WAVES[IDS[0]], 0, full_hash=text)])
        found = load(tmp_path, OURS, lines)
        assert found.meta[IDS[0]]["full_hash"] == text
    assert len(lines) == 1
    assert found.meta[IDS[0]]["full_terms"] == ("wheeze", "crackle")
    assert "full_text" not in found.meta[IDS[0]]
    shards.write(tmp_path / "a.tar", [pair(WAVES[IDS[1]], 0, audio_sha256="other")])
    load(tmp_path, OURS, lines)
    assert len(lines) == 2


def test_what_cannot_be_read_is_computed_again(folder: Path, tmp_path: Path):
    def fresh() -> list[str]:
        lines: list[str] = []
        found = mels.load(folder, tmp_path, OURS, lines.append)
        assert torch.equal(grid(found, IDS[0]), want)
        assert not list(tmp_path.rglob(".*"))
        return [line.partition(" in ")[0] for line in lines]  # how long it took is not told here

    want = grid(load(folder, OURS), IDS[0])
    assert fresh() == ["log-mels: 2 of 2 tars"]
    assert fresh() == []
    array, index = sorted(tmp_path.rglob("*.npy"))[0], sorted(tmp_path.rglob("*.json"))[0]
    for path in (array, index):
        whole = path.read_bytes()
        for damaged in (whole[: len(whole) // 2], b"", b"[1, 2]", None):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            assert fresh() == ["log-mels: 1 of 1 tars"]
            assert path.read_bytes() == whole
    rows = json.loads(index.read_text())
    rows.popitem()
    index.write_text(json.dumps(rows))
    assert fresh() == ["log-mels: 1 of 1 tars"]


def test_no_file_stays_open(folder: Path):
    opened = Path("/proc/self/fd")
    if not opened.is_dir():
        pytest.skip("only Linux tells which files a process has open")
    load(folder, OURS)
    held = [load(folder, OURS) for _ in range(3)]
    names = [str(link.resolve()) for link in opened.iterdir()]
    assert len(held) == 3
    assert not any(name.endswith(".npy") for name in names)


def test_a_killed_computation_leaves_nothing_that_is_taken_for_whole(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    of, calls = spectra.Raw.of, []

    def stops(*args: object) -> spectra.Raw:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return of(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(spectra.Raw, "of", stops)
    with pytest.raises(KeyboardInterrupt):
        mels.load(folder, tmp_path, OURS)
    assert not list(tmp_path.rglob("*.npy"))
    monkeypatch.undo()
    assert torch.equal(
        grid(mels.load(folder, tmp_path, OURS), IDS[0]), grid(load(folder, OURS), IDS[0])
    )


def test_a_pair_without_sound_is_named(tmp_path: Path):
    shards.write(tmp_path / "a.tar", [pair(np.zeros(16_000, "<i2"), 5)])
    with pytest.raises(ValueError, match="0000000000000005: the wave is silent"):
        load(tmp_path, OURS)
    cut = pair(WAVES[IDS[3]], 6)
    shards.write(tmp_path / "a.tar", [shards.Pair(flac=cut.flac[:9_000], meta=cut.meta)])
    with pytest.raises(ValueError, match="0000000000000006: "):
        load(tmp_path, OURS)
    with pytest.raises(ValueError, match="0000000000000006: "):
        FlacSource(tmp_path, OURS).crops([cut.pair_id], np.array([3]))


def test_a_stream_is_worked_on_in_order_and_never_held_whole():
    read: list[int] = []

    def items():
        for n in range(50):
            read.append(n)
            yield n

    with ThreadPoolExecutor(3) as pool:
        for taken, made in enumerate(ahead(pool, lambda n: n * n, items(), 4)):
            assert made == taken**2
            assert len(read) <= taken + 5


class Loudness(AudioEncoder):
    """The least that is an encoder: the deviation of each bin."""

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.name, self.front_end, self.width = "loudness", front_end, front_end.n_mels
        self.scale = torch.nn.Parameter(torch.ones(()))

    def embed(self, mel_BTM: torch.Tensor) -> torch.Tensor:
        return self.scale * mel_BTM.std(1)

    def self_supervised_loss(self, mel_BTM: torch.Tensor, seed_B: torch.Tensor) -> torch.Tensor:
        return self.embed(mel_BTM).sum()


@pytest.mark.parametrize("front_end", [OURS, PUBLISHED[1], PUBLISHED[2]], ids=lambda f: f.profile)
def test_embeddings_are_the_mean_over_windows_at_any_batch(front_end: FrontEnd, folder: Path):
    encoder = Loudness(front_end).eval()
    sources = (load(folder, front_end), FlacSource(folder, front_end, 2))
    with torch.no_grad():
        want = [encoder.embed(grid(sources[0], i)).mean(0).numpy() for i in IDS]
    for source in sources:
        for batch in (1, 3, 64):
            found = features.embed(encoder, source, IDS, batch)
            assert list(found) == IDS
            got = np.stack(list(found.values()))
            assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want)


def test_windows_of_different_lengths_do_not_fit_in_one_batch(folder: Path):
    for source in (load(folder, PUBLISHED[2]), FlacSource(folder, PUBLISHED[2])):
        with pytest.raises(ValueError, match="do not fit in one batch"):
            source.grid(IDS)
