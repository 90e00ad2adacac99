"""Chest, adventitious sounds and device -> the sound of one auscultation; for the lung samples.

Pitches and lengths follow Bohadana et al., Fundamentals of lung auscultation, N Engl J Med 370
(2014) 744. Levels are relative to breath noise in the middle of a normal inspiration (RMS 1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from pipeline.samples import signal
from pipeline.samples.signal import Rng, Signal


@dataclass(frozen=True, kw_only=True)
class Chest:
    """How a person breathes and what else is heard on their chest."""

    period: float  # s from one inspiration to the next
    expiration: float  # audible expiration : inspiration, in length
    loudness: float  # of breath noise, 1 is normal
    tilt: float  # dB per octave by which breath noise falls
    heart: float  # beats per minute
    heart_loudness: float


@dataclass(frozen=True)
class Breath:
    """One breath, all in seconds from the start of the recording."""

    start: float
    inspired: float
    expired: float
    end: float


@dataclass(frozen=True)
class Event:
    """An adventitious sound and where it lies, in seconds."""

    kind: str
    start: float
    end: float
    sound: Signal


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a device adds: its response as (Hz, dB) points, and hiss in dB below the sound."""

    response: tuple[tuple[float, float], ...]
    hiss: float


def chest(r: Rng, age: float, obstructive: bool = False) -> Chest:
    """A person's chest; obstruction prolongs expiration and weakens breath sounds."""
    per_minute = np.interp(age, [0, 1, 5, 12, 18], [38, 32, 25, 20, 17]) * r.uniform(0.85, 1.2)
    return Chest(
        period=60 / float(per_minute),
        expiration=float(r.uniform(1.7, 2.6) if obstructive else r.uniform(0.8, 1.5)),
        loudness=float(r.uniform(0.4, 1.0) if obstructive else r.uniform(0.5, 1.5)),
        tilt=float(r.uniform(-13, -7)),
        heart=float(np.interp(age, [0, 5, 15], [130, 100, 75]) * r.uniform(0.85, 1.15)),
        heart_loudness=float(r.uniform(0.2, 2.0)),
    )


def breaths(r: Rng, person: Chest, seconds: float) -> list[Breath]:
    """All breaths that a recording touches; the first starts before it."""
    found: list[Breath] = []
    start = -float(r.uniform(0.1, 0.9)) * person.period
    while start < seconds:
        period = person.period * float(r.uniform(0.9, 1.1))
        inspired = start + period * 0.85 / (1 + max(person.expiration, 1.2))
        expired = min(inspired + (inspired - start) * person.expiration, start + 0.97 * period)
        found.append(Breath(start, inspired, expired, start + period))
        start += period
    return found


def adventitious(r: Rng, kind: str, breath: Breath, rate: int) -> Event:
    """One adventitious sound of a breath: fine or coarse crackles, wheeze, rhonchus, stridor."""
    return _KINDS[kind](r, kind, breath, rate)


def episodes(
    r: Rng, kinds: Sequence[str], breathing: Sequence[Breath], rate: int, seconds: float
) -> list[Event]:
    """Each kind in a share of the breaths (one at least) that lies inside the recording."""
    inside = [b for b in breathing if b.start >= 0 and b.expired <= seconds]
    found: list[Event] = []
    for kind in kinds:
        share = float(r.uniform(0.5, 1))
        chosen = [b for b in inside if r.random() < share] or inside[:1]
        found += [adventitious(r, kind, b, rate) for b in chosen]
    return found


def _crackles(r: Rng, kind: str, breath: Breath, rate: int) -> Event:
    fine = kind == "fine"
    count = int(r.integers(6, 13) if fine else r.integers(4, 9))
    length = breath.inspired - breath.start
    # Fine crackles come late in inspiration, coarse ones early.
    span = length * float(r.uniform(0.45, 0.6) if fine else r.uniform(0.5, 0.75))
    start = breath.inspired - span if fine else breath.start + 0.1 * length
    pitch = float(r.uniform(550, 1000) if fine else r.uniform(220, 420))
    decay = float(r.uniform(0.0015, 0.0025) if fine else r.uniform(0.004, 0.007))
    t = np.arange(int(5 * decay * rate), dtype=np.float32) / rate
    sound = np.zeros(int((span + 0.05) * rate), np.float32)
    times = np.sort(r.uniform(0, span, count))
    pitches = pitch * r.uniform(0.85, 1.2, count)
    heights = r.lognormal(np.log(18 if fine else 9), 0.3, count)
    for at, f, height in zip(times, pitches, heights, strict=True):
        # Pitch falls within a crackle: it begins with a steep deflection and widens.
        wave = np.sin(2 * np.pi * f * t * (1 - 6 * t)) * np.exp(-t / decay)
        signal.add(sound, rate, float(at), (height * wave).astype(np.float32))
    return Event(kind, start, start + span, sound)


