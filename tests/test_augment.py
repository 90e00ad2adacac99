"""Augmentation: off is off, a clip's change is its seed's, and each does what it says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from acula_model.augment import Augment
from acula_model.encoders.ast import ASTFrontEnd
from acula_model.encoders.clap import ClapFrontEnd
from acula_model.front_end import FrontEnd, MelFrontEnd

OURS = MelFrontEnd()
FRONT_ENDS = [OURS, ASTFrontEnd(), ClapFrontEnd()]
by_front_end = pytest.mark.parametrize("front_end", FRONT_ENDS, ids=lambda f: type(f).__name__)
EVERYTHING = Augment(
    gain=0.5, noise=0.5, low_pass=0.5, high_pass=0.5, time_masks=2, mel_masks=2
)  # fmt: skip
SEEDS = torch.from_numpy(np.random.default_rng(1).integers(-(2**62), 2**62, 24))


def raw(front_end: FrontEnd, clips: int = 24) -> torch.Tensor:
    """Windows well above the floor, in a front end's units."""
    made = torch.randn(clips, 64, front_end.n_mels, generator=torch.Generator().manual_seed(0))
    return 5 * made * front_end.decibel


def power(raw_BTM: torch.Tensor, front_end: FrontEnd) -> torch.Tensor:
    return 10 ** (raw_BTM.double() / front_end.decibel / 10)


def hertz(front_end: FrontEnd) -> np.ndarray:
    """Of bins that hear anything; NaN for the empty ones of AST."""
    filters = front_end.filters()
    hz = np.linspace(0, front_end.sample_rate / 2, filters.shape[1])
    with np.errstate(invalid="ignore"):
        return filters @ hz / filters.sum(1)


@by_front_end
def test_off_is_off(front_end: FrontEnd):
    raw_BTM = raw(front_end)
    assert Augment.none(raw_BTM, SEEDS, front_end) is raw_BTM
    assert Augment() == Augment.none
    never = Augment(gain=1e-9, noise=1e-9, low_pass=1e-9, high_pass=1e-9)
    assert torch.equal(never(raw_BTM, SEEDS, front_end), raw_BTM)


@by_front_end
def test_a_clips_change_is_its_seeds_in_any_batch(front_end: FrontEnd):
    raw_BTM = raw(front_end)
    before = raw_BTM.clone()
    together = EVERYTHING(raw_BTM, SEEDS, front_end)
    assert torch.equal(raw_BTM, before)
    assert torch.isfinite(together).all()
    parts = [EVERYTHING(raw_BTM[s], SEEDS[s], front_end) for s in (slice(0, 7), slice(7, 24))]
    assert torch.equal(torch.cat(parts), together)
    other = EVERYTHING(raw_BTM, SEEDS + 1, front_end)
    assert not any(torch.equal(a, b) for a, b in zip(together, other, strict=True))
    changed = (together != raw_BTM).any(-1).any(-1)
    assert changed.any()


@by_front_end
@pytest.mark.parametrize("name", ["low_pass", "high_pass"])
def test_a_filter_lowers_the_bands_beyond_its_cut_off(front_end: FrontEnd, name: str):
    settings = {name: 1.0, f"{name}_hz": (700.0, 900.0)}
    raw_BTM = raw(front_end)
    change_BTM = (Augment(**settings)(raw_BTM, SEEDS, front_end) - raw_BTM) / front_end.decibel
    assert change_BTM.max() <= 0
    assert (change_BTM - change_BTM[:, :1]).abs().max() < 1e-4  # the same at all times
    hz, change_BM = hertz(front_end), change_BTM[:, 0]
    kept, lost = hz < 150, hz > 3_600
    if name == "high_pass":
        kept, lost = hz > 4_200, hz < 175
    assert change_BM[:, torch.from_numpy(kept)].min() > -0.3
    assert change_BM[:, torch.from_numpy(lost)].max() < -12
    middle = int(np.nanargmin(np.abs(hz - 800)))
    assert (change_BM[:, middle] + 3).abs().max() < 1.5


@by_front_end
@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_noise_adds_the_power_that_was_asked_for(front_end: FrontEnd, snr_db: float):
    augment = Augment(noise=1.0, noise_snr_db=(snr_db, snr_db))
    raw_BTM = raw(front_end)
    before, after = (power(x, front_end) for x in (raw_BTM, augment(raw_BTM, SEEDS, front_end)))
    ratio_B = before.mean((1, 2)) / (after - before).mean((1, 2))
    assert (10 * ratio_B.log10() - snr_db).abs().max() < 0.05
    assert (after - before).min() >= -1e-5 * before.max()


