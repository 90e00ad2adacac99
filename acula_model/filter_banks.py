"""Triangular filters from the frequencies of a transform to mel bins, on two mel scales."""

# M = mel bins, F = frequencies of the transform

import numpy as np
import numpy.typing as npt

Filters = npt.NDArray[np.float64]


def slaney(rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Filters:
    """Filters of unit area on Slaney's scale, shape [M, F].

    Source: M. Slaney, Auditory Toolbox, 1998 (linear below 1 kHz, logarithmic above); equal to
    ``librosa.filters.mel(htk=False, norm="slaney")``.

    Args:
        rate: Hz of the samples.
        n_fft: Points of the transform.
        n_mels: M.
        f_min: Hz where the first filter starts.
        f_max: Hz where the last one ends.
    """
    ends = _slaney_mel(np.array([f_min, f_max]))
    edges = _slaney_hz(np.linspace(ends[0], ends[1], n_mels + 2))
    triangles = _triangles(edges, np.linspace(0, rate / 2, n_fft // 2 + 1))
    return triangles * 2 / (edges[2:, None] - edges[:-2, None])


def kaldi(rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Filters:
    """Filters of unit height, triangular in mels, on Kaldi's scale, shape [M, F].

    Arguments as in ``slaney``. Narrow filters may fall between two frequencies and stay empty.
    """
    ends = _kaldi_mel(np.array([f_min, f_max]))
    edges = np.linspace(ends[0], ends[1], n_mels + 2)
    return _triangles(edges, _kaldi_mel(np.linspace(0, rate / 2, n_fft // 2 + 1)))


def _triangles(edges: Filters, at: Filters) -> Filters:
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rise, fall = (at - low) / (centre - low), (high - at) / (high - centre)
    return np.maximum(0, np.minimum(rise, fall))


# Slaney's scale: 200/3 Hz per mel up to 1 kHz (15 mel), then 27 mel per factor of 6.4.
_HZ_PER_MEL, _KNEE_HZ, _LOG_STEP = 200 / 3, 1_000.0, np.log(6.4) / 27


def _slaney_mel(hz: Filters) -> Filters:
    above = np.log(np.maximum(hz, _KNEE_HZ) / _KNEE_HZ) / _LOG_STEP
    return np.minimum(hz, _KNEE_HZ) / _HZ_PER_MEL + above


def _slaney_hz(mel: Filters) -> Filters:
    knee = _KNEE_HZ / _HZ_PER_MEL
    return np.minimum(mel, knee) * _HZ_PER_MEL * np.exp(_LOG_STEP * np.maximum(mel - knee, 0))


def _kaldi_mel(hz: Filters) -> Filters:
    return 1127 * np.log1p(hz / 700)