def _tone(
    r: Rng, rate: int, length: float, pitch: float, glide: float, harmonics: npt.ArrayLike
) -> Signal:
    """A gliding tone of unit RMS with harmonics of the given heights, swelling and fading."""
    n = int(length * rate)
    t = np.linspace(0, 1, n, dtype=np.float32)
    wander = glide * (t - 0.5) + 0.01 * np.sin(2 * np.pi * float(r.uniform(2, 5)) * length * t)
    phase = 2 * np.pi * np.cumsum(pitch * (1 + wander)) / rate
    heights = np.asarray(harmonics, np.float32)
    top = pitch * (1 + abs(glide) / 2) * np.arange(1, len(heights) + 1)
    tone = sum(
        (h * np.sin(k * phase) for k, h in enumerate(heights[top < 0.45 * rate], 1)),
        start=np.zeros(n),
    )
    tone = tone / np.sqrt(np.mean(tone**2)) * np.sqrt(np.hanning(n))
    return tone.astype(np.float32)


def _wheeze(r: Rng, kind: str, breath: Breath, rate: int) -> Event:
    whole = breath.expired - breath.inspired
    length = max(whole * float(r.uniform(0.45, 0.9)), 0.15)
    start = breath.inspired + (whole - length) * float(r.uniform(0, 1))
    pitch = float(r.uniform(280, 750))
    sound = _tone(r, rate, length, pitch, float(r.uniform(-0.2, 0.15)), [1, 0.25, 0.08])
    if r.random() < 0.3:  # polyphonic
        sound += 0.7 * _tone(r, rate, length, pitch * float(r.uniform(1.2, 1.6)), -0.1, [1, 0.2])
    return Event(kind, start, start + length, float(r.uniform(0.9, 1.9)) * sound)


def _rhonchus(r: Rng, kind: str, breath: Breath, rate: int) -> Event:
    whole = breath.expired - breath.inspired
    length = max(whole * float(r.uniform(0.5, 0.9)), 0.2)
    start = breath.inspired + (whole - length) * float(r.uniform(0, 1))
    pitch = float(r.uniform(110, 220))
    sound = _tone(r, rate, length, pitch, float(r.uniform(-0.1, 0.1)), [1, 0.8, 0.6, 0.4, 0.3, 0.2])
    t = np.arange(len(sound), dtype=np.float32) / rate
    flutter = 1 + 0.6 * np.sin(2 * np.pi * float(r.uniform(15, 28)) * t)  # secretions rattle
    sound = (sound * flutter).astype(np.float32)
    return Event(kind, start, start + length, float(r.uniform(1.6, 2.8)) * sound)


def _stridor(r: Rng, kind: str, breath: Breath, rate: int) -> Event:
    whole = breath.inspired - breath.start
    length = max(whole * float(r.uniform(0.7, 0.95)), 0.2)
    start = breath.start + (whole - length) / 2
    pitch = float(r.uniform(500, 900))
    sound = _tone(r, rate, length, pitch, float(r.uniform(-0.1, 0.25)), [1, 0.6, 0.3])
    return Event(kind, start, start + length, float(r.uniform(1.2, 2.2)) * sound)


_KINDS: dict[str, Callable[[Rng, str, Breath, int], Event]] = {
    "fine": _crackles,
    "coarse": _crackles,
    "wheeze": _wheeze,
    "rhonchus": _rhonchus,
    "stridor": _stridor,
}


def auscultation(
    r: Rng,
    rate: int,
    seconds: float,
    person: Chest,
    breathing: Sequence[Breath],
    events: Sequence[Event],
    device: Device,
    handling: float = 1.2,
) -> Signal:
    """Everything that the device hears, at a level that says nothing about the chest.

    Args:
        handling: Expected rubs and taps in ten seconds; a bad recording has many.
    """
    n = int(seconds * rate)
    sound = _breath_noise(r, n, rate, person, breathing)
    for event in events:
        signal.add(sound, rate, event.start, event.sound)
    sound += person.heart_loudness * _heart(r, n, rate, person.heart)
    sound += _surroundings(r, n, rate)
    sound += _handling(r, n, rate, int(r.poisson(handling * seconds / 10)))
    sound = _through(r, sound, rate, device)
    sound /= np.sqrt(np.mean(sound**2))
    # The preamplifier limits peaks; otherwise their height alone would tell crackles.
    limit = float(r.uniform(4, 8))
    sound = limit * np.tanh(sound / limit)
    return np.clip(10 ** (float(r.normal(-20, 4)) / 20) * sound, -1, 1).astype(np.float32)


