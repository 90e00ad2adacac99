"""Building blocks of the synthetic sounds: noise, bands, envelopes, events, devices.

All signals are float32 at a rate given in Hz, with full scale at 1.0.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import pool

Signal = npt.NDArray[np.float32]
Rng = np.random.Generator
# One file to write: a module-level function, then its arguments (all picklable).
Job = tuple[Callable[..., None], Path, dict[str, Any]]


def rng(seed: int, *names: object) -> Rng:
    """Random numbers that depend on the seed and these names alone, not on any order."""
    key = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(key[:8], "big"))


def band(r: Rng, n: int, rate: int, low: float, high: float, tilt_db: float = 0.0) -> Signal:
    """Gaussian noise of unit RMS between ``low`` and ``high`` Hz; tilt in dB per octave."""
    spectrum = np.fft.rfft(r.standard_normal(n, dtype=np.float32))
    f = np.fft.rfftfreq(n, 1 / rate)
    gain = np.where(
        (f >= low) & (f <= high), (np.maximum(f, 1.0) / max(low, 1.0)) ** (tilt_db / 6), 0
    )
    noise = np.fft.irfft(spectrum * gain, n)
    return (noise / (np.sqrt(np.mean(noise**2)) + 1e-12)).astype(np.float32)


def bumps(n: int, rate: int, starts: list[float], lengths: list[float]) -> Signal:
    """Sum of raised-cosine bumps of height 1, each at a start with a length in seconds."""
    out = np.zeros(n, np.float32)
    for start, length in zip(starts, lengths, strict=True):
        add(out, rate, start, np.hanning(max(int(length * rate), 2)).astype(np.float32))
    return out


def add(signal: Signal, rate: int, start: float, event: Signal) -> None:
    """Add an event at a time in seconds; what lies outside the signal is cut."""
    at = int(start * rate)
    lo, hi = max(at, 0), min(at + len(event), len(signal))
    if lo < hi:
        signal[lo:hi] += event[lo - at : hi - at]


def render(jobs: list[Job]) -> None:
    """Write all files, on all cores when there are many."""
    size = 64
    batches = [(jobs[i : i + size],) for i in range(0, len(jobs), size)]
    for _ in pool.run(_render_batch, batches):
        pass


def _render_batch(jobs: list[Job]) -> None:
    for work, path, arguments in jobs:
        path.parent.mkdir(parents=True, exist_ok=True)
        work(path, **arguments)
