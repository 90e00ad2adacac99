"""any audio file of an archive -> 16 kHz mono FLAC and facts about the original, or a reason.

Runs in worker processes: imports numpy, soundfile and soxr only (PyAV when it is needed),
since a librosa start costs as much as normalising half an hour of sound.
"""

import hashlib
import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

# Raise by one when the normalised bytes change: all parts are then made again.
VERSION = 1
SAMPLE_RATE = 16_000  # Hz
MIN_SECONDS = 0.5
MIN_RATE = 1_000  # Hz; a header that states less is damaged
SILENCE_PEAK = 1e-4  # -80 dBFS
FULL_SCALE = 0.999
LOUDEST = 32_768.0  # of full scale: 16-bit integers stored as floats; beyond it are no samples
_BLOCK = 1 << 20  # frames read at a time: a damaged header may promise billions
# libsndfile cannot read Matroska, and FFmpeg decodes Opus twice as fast.
_AV_SUFFIXES = {".webm", ".ogg", ".oga", ".opus", ".m4a", ".mp3", ".mp4"}

Samples = npt.NDArray[np.float32]


class BadAudio(ValueError):
    """Audio that cannot be used; ``reason`` is a key of ``records.REASONS``."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


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
    if not raw:
        raise BadAudio("empty_file")
    _check_riff_length(raw)
    _check_ogg_length(raw)
    decode = _decode_av if path.suffix.lower() in _AV_SUFFIXES else _decode_soundfile
    samples, rate, kind = decode(raw)
    if len(samples) == 0:
        raise BadAudio("header_only")
    if rate < MIN_RATE:
        raise BadAudio("undecodable", f"a sample rate of {rate} Hz")
    magnitude = np.abs(samples)
    peak = float(magnitude.max())
    if not peak <= LOUDEST:  # also nan and inf
        raise BadAudio("undecodable", "the samples are not finite numbers")
    duration = len(samples) / rate
    if peak < SILENCE_PEAK:
        raise BadAudio("silent", f"peak {peak:.1e} of full scale")
    if duration < MIN_SECONDS:
        raise BadAudio("too_short", f"{duration:.3f} s")
    clipped = float((magnitude >= FULL_SCALE).mean())
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, "HQ")
    # Channels in opposite phase cancel out; the silence left links strangers as one person.
    if float(np.abs(mono).max()) < SILENCE_PEAK:
        raise BadAudio("silent", "nothing is left at 16 kHz mono")
    pcm = np.clip(np.rint(mono * 32768.0), -32768, 32767).astype("<i2")
    flac = io.BytesIO()
    soundfile.write(flac, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    rms = float(np.sqrt(np.mean(np.square(mono, dtype=np.float64))))
    return Normalised(
        flac=flac.getvalue(),
        raw_sha256=hashlib.sha256(raw).hexdigest(),
        raw_bytes=len(raw),
        audio_sha256=hashlib.sha256(pcm.tobytes()).hexdigest(),
        native_rate=rate,
        native_format=kind,
        native_channels=samples.shape[1] if samples.ndim == 2 else 1,
        duration_s=round(duration, 4),
        peak=round(peak, 6),
        rms_dbfs=round(20 * float(np.log10(max(rms, 1e-9))), 2),
        clipped_fraction=round(clipped, 6),
    )


def _decode_soundfile(raw: bytes) -> tuple[Samples, int, str]:
    try:
        with soundfile.SoundFile(io.BytesIO(raw)) as file:
            kind = f"{file.format}/{file.subtype}"
            blocks = [file.read(_BLOCK, dtype="float32")]
            while len(blocks[-1]):
                blocks.append(file.read(_BLOCK, dtype="float32"))
            samples = np.concatenate(blocks).astype(np.float32, copy=False)
            if len(samples) < file.frames:
                raise BadAudio("truncated", f"{len(samples)} of {file.frames} samples")
            return samples, file.samplerate, kind
    except soundfile.LibsndfileError as error:
        raise BadAudio("undecodable", str(error)) from error


def _decode_av(raw: bytes) -> tuple[Samples, int, str]:
    """Native channels as float; mixing down here would be sqrt(2) too loud in FFmpeg."""
    import av
    import av.error
    import av.logging

    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # else the second cut file in a row leaves no message
    logging.getLogger("libav").setLevel(logging.CRITICAL)
    try:
        with (
            av.logging.Capture() as messages,
            av.open(io.BytesIO(raw), "r", metadata_errors="replace") as container,
        ):
            stream = next(iter(container.streams.audio), None)
            if stream is None or stream.codec_context is None:
                raise BadAudio("undecodable", "no audio stream of a known codec")
            kind = f"{container.format.name.split(',')[0].upper()}/{stream.codec_context.name}"
            frames = [
                _frame(f.to_ndarray(), len(f.layout.channels)) for f in container.decode(stream)
            ]
            rate = stream.codec_context.sample_rate
    except (av.error.FFmpegError, OSError) as error:
        raise BadAudio("undecodable", str(error)) from error
    # A cut WebM decodes without an exception; only the demuxer's message tells.
    if cut := [text for _, _, text in messages if "ended prematurely" in text]:
        raise BadAudio("truncated", cut[0].strip())
    if len({frame.shape[1] for frame in frames}) > 1:
        raise BadAudio("undecodable", "the number of channels changes")
    empty = np.zeros((0, 1), np.float32)
    return (np.concatenate(frames) if frames else empty), rate, kind


def _frame(block: npt.NDArray[Any], channels: int) -> Samples:
    """[samples, channels] float32 from FFmpeg's planar or interleaved, integer or float block."""
    planar = block.shape[0] == channels > 1
    block = block.T if planar else block.reshape(-1, channels)
    if block.dtype.kind in "iu":
        half = 2 ** (8 * block.dtype.itemsize - 1)
        zero = half if block.dtype.kind == "u" else 0  # 8-bit samples are 0..255
        return ((block.astype(np.float64) - zero) / half).astype(np.float32)
    return block.astype(np.float32)


def _check_ogg_length(raw: bytes) -> None:
    """FFmpeg leaves out a cut last page without a word; each page says how long it should be."""
    at = 0
    while raw[at : at + 4] == b"OggS":
        segments = int.from_bytes(raw[at + 26 : at + 27], "little")
        end = at + 27 + segments + sum(raw[at + 27 : at + 27 + segments])
        if end > len(raw):
            raise BadAudio("truncated", f"{len(raw) - at} of {end - at} bytes of the last page")
        at = end


def _check_riff_length(raw: bytes) -> None:
    """libsndfile reads a cut wav without a word; the data chunk says how long it should be."""
    if raw[:4] != b"RIFF" or raw[8:12] != b"WAVE":
        return
    at = 12
    while at + 8 <= len(raw):
        name, size = raw[at : at + 4], int.from_bytes(raw[at + 4 : at + 8], "little")
        if name == b"data":
            there = len(raw) - at - 8
            if size == 0 or there == 0:
                raise BadAudio("header_only", f"{len(raw)} bytes")
            # Streaming writers leave 0xFFFFFFFF or 0x7FFFF000-like sizes: no length is stated.
            if there < size < 0x7FFF0000:
                raise BadAudio("truncated", f"{there} of {size} bytes of samples")
            return
        at += 8 + size + (size & 1)
    raise (
        BadAudio("header_only", "no data chunk")
        if len(raw) <= 44
        else BadAudio("undecodable", "no data chunk")
    )
