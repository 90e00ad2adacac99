"""any audio file of an archive -> 16 kHz mono FLAC and facts about the original, or a reason.

Runs in worker processes: imports numpy, soundfile and soxr only (PyAV when it is needed),
since a librosa start costs as much as normalising half an hour of sound.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from acula_model import decoding
from acula_model.decoding import BadAudio as BadAudio  # its reasons are keys of records.REASONS

# Raise the 0 by one when the normalised bytes change: all parts are then made again. Both
# numbers only grow, so their sum tells a change of either.
VERSION = 0 + decoding.VERSION
SAMPLE_RATE = 16_000  # Hz
FULL_SCALE = 0.999


@dataclass(frozen=True, kw_only=True)
class Normalised:
    """One recording as the project keeps it, and facts about the file it came from."""

    flac: bytes
    raw_sha256: str
    raw_bytes: int
    audio_sha256: str  # of the 16 kHz int16 samples: equal sound has an equal hash
    native_rate: int  # Hz
    native_format: str
    native_channels: int
    duration_s: float
    peak: float  # of full scale, in the original
    rms_dbfs: float
    clipped_fraction: float  # share of original samples at full scale


def normalise(path: Path) -> Normalised:
    """Decode, average channels, resample to 16 kHz with soxr HQ, encode as 16-bit FLAC.

    Raises:
        BadAudio: With the reason why the file cannot be used.
    """
    raw = path.read_bytes()
    sound = decoding.decode(raw, path.suffix)
    mono = decoding.mono(sound, SAMPLE_RATE)
    scaled = mono * np.float32(32768.0)
    pcm = np.clip(np.rint(scaled, out=scaled), -32768, 32767, out=scaled).astype("<i2")
    flac = io.BytesIO()
    soundfile.write(flac, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    samples_SC = sound.samples_SC
    exact = mono.astype(np.float64)
    rms = float(np.sqrt(np.square(exact, out=exact).mean()))
    return Normalised(
        flac=flac.getvalue(),
        raw_sha256=hashlib.sha256(raw).hexdigest(),
        raw_bytes=len(raw),
        audio_sha256=hashlib.sha256(pcm.data).hexdigest(),
        native_rate=sound.rate,
        native_format=sound.kind,
        native_channels=samples_SC.shape[1],
        duration_s=round(len(samples_SC) / sound.rate, 4),
        peak=round(sound.peak, 6),
        rms_dbfs=round(20 * float(np.log10(max(rms, 1e-9))), 2),
        clipped_fraction=round(_clipped(samples_SC) if sound.peak >= FULL_SCALE else 0.0, 6),
    )


def _clipped(samples_SC: decoding.Samples) -> float:
    return float((np.abs(samples_SC) >= FULL_SCALE).mean())
