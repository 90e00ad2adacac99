"""A person's airway -> cough and exhalation sounds as a phone records them (16 kHz, float32).

A cough is an explosive burst, a decaying noise shaped by the vocal tract and often a voiced end;
bubbles make it wet. Illness (``ill``, 0 to 1) lengthens the decay, roughens the voice and puts
crackles into the breaths between coughs and into exhalations. Sex and age move pitch and vocal
tract. Level, length and recording device are drawn without looking at any of these.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipeline.samples.signal import Rng, Signal, add

RATE = 16000
_COUGH = 8000  # samples of one cough: 0.5 s
_FORMANTS = (550.0, 1500.0, 2600.0, 3700.0)  # of a neutral adult vocal tract


@dataclass(frozen=True, kw_only=True)
class Airway:
    """What makes a person's coughs and breaths sound as they do."""

    pitch: float  # Hz
    tract: float  # formants relative to a man's
    decay: float  # seconds until the noise of a cough has fallen to 1/e
    voiced: float  # level of the voiced end relative to the burst
    hoarse: float  # 0 clear voice .. 1 noise
    wet: float  # level of bubbles relative to the burst
    crackles: float  # crackles per second of breath
    wheeze: float = 0.0  # level of a tone at the end of a cough, relative to the burst


def airway(r: Rng, sex: str, age: float, ill: float, wet: bool, wheeze: bool = False) -> Airway:
    """A person: ``sex`` is female or male, ``ill`` how much illness changes the sound."""
    small = age < 14
    pitch = 250.0 if small else 212.0 if sex == "female" else 122.0
    tract = 1.2 if small else 1.12 if sex == "female" else 1.0
    return Airway(
        pitch=pitch * float(np.exp(r.normal(0, 0.1))),
        tract=tract * float(np.exp(r.normal(0, 0.06))),
        decay=0.06 * float(np.exp(0.7 * ill + r.normal(0, 0.2))),
        voiced=float(np.exp(r.normal(-0.2, 0.3))),
        hoarse=float(np.clip(0.15 + 0.5 * ill + r.normal(0, 0.15), 0, 1)),
        wet=float(r.uniform(0.5, 1.1)) if wet else float(r.uniform(0, 0.12)),
        crackles=float(12 * ill * np.exp(r.normal(0, 0.3))),
        wheeze=float(r.uniform(0.25, 0.5)) if wheeze else 0.0,
    )


def coughs(r: Rng, seconds: float, person: Airway, count: int) -> Signal:
    """``count`` coughs in bouts, with the breaths between them."""
    out = np.zeros(int(seconds * RATE), np.float32)
    at = min(float(r.uniform(0.15, 0.5)), seconds / 4)
    for _ in range(count):
        add(out, RATE, at, _cough(r, person) * np.float32(r.uniform(0.6, 1.0)))
        pause = float(r.uniform(0.5, 0.65) if r.random() < 0.5 else r.uniform(0.9, 1.4))
        _breath_in(r, out, at + 0.45, pause - 0.45 + 0.1, person)
        at += pause
        if at > seconds - 0.5:
            break
    return out


def exhalation(r: Rng, seconds: float, person: Airway) -> Signal:
    """Two or three forced breaths out."""
    out = np.zeros(int(seconds * RATE), np.float32)
    at = float(r.uniform(0.1, 0.3))
    while at < seconds - 0.6:
        n = _samples(min(float(r.uniform(0.7, 1.2)), seconds - at - 0.05))
        length = n / RATE
        t = np.linspace(0, 1, n, dtype=np.float32)
        fall = np.exp(-t * np.float32(r.uniform(2, 3.5))) * (1 - t**2)
        flow = np.minimum(t / 0.12, 1) ** 2 * fall
        breath = _tract(r.standard_normal(n, dtype=np.float32), person.tract) * flow
        for _ in range(r.poisson(person.crackles * length)):
            add(breath, RATE, float(r.uniform(0.1, 0.95)) * length, _crackle(r) * np.float32(0.9))
        add(out, RATE, at, breath)
        at += length + float(r.uniform(0.25, 0.5))
    return out


def recorded(r: Rng, clean: Signal) -> Signal:
    """Through a room and a phone: colour, noise, level; sometimes clipped."""
    n = len(clean)
    f, octaves = _axis(n)
    low, high = float(r.uniform(60, 180)), float(r.uniform(5500, 8000))
    colour = 2 ** (octaves * np.float32(r.normal(0, 0.5))) * (f > low) * (f < high)
    bump = np.exp(-((octaves - np.float32(r.uniform(-1, 2.5))) ** 2) / 0.3)
    colour *= 1 + np.float32(r.uniform(0, 1.5)) * bump
    noise = r.standard_normal(2 * len(f), dtype=np.float32).view(np.complex64)
    noise *= 2 ** (octaves * np.float32(r.uniform(-0.9, -0.2)))  # rooms rumble more than they hiss
    spectrum = np.fft.rfft(clean)
    quiet = _level(r.uniform(-45, -22)) * np.linalg.norm(spectrum) / np.linalg.norm(noise)
    sound = np.fft.irfft((spectrum + np.float32(quiet) * noise) * colour, n).astype(np.float32)
    # Between peak and RMS, so that neither the one nor the other tells how dense the sound is.
    size = np.sqrt(np.abs(sound).max() * np.sqrt(np.mean(sound**2)))
    return np.clip(sound * np.float32(_level(r.normal(-17, 4)) / size), -1, 1)