def _breath_noise(r: Rng, n: int, rate: int, person: Chest, breathing: Sequence[Breath]) -> Signal:
    inspired = signal.bumps(
        n, rate, [b.start for b in breathing], [b.inspired - b.start for b in breathing]
    )
    expired = signal.bumps(
        n, rate, [b.inspired for b in breathing], [b.expired - b.inspired for b in breathing]
    )
    top = min(2500.0, 0.45 * rate)
    flow = inspired * signal.band(r, n, rate, 110, top, person.tilt)
    # Expiration is softer and lower over the chest.
    flow += 0.6 * expired * signal.band(r, n, rate, 90, 0.5 * top, person.tilt - 2)
    return person.loudness * flow


def _heart(r: Rng, n: int, rate: int, per_minute: float) -> Signal:
    beat = 60 / per_minute
    sound = np.zeros(n, np.float32)
    t = np.arange(int(0.1 * rate), dtype=np.float32) / rate
    first = np.sin(2 * np.pi * float(r.uniform(40, 60)) * t) * np.exp(-t / 0.03)
    second = np.sin(2 * np.pi * float(r.uniform(55, 80)) * t) * np.exp(-t / 0.02)
    for at in np.arange(-float(r.uniform(0, beat)), n / rate, beat):
        signal.add(sound, rate, at, first.astype(np.float32))
        signal.add(sound, rate, at + 0.36 * beat, 0.7 * second.astype(np.float32))
    return sound


def _surroundings(r: Rng, n: int, rate: int) -> Signal:
    """A room: noise of any colour; now and then a voice or the beeps of a monitor."""
    noise = signal.band(r, n, rate, 50, 0.48 * rate, float(r.uniform(-6, 0)))
    room = 10 ** (float(r.uniform(-32, -8)) / 20) * noise
    seconds = n / rate
    if r.random() < 0.25:
        for _ in range(int(r.integers(1, 4))):
            pitch, length = float(r.uniform(130, 330)), float(r.uniform(0.15, 0.5))
            voice = _tone(r, rate, length, pitch, float(r.uniform(-0.4, 0.4)), 1 / np.arange(1, 9))
            signal.add(room, rate, float(r.uniform(0, seconds)), float(r.uniform(0.3, 1)) * voice)
    if r.random() < 0.15:
        beep = _tone(r, rate, 0.12, float(r.uniform(700, 1300)), 0, [1.0])
        for at in np.arange(float(r.uniform(0, 1)), seconds, float(r.uniform(0.7, 1.2))):
            signal.add(room, rate, float(at), float(r.uniform(0.3, 0.5)) * beep)
    return room


def _handling(r: Rng, n: int, rate: int, count: int) -> Signal:
    """Taps, rubs and rustling of the chest piece: like crackles in nothing but their strength."""
    sound = np.zeros(n, np.float32)
    for _ in range(count):
        m = int(float(r.choice([0.02, 0.05, 0.3, 0.8])) * float(r.uniform(0.7, 1.5)) * rate)
        low = float(np.exp(r.uniform(np.log(60), np.log(700))))
        high = min(low * float(r.uniform(2, 8)), 0.48 * rate)
        rub = float(r.uniform(1.5, 6)) * signal.band(r, m, rate, low, high, -4) * np.hanning(m)
        signal.add(sound, rate, float(r.uniform(0, n / rate)), rub.astype(np.float32))
    return sound


def _through(r: Rng, sound: Signal, rate: int, device: Device) -> Signal:
    """Response of the device, of this chest wall and of how hard it is pressed; hiss."""
    n = len(sound)
    f = np.fft.rfftfreq(n, 1 / rate)
    points = np.log2([hz for hz, _ in device.response])
    gain = np.interp(np.log2(np.maximum(f, 1)), points, [db for _, db in device.response])
    gain += float(r.normal(0, 2.5)) * np.log2(np.maximum(f, 30) / 200)
    heard = np.fft.irfft(np.fft.rfft(sound) * 10 ** (gain / 20), n).astype(np.float32)
    hiss = 10 ** ((-device.hiss + float(r.normal(0, 4))) / 20) * np.sqrt(np.mean(heard**2))
    return heard + hiss * r.standard_normal(n, dtype=np.float32)


def write_wav(path: Path, sound: Signal, rate: int, native_rate: int, subtype: str) -> None:
    """Write mono PCM at the native rate."""
    if native_rate != rate:
        sound = np.clip(soxr.resample(sound, rate, native_rate, "HQ"), -1, 1)
    soundfile.write(path, sound, native_rate, subtype=subtype, format="WAV")
