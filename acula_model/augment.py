"""Changes to spectra that leave what a report says true: filters, noise, level, hidden stretches.

They work on spectra before normalisation, in batches on the encoder's device, where they cost a
few passes over the windows instead of a second decoding. All randomness follows from a pair's
seed (``noise``), so it does not depend on the batch, the device's order or a resumed run.
"""

# B = windows, T = frames, M = mel bins

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from acula_model import noise
from acula_model.front_end import FrontEnd

STREAM = 20  # of ``noise``, the first of those used here
_CHOICES, _CELLS, _TIMES, _BINS = range(STREAM, STREAM + 4)
_LOUDEST_DB = 100.0  # of a cell before it is made louder; keeps a power finite in single precision

_STAGES = ("gain", "noise", "low_pass", "high_pass")

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is done to a window, in this order; nothing by default.

    Probabilities are per window; values are drawn uniformly from their ranges, frequencies
    uniformly in octaves.
    """

    none: ClassVar["Augment"]  # changes nothing

    gain: float = 0.0  # probability; no use where ``FrontEnd.hears_level`` is false
    gain_db: Range = (-12.0, 12.0)
    noise: float = 0.0  # probability of background noise
    noise_snr_db: Range = (5.0, 40.0)  # power of the window over that of the noise
    noise_slope_db: Range = (-6.0, 0.0)  # per octave: 0 is white, -3 pink, -6 brown
    low_pass: float = 0.0  # probability
    low_pass_hz: Range = (500.0, 4_000.0)  # cut-off, where power is halved
    high_pass: float = 0.0  # probability
    high_pass_hz: Range = (50.0, 500.0)
    time_masks: int = 0  # per window
    time_width: int = 30  # the widest, frames
    mel_masks: int = 0  # per window
    mel_width: int = 8  # the widest, bins

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        for name in ("gain", "noise", "low_pass", "high_pass"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability; {getattr(self, name)} is not in [0, 1]")
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                object.__setattr__(self, name, tuple(value))  # JSON has no tuples
                if not (len(value) == 2 and value[0] <= value[1]):
                    raise ValueError(f"{name} is a range from low to high; got {value}")
            elif isinstance(value, int) and value < 0:
                raise ValueError(f"{name} counts; it cannot be {value}")
        for name in ("low_pass_hz", "high_pass_hz"):
            if getattr(self, name)[0] <= 0:
                raise ValueError(f"{name} starts above 0 Hz; got {getattr(self, name)}")

    def __call__(self, raw_BTM: Tensor, seed_B: Tensor, front_end: FrontEnd) -> Tensor:
        """Change windows, each by its own seed.

        Args:
            raw_BTM: Windows of spectra before normalisation, float32, [B, T, M]; not changed.
            seed_B: int64, on the same device; see ``noise.seeds``.
            front_end: Whose spectra they are.

        Returns:
            float32, [B, T, M]; the input itself where nothing is switched on.
        """
        unit, bank = front_end.decibel, _bank(front_end).to(raw_BTM.device)
        chosen_B9 = noise.uniform(seed_B, (9,), _CHOICES)
        does: dict[str, Tensor] = {name: chosen_B9[:, n] for n, name in enumerate(_STAGES)}
        value: dict[str, Tensor] = {name: chosen_B9[:, 4 + n] for n, name in enumerate(_STAGES)}
        found = raw_BTM
        if self.gain and front_end.hears_level:
            change_B = unit * _within(value["gain"], self.gain_db) * (does["gain"] < self.gain)
            found = found + change_B[:, None, None]
        if self.noise:
            snr_B = _within(value["noise"], self.noise_snr_db)
            slope_B = _within(chosen_B9[:, 8], self.noise_slope_db)
            noisy = _with_noise(found / unit, seed_B, snr_B, slope_B, bank) * unit
            found = torch.where((does["noise"] < self.noise)[:, None, None], noisy, found)
        for name, sign in (("low_pass", 1), ("high_pass", -1)):
            if chance := getattr(self, name):
                low, high = torch.tensor(getattr(self, f"{name}_hz")).log2().tolist()
                # A processor's last bit of a power depends on the place in the batch: round it off.
                cut_B = torch.exp2(_within(value[name].double(), (low, high))).float()
                loss_BM = first_order_db(bank[0], cut_B, sign) * unit
                found = found + (loss_BM * (does[name] < chance)[:, None])[:, None]
        if found is not raw_BTM:
            # Nothing gets quieter than digital silence; what rounding has put below it stays.
            found = found.maximum(raw_BTM.clamp_max(front_end.floor))
        return self._masked(found, seed_B)

    def _masked(self, raw_BTM: Tensor, seed_B: Tensor) -> Tensor:
        """Hide stretches of time and bands, without the time warping of the source.

        They get the window's quietest cell: its normalisation does not change.

        Source: Park et al., "SpecAugment", 2019.
        """
        if not self.time_masks and not self.mel_masks:
            return raw_BTM
        _, frames, bins = raw_BTM.shape
        late_BT = _stretches(seed_B, self.time_masks, self.time_width, frames, _TIMES)
        high_BM = _stretches(seed_B, self.mel_masks, self.mel_width, bins, _BINS)
        hidden_BTM = late_BT[:, :, None] | high_BM[:, None]
        return torch.where(hidden_BTM, raw_BTM.amin((1, 2), keepdim=True), raw_BTM)


Augment.none = Augment()


def first_order_db(hz_M: Tensor, cut_B: Tensor, sign: int) -> Tensor:
    """[B, M] dB, at most 0, of a Butterworth filter of first order: 6 dB per octave.

    Args:
        hz_M: Frequencies, Hz.
        cut_B: Cut-offs, Hz, where power is halved.
        sign: 1 for a low-pass, -1 for a high-pass.
    """
    return -10 * torch.log10(1 + (hz_M / cut_B[:, None]) ** (2 * sign))


def _with_noise(
    db_BTM: Tensor, seed_B: Tensor, snr_B: Tensor, slope_B: Tensor, bank: Tensor
) -> Tensor:
    """Add noise in power, as independent sounds add.

    A cell of a mel spectrum averages few frequencies, each exponentially distributed for noise;
    it fluctuates like the gamma distribution of that mean, here a log-normal of the same variance.
    """
    hz_M, white_M, averaged_M = bank
    fluctuation_M = torch.log1p(1 / averaged_M).sqrt()
    cells_BTM = noise.normal(seed_B, db_BTM.shape[1:], _CELLS) * fluctuation_M
    octaves_M = torch.log2(hz_M / 1_000)
    colour_BM = white_M * 10 ** (slope_B[:, None] * octaves_M / 10)
    noise_BTM = cells_BTM.exp() * colour_BM[:, None]
    power_BTM = 10 ** (db_BTM.clamp_max(_LOUDEST_DB) / 10)
    wanted_B = power_BTM.mean((1, 2)) / 10 ** (snr_B / 10)
    scale_B = wanted_B / noise_BTM.mean((1, 2))
    return 10 * torch.log10(power_BTM + noise_BTM * scale_B[:, None, None])


def _stretches(seed_B: Tensor, count: int, widest: int, length: int, stream: int) -> Tensor:
    """Bool [B, length]: true in ``count`` stretches of 0 to ``widest`` places."""
    drawn_BC2 = noise.uniform(seed_B, (count, 2), stream)
    width_BC = (drawn_BC2[..., 0] * (min(widest, length) + 1)).floor()
    start_BC = (drawn_BC2[..., 1] * (length - width_BC + 1)).floor()
    at = torch.arange(length, device=seed_B.device)
    inside = (at >= start_BC[..., None]) & (at < (start_BC + width_BC)[..., None])
    return inside.any(1)


def _within(share_B: Tensor, limits: Range) -> Tensor:
    return limits[0] + share_B * (limits[1] - limits[0])


@lru_cache(maxsize=8)
def _bank(front_end: FrontEnd) -> Tensor:
    """float32 [3, M]: a bin's mean frequency in Hz, its power for white noise, and how many
    frequencies it averages."""
    mel_MF = torch.from_numpy(front_end.filters())
    hz_F = torch.linspace(0, front_end.sample_rate / 2, mel_MF.shape[1], dtype=torch.float64)
    white_M = mel_MF.sum(1)
    # Published AST has filters so narrow that they are empty: they hear nothing, nor any noise.
    hz_M = ((mel_MF @ hz_F) / white_M.clamp_min(1e-30)).clamp_min(front_end.f_min)
    averaged_M = (white_M.square() / mel_MF.square().sum(1).clamp_min(1e-30)).clamp_min(1)
    return torch.stack([hz_M, white_M, averaged_M]).float()