def _cough(r: Rng, person: Airway) -> Signal:
    t = np.arange(_COUGH, dtype=np.float32) / RATE
    burst = np.float32(r.uniform(0.03, 0.05))
    decay = np.float32(person.decay * np.exp(r.normal(0, 0.1)))
    envelope = np.minimum(t / 0.004, 1) * np.where(t < burst, 1, 0.55 * np.exp((burst - t) / decay))
    noise = _tract(r.standard_normal(_COUGH, dtype=np.float32), person.tract)
    out = (noise * envelope).astype(np.float32)
    voice = _voice(r, _samples(float(r.uniform(0.12, 0.2))), noise, person)
    add(out, RATE, float(burst) + 0.05, voice * np.float32(person.voiced))
    for at in r.uniform(0.05, 0.42, r.poisson(14)) if person.wet > 0.02 else ():
        add(out, RATE, float(at), _bubble(r) * np.float32(person.wet * 0.6))
    if person.wheeze:
        tone = float(r.uniform(400, 800))
        n = int(0.3 * RATE)
        sound = sum(np.sin(2 * np.pi * tone * k * t[:n]) / k**1.5 for k in (1, 2, 3))
        add(out, RATE, 0.2, (np.hanning(n) * sound * person.wheeze).astype(np.float32))
    return out


def _voice(r: Rng, n: int, noise: Signal, person: Airway) -> Signal:
    unsteady = np.interp(np.arange(n), np.linspace(0, n, 12), r.standard_normal(12))
    glide = np.linspace(1.06, 0.88, n) * (1 + 0.06 * person.hoarse * unsteady)
    phase = (2 * np.pi / RATE * np.cumsum(person.pitch * glide)).astype(np.float32)
    k = np.arange(1, int(3500 / person.pitch) + 1, dtype=np.float32)
    level = _response(k * person.pitch, person.tract) / k**0.6
    tone = (level @ np.sin(k[:, None] * phase)) / (np.linalg.norm(level) + 1e-6)
    mix = (1 - 0.7 * person.hoarse) * tone + 0.5 * person.hoarse * noise[-n:]
    return (np.hanning(n) * mix).astype(np.float32)


def _breath_in(r: Rng, out: Signal, start: float, length: float, person: Airway) -> None:
    for _ in range(r.poisson(person.crackles * length)):
        at = start + float(r.uniform(0, length))
        add(out, RATE, at, _crackle(r) * np.float32(r.uniform(0.2, 0.5)))


def _crackle(r: Rng) -> Signal:
    """A fine crackle: 6 to 12 ms, 500 to 1500 Hz."""
    return _damped(float(r.uniform(500, 1500)), float(r.uniform(0.006, 0.012)))


def _bubble(r: Rng) -> Signal:
    """A bubble in mucus: 20 to 40 ms, 150 to 450 Hz."""
    return _damped(float(r.uniform(150, 450)), float(r.uniform(0.02, 0.04)))


def _damped(hz: float, length: float) -> Signal:
    t = np.arange(int(length * RATE), dtype=np.float32) / RATE
    return (np.sin(2 * np.pi * hz * t) * np.exp(-4 * t / length)).astype(np.float32)


def _level(db: float) -> float:
    return float(10 ** (db / 20))


def _samples(seconds: float) -> int:
    """A length whose Fourier transform is fast."""
    return int(seconds * 100) * RATE // 100


@lru_cache(maxsize=64)
def _axis(n: int) -> tuple[Signal, Signal]:
    """Frequencies in Hz and in octaves around 1 kHz."""
    f = np.fft.rfftfreq(n, 1 / RATE).astype(np.float32)
    return f, np.log2(np.maximum(f, 40) / 1000).astype(np.float32)


def _response(f: npt.NDArray[np.floating], tract: float) -> npt.NDArray[np.floating]:
    peaks = [1 / (1 + ((f - c * tract) / (90 + 0.06 * c)) ** 2) for c in _FORMANTS]
    return 0.12 + np.sum(peaks, axis=0)


@lru_cache(maxsize=512)
def _gain(n: int, tract: float) -> Signal:
    gain = _response(np.fft.rfftfreq(n, 1 / RATE), tract)
    return (gain / np.sqrt(np.mean(gain**2))).astype(np.float32)


def _tract(noise: Signal, tract: float) -> Signal:
    """Noise with the formants of a vocal tract, its RMS kept."""
    n = len(noise)
    return np.fft.irfft(np.fft.rfft(noise) * _gain(n, round(tract, 2)), n).astype(np.float32)
