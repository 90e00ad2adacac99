"""What loses nothing is converted; everything else is refused with its reason."""

import numpy as np
import pytest
import torch

from acula_model import waves

PCM = np.random.default_rng(0).integers(-20_000, 20_000, 1_600).astype(np.int16)
FLOAT = (PCM / 32_768).astype(np.float32)


@pytest.mark.parametrize(
    "samples",
    [FLOAT, FLOAT.astype(np.float64), FLOAT.astype(np.float64).tolist(), torch.from_numpy(FLOAT),
     PCM, PCM[:, None], FLOAT[:, None].repeat(2, axis=1)],
)  # fmt: skip
def test_the_same_sound_in_other_clothes(samples: object):
    found = waves.prepared(samples, 16_000, 16_000)  # pyright: ignore[reportArgumentType]
    assert found.dtype == np.float32
    assert np.array_equal(found, FLOAT)


def test_a_lower_rate_is_raised():
    time = np.arange(4_000) / 4_000
    found = waves.prepared(np.sin(2 * np.pi * 100 * time), 4_000, 48_000)
    want = np.sin(2 * np.pi * 100 * np.arange(48_000) / 48_000)
    assert found.dtype == np.float32
    assert found.shape == want.shape
    assert np.abs(found - want)[2_000:-2_000].max() < 1e-3  # but for the ends


@pytest.mark.parametrize(
    ("samples", "rate", "reason"),
    [
        (FLOAT[:0], 16_000, "empty"),
        (np.full(9, np.nan), 16_000, "not finite"),
        (np.array([[np.nan, np.nan], [0, 0]]), 16_000, "not finite"),
        (np.array([0.0, np.inf]), 16_000, "not finite"),
        (np.zeros(9), 16_000, "silent"),
        (np.full(9, 0.5), 16_000, "silent"),
        (FLOAT.reshape(-1, 2), 16_000, "two channels that differ"),
        (FLOAT.reshape(2, -1), 16_000, "mono"),
        (PCM.astype(np.int32), 16_000, "floating point"),
        (PCM.astype(np.float32), 16_000, "full scale is 1"),
        (FLOAT, 44_100, "44100 Hz is not the 16000 Hz of the encoder"),
        (FLOAT, 0, "0 Hz is not"),
    ],
)
def test_what_is_refused(samples: np.ndarray, rate: int, reason: str):
    with pytest.raises(ValueError, match=reason):
        waves.prepared(samples, rate, 16_000)
