"""Age, murmurs, extra sounds, device and noise -> a synthetic phonocardiogram and its beat times.

Made at 4 kHz, since heart sounds end below 1 kHz. Levels are in dB against the first heart
sound, so what a recording carries is independent of how loud it is. Continuous noise in the
band of the murmurs keeps average spectra from telling: what tells is its place in the cycle.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.samples.signal import Rng, Signal, add

RATE = 4000  # Hz

# Share of systole or diastole that a murmur fills.
TIMING = {
    "Holosystolic": (0.0, 1.0),
    "Early-systolic": (0.0, 0.6),
    "Mid-systolic": (0.15, 0.85),
    "Late-systolic": (0.45, 1.0),
    "Early-diastolic": (0.0, 0.5),
    "Mid-diastolic": (0.2, 0.7),
    "Holodiastolic": (0.0, 1.0),
}
# Level over the duration, between knots that are evenly spaced.
SHAPE = {
    "Plateau": (1.0, 1.0),
    "Decrescendo": (1.0, 0.6, 0.2),
    "Crescendo": (0.2, 0.6, 1.0),
    "Diamond": (0.25, 1.0, 0.25),
}
PITCH = {"Low": 105.0, "Medium": 170.0, "High": 290.0}  # Hz, centre
GRADE_DB = {"I": -13.0, "II": -8.0, "III": -3.0}


@dataclass(frozen=True, kw_only=True)
class Beat:
    """Times in seconds at which the first sound, systole, second sound and diastole begin."""

    s1: float
    systole: float
    s2: float
    diastole: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Murmur:
    """Names are keys of the tables above; ``timing`` also takes ``Continuous``."""

    timing: str
    shape: str
    pitch: str
    quality: str
    level_db: float


@dataclass(frozen=True, kw_only=True)
class Heart:
    """What one heart sounds like. ``extra`` is a sound besides S1 and S2."""

    beats_per_minute: float
    tone: float = 1.0  # factor on the pitch of S1 and S2
    split: float = 0.015  # s between the two parts of the second sound
    murmurs: tuple[Murmur, ...] = ()
    extra: str | None = None  # "third sound" or "click"


@dataclass(frozen=True, kw_only=True)
class Device:
    """How a stethoscope colours the sound."""

    low: float = 30.0  # Hz, below which it falls off
    tilt_db: float = 0.0  # per octave
    resonance: float = 120.0  # Hz
    resonance_db: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Room:
    """Levels in dB against the first heart sound, and rubs or voices per second."""

    hiss_db: float = -45.0
    body_db: float = -30.0
    events: float = 0.1


def resting_heart(r: Rng, years: float) -> tuple[float, float]:
    """(beats per minute, pitch factor) of a person of that age: the younger, the higher both."""
    beats = 68.0 + 72.0 * np.exp(-years / 5.0) + r.normal(0, 8)
    return float(np.clip(beats, 55, 170)), float(
        1.0 + 0.35 * np.exp(-years / 4.0) + r.normal(0, 0.06)
    )


def device(r: Rng) -> Device:
    """A device as another hospital might have it."""
    return Device(
        low=r.uniform(20, 45),
        tilt_db=r.uniform(-3, 3),
        resonance=r.uniform(60, 350),
        resonance_db=r.uniform(0, 7),
    )


def room(r: Rng, quiet: float = 0.0) -> Room:
    """Noise of one recording; ``quiet`` lowers all of it, in dB."""
    return Room(
        hiss_db=r.uniform(-50, -34) - quiet,
        body_db=r.uniform(-42, -21) - quiet,
        events=r.uniform(0, 0.4),
    )


def beats(r: Rng, seconds: float, heart: Heart) -> list[Beat]:
    """Beat times with breathing arrhythmia; the first may have begun before the recording."""
    mean = 60.0 / heart.beats_per_minute
    breath, phase = r.uniform(0.25, 0.5), r.uniform(0, 2 * np.pi)
    found: list[Beat] = []
    at = -r.uniform(0, mean)
    while at < seconds:
        length = mean * (1 + 0.04 * np.sin(2 * np.pi * breath * at + phase) + r.normal(0, 0.012))
        # Systole shortens less than diastole when the heart beats faster.
        s2 = at + 0.335 * np.sqrt(length)
        found.append(
            Beat(
                s1=at, systole=at + 0.09, s2=s2, diastole=s2 + 0.065 + heart.split, end=at + length
            )
        )
        at += length
    return found


def sound(
    r: Rng, seconds: float, heart: Heart, device: Device, room: Room
) -> tuple[Signal, list[Beat]]:
    """The phonocardiogram at RATE with a peak near 1, and its beats."""
    n = int(seconds * RATE)
    cycle = beats(r, seconds, heart)
    out = _tones(r, n, cycle, heart)
    for murmur in heart.murmurs:
        out += _murmur(r, n, cycle, murmur)
    out = _through(out, device)
    out += _noise(r, n, room)
    return out / np.float32(np.abs(out).max() + 1e-9), cycle


def pcm(r: Rng, signal: Signal) -> bytes:
    """16-bit samples at a random gain; some recordings clip, as real ones do."""
    gain = 10 ** (r.uniform(-16, 2) / 20)
    return np.clip(np.rint(signal * gain * 32767), -32768, 32767).astype("<i2").tobytes()


def _thud(seconds: float, partials: tuple[tuple[float, float], ...]) -> Signal:
    """A short attack and an exponential decay of (Hz, level) partials."""
    t = np.arange(int(seconds * RATE)) / RATE
    shape = np.minimum(t / 0.010, 1) * np.exp(-t / (seconds / 4))
    shape *= np.minimum((seconds - t) / 0.01, 1)
    return (shape * sum(a * np.sin(2 * np.pi * f * t + f) for f, a in partials)).astype(np.float32)


def _tones(r: Rng, n: int, cycle: list[Beat], heart: Heart) -> Signal:
    k = heart.tone
    s1 = _thud(0.12, ((42 * k, 1.0), (68 * k, 0.9), (120 * k, 0.45), (190 * k, 0.12)))
    first = _thud(0.085, ((55 * k, 0.9), (92 * k, 0.8), (160 * k, 0.4), (240 * k, 0.12)))
    s1, first = s1 / np.abs(s1).max(), first / np.abs(first).max()
    ratio = r.uniform(0.5, 1.0)
    third = _thud(0.10, ((45 * k, 1.0), (68 * k, 0.8)))
    click = _thud(0.035, ((210 * k, 0.6), (380 * k, 1.0)))
    out = np.zeros(n, np.float32)
    for beat in cycle:
        level = 1 + r.normal(0, 0.08)
        add(out, RATE, beat.s1, s1 * np.float32(level))
        for delay, part in ((0.0, 0.6), (heart.split, 0.4)):
            add(out, RATE, beat.s2 + delay, first * np.float32(level * ratio * part * 1.4))
        if heart.extra == "third sound":
            delay = min(0.13, 0.55 * (beat.end - beat.s2))
            add(out, RATE, beat.s2 + delay, third / np.abs(third).max() * np.float32(0.75 * level))
        elif heart.extra == "click":
            at = beat.systole + 0.45 * (beat.s2 - beat.systole)
            add(out, RATE, at, click / np.abs(click).max() * np.float32(0.75 * level))
    return out


def _murmur(r: Rng, n: int, cycle: list[Beat], murmur: Murmur) -> Signal:
    centre = PITCH[murmur.pitch] * r.uniform(0.88, 1.14)
    envelope = np.zeros(n, np.float32)
    for beat in cycle:
        if murmur.timing == "Continuous":
            start, end, knots = beat.systole - 0.03, beat.end, (0.4, 1.0, 0.6, 0.3)
        else:
            a, b = TIMING[murmur.timing]
            systolic = murmur.timing.endswith("systolic")
            first, last = (beat.systole - 0.03, beat.s2) if systolic else (beat.diastole, beat.end)
            start, end = first + a * (last - first), first + b * (last - first)
            knots = SHAPE[murmur.shape]
        m = max(int((end - start) * RATE), 8)
        shape = np.interp(np.linspace(0, 1, m), np.linspace(0, 1, len(knots)), knots)
        taper = np.minimum(np.minimum(np.arange(m), np.arange(m)[::-1]) / (0.012 * RATE), 1)
        add(envelope, RATE, start, (shape * taper * (1 + r.normal(0, 0.08))).astype(np.float32))
    if murmur.quality == "Musical":
        t = np.arange(n) / RATE
        wobble = 2 * np.pi * centre * t + 0.6 * np.sin(2 * np.pi * 5 * t)
        carrier = (np.sin(wobble) + 0.4 * np.sin(2 * wobble)).astype(np.float32)
        carrier += 0.3 * _rush(r, n, centre, 0.5)
    else:
        carrier = _rush(r, n, centre, 0.9 if murmur.quality == "Harsh" else 0.55)
    return envelope * carrier * np.float32(10 ** (murmur.level_db / 20))


def _rush(r: Rng, n: int, centre: float, octaves: float) -> Signal:
    """Noise of unit RMS around a frequency, falling off smoothly on both sides as flow does."""
    size = _fast(n)
    spectrum = np.fft.rfft(r.standard_normal(size, dtype=np.float32))
    f = np.maximum(np.fft.rfftfreq(size, 1 / RATE), 1.0)
    noise = np.fft.irfft(spectrum * np.exp(-((np.log2(f / centre) / octaves) ** 2)), size)[:n]
    return (noise / (np.sqrt(np.mean(noise**2)) + 1e-12)).astype(np.float32)


def _noise(r: Rng, n: int, room: Room) -> Signal:
    """Hiss of the device, breath and body in the band of the murmurs, rubs and voices."""
    t = np.arange(n) / RATE
    breath = 1 + 0.5 * np.sin(2 * np.pi * r.uniform(0.25, 0.7) * t + r.uniform(0, 6))
    out = _rush(r, n, r.uniform(60, 260), r.uniform(0.6, 1.2)) * breath.astype(np.float32)
    out *= np.float32(10 ** (room.body_db / 20))
    out += _rush(r, n, r.uniform(200, 900), 3.0) * np.float32(10 ** (room.hiss_db / 20))
    for _ in range(r.poisson(room.events * n / RATE)):
        m = int(r.uniform(0.05, 0.4) * RATE)
        t = np.arange(m) / m
        shape = (np.minimum(t / 0.15, 1) * np.exp(-4 * t)).astype(np.float32)
        level = np.float32(10 ** (r.uniform(-24, 4) / 20))
        rub = _rush(r, m, r.uniform(120, 600), r.uniform(0.4, 1.0)) * shape * level
        add(out, RATE, r.uniform(0, n / RATE), rub.astype(np.float32))
    return out


def _through(signal: Signal, device: Device) -> Signal:
    size = _fast(len(signal))
    spectrum = np.fft.rfft(signal, size)
    f = np.maximum(np.fft.rfftfreq(size, 1 / RATE), 1.0)
    gain = 1 / (1 + (device.low / f) ** 4) * (f / 100) ** (device.tilt_db / 6.02)
    gain *= 1 + (10 ** (device.resonance_db / 20) - 1) * np.exp(
        -(np.log2(f / device.resonance) ** 2) * 4
    )
    coloured = np.fft.irfft(spectrum * gain, size)[: len(signal)]
    return (coloured / (np.abs(coloured).max() + 1e-9)).astype(np.float32)


def _fast(n: int) -> int:
    """A length at least ``n`` without large prime factors, which make transforms slow."""
    return -(-n // 512) * 512