def test_noise_looks_like_that_of_the_front_end():
    """White noise in silence: mean and fluctuation of bins as for a wave of white noise."""
    wave = 0.1 * np.random.default_rng(0).standard_normal(40 * 16_000)
    (real_TM,) = OURS.spectrum(wave)
    settings = Augment(noise=1.0, noise_snr_db=(-60.0, -60.0), noise_slope_db=(0.0, 0.0))
    (made_TM,) = settings(torch.full((1, 1_000, 64), -60.0), SEEDS[:1], OURS)
    mean_M = [10 * power(x, OURS).mean(0).log10() for x in (real_TM, made_TM)]
    shape_M = (mean_M[0] - mean_M[0].mean()) - (mean_M[1] - mean_M[1].mean())
    assert shape_M.abs().max() < 1.0
    spread_M = [x.std(0) for x in (real_TM, made_TM)]
    assert (spread_M[0] / spread_M[1]).log2().abs().max() < 0.6


def test_gain_moves_what_hears_levels_and_nothing_else():
    augment = Augment(gain=1.0, gain_db=(-6.0, 6.0))
    raw_BTM = raw(OURS)
    assert augment(raw_BTM, SEEDS, OURS) is raw_BTM
    for front_end in FRONT_ENDS[1:]:
        raw_BTM = raw(front_end)
        change_BTM = (augment(raw_BTM, SEEDS, front_end) - raw_BTM) / front_end.decibel
        change_B = change_BTM[:, 0, 0]
        assert (change_BTM - change_B[:, None, None]).abs().max() < 1e-4
        assert change_B.abs().max() <= 6 + 1e-4
        assert change_B.std() > 2


@by_front_end
def test_nothing_gets_quieter_than_digital_silence(front_end: FrontEnd):
    raw_BTM = torch.full((4, 30, front_end.n_mels), front_end.floor)
    augment = replace(EVERYTHING, low_pass=1.0, high_pass=1.0, gain=1.0, gain_db=(-9, -3), noise=0)
    assert torch.equal(augment(raw_BTM, SEEDS[:4], front_end), raw_BTM)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@by_front_end
def test_a_gpu_makes_the_same_changes(front_end: FrontEnd):
    want = EVERYTHING(raw(front_end), SEEDS, front_end)
    got = EVERYTHING(raw(front_end).cuda(), SEEDS.cuda(), front_end).cpu()
    assert (got - want).abs().max() <= 1e-2 * front_end.decibel


def test_masks_hide_stretches_of_the_sizes_asked_for_at_the_windows_own_floor():
    raw_BTM = raw(OURS).repeat(20, 1, 1)
    seed_B = torch.arange(len(raw_BTM)) * 1_234_567_891
    found = Augment(time_masks=1, time_width=10, mel_masks=1, mel_width=5)(raw_BTM, seed_B, OURS)
    low_B = raw_BTM.amin((1, 2), keepdim=True)
    assert torch.equal(found.amin((1, 2), keepdim=True), low_B)
    hidden_BTM = (found == low_B) & (raw_BTM != low_B)
    assert torch.equal(found[~hidden_BTM], raw_BTM[~hidden_BTM])
    late_BT, high_BM = hidden_BTM.float().mean(2) > 0.5, hidden_BTM.float().mean(1) > 0.5
    for hidden, widest in ((late_BT, 10), (high_BM, 5)):
        assert hidden.sum(1).max() == widest
        assert hidden.sum(1).min() == 0
        assert (hidden.int().diff(dim=1) == 1).sum(1).max() <= 1  # one stretch each
        assert hidden.any(0).all()  # anywhere
    # Where the loudest cell is not hidden, what is left is normalised as before.
    same_B = found.amax((1, 2)) == raw_BTM.amax((1, 2))
    assert same_B.float().mean() > 0.5
    left_BTM = ~hidden_BTM & same_B[:, None, None]
    assert torch.equal(OURS.normalise(found)[left_BTM], OURS.normalise(raw_BTM)[left_BTM])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"noise": 1.5}, "noise is a probability"), ({"gain_db": (3.0, 1.0)}, "from low to high"),
     ({"low_pass_hz": (0.0, 9.0)}, "above 0 Hz"), ({"time_masks": -1}, "time_masks counts"),
     ({"mel_width": -1}, "mel_width counts")],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(settings: dict, reason: str):
    with pytest.raises(ValueError, match=reason):
        Augment(**settings)
    assert Augment(gain_db=[-1.0, 1.0]) == Augment(gain_db=(-1.0, 1.0))  # as JSON has it
