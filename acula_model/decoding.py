"""any audio file -> its samples, or the reason why not; mono at the rate that is wanted.

libsndfile reads wav, flac and most others; PyAV reads Opus, WebM and what phones record. Neither
says a word about some cut files, so containers that state their length are held to it.
Light on purpose: processes that only normalise sound import no torch and no librosa.
"""

# S = samples of a channel, C = channels

import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

Samples = npt.NDArray[np.float32]
# Raise by one when a file decodes to other samples: what is kept of them is then made again.
VERSION = 1
# libsndfile cannot read Matroska, and FFmpeg decodes Opus twice as fast.
_AV_SUFFIXES = {".webm", ".ogg", ".oga", ".opus", ".m4a", ".mp3", ".mp4", ".aac", ".wma"}
SUFFIXES = _AV_SUFFIXES | {".wav", ".flac", ".aiff", ".aif", ".au", ".caf", ".w64"}
SILENCE = 1e-4  # of full scale: -80 dBFS
MIN_SECONDS = 0.5
MIN_RATE = 1_000  # Hz; a header that states less is damaged
LOUDEST = 32_768.0  # of full scale: 16-bit integers stored as floats; beyond it are no samples
_BLOCK = 1 << 20  # frames read at a time: a damaged header may promise billions
_REASONS = {
    "empty_file": "empty file",
    "header_only": "a header without samples",
    "undecodable": "cannot be decoded",
    "truncated": "cut short",
    "silent": "silent",
    "too_short": "too short",
}


class SoundError(ValueError):
    """A file that holds no usable sound; the message is the reason."""


class BadAudio(SoundError):
    """Audio that cannot be used.

    Attributes:
        reason: Kind of fault, one word for tables: ``empty_file``, ``header_only``,
            ``undecodable``, ``truncated``, ``silent`` or ``too_short``.
        detail: What was found; may be empty.
    """

    def __init__(self, reason: str, detail: str = ""):
        said = _REASONS[reason]
        super().__init__(f"{said}: {detail}" if detail else said)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The sound of a file as it is stored."""

    samples_SC: Samples
    rate: int  # Hz
    kind: str  # container and coding
    peak: float  # of full scale


def find(places: list[Path]) -> list[Path]:
    """Files as given, and all sound files below folders, sorted.

    Raises:
        FileNotFoundError: A folder without sound files.
    """
    found: list[Path] = []
    for place in places:
        if not place.is_dir():
            found.append(place)
            continue
        inside = sorted(p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not inside:
            raise FileNotFoundError(f"no sound files below {place}")
        found += inside
    return found


def read(path: Path, sample_rate: int) -> Samples:
    """Decode, average the channels, resample with soxr HQ.

    Args:
        path: The file.
        sample_rate: Hz.

    Returns:
        float32 [S].

    Raises:
        SoundError: No such file, no sound in it, silence, less than half a second, cut short.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SoundError(error.strerror or str(error)) from error
    return mono(decode(raw, path.suffix), sample_rate)


def decode(raw: bytes, suffix: str) -> Decoded:
    """Decode the bytes of a file at its own rate, with its own channels.

    Args:
        raw: The whole file.
        suffix: Of its name; decides which library reads it.

    Raises:
        BadAudio: Damaged, silent, or less than half a second.
    """
    if not raw:
        raise BadAudio("empty_file")
    _check_riff_length(raw)
    _check_ogg_length(raw)
    by_suffix = _decode_av if suffix.lower() in _AV_SUFFIXES else _decode_soundfile
    samples_SC, rate, kind = by_suffix(raw)
    if len(samples_SC) == 0:
        raise BadAudio("header_only")
    if rate < MIN_RATE:
        raise BadAudio("undecodable", f"a sample rate of {rate} Hz")
    peak = _peak(samples_SC)
    if not peak <= LOUDEST:  # also nan and inf
        raise BadAudio("undecodable", "the samples are not finite numbers")
    if peak < SILENCE:
        raise BadAudio("silent", f"peak {peak:.1e} of full scale")
    if len(samples_SC) < MIN_SECONDS * rate:
        raise BadAudio("too_short", f"{len(samples_SC) / rate:.3f} s")
    return Decoded(samples_SC=samples_SC, rate=rate, kind=kind, peak=peak)


def mono(sound: Decoded, sample_rate: int) -> Samples:
    """Average the channels and resample with soxr HQ.

    Args:
        sound: From ``decode``.
        sample_rate: Hz.

    Returns:
        float32 [S].

    Raises:
        BadAudio: Nothing is left, as of channels in opposite phase.
    """
    samples_SC = sound.samples_SC
    mono = samples_SC[:, 0] if samples_SC.shape[1] == 1 else samples_SC.mean(axis=1)
    if sound.rate != sample_rate:
        mono = soxr.resample(mono, sound.rate, sample_rate, "HQ")
    # The silence left would be equal in all such files, and link strangers as one person.
    if len(mono) == 0 or _peak(mono) < SILENCE:
        raise BadAudio("silent", f"nothing is left at {sample_rate / 1000:g} kHz mono")
    return mono.astype(np.float32, copy=False)


def _peak(samples: Samples) -> float:
    """Of full scale; nan where a sample is."""
    return max(abs(float(samples.max())), abs(float(samples.min())))


def _decode_soundfile(raw: bytes) -> tuple[Samples, int, str]:
    try:
        with soundfile.SoundFile(io.BytesIO(raw)) as file:
            kind = f"{file.format}/{file.subtype}"
            blocks: list[Any] = [file.read(_BLOCK, dtype="float32", always_2d=True)]
            while len(blocks[-1]) == _BLOCK:
                blocks.append(file.read(_BLOCK, dtype="float32", always_2d=True))
            samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
            if len(samples) < file.frames:
                raise BadAudio("truncated", f"{len(samples)} of {file.frames} samples")
            return samples, file.samplerate, kind
    except soundfile.LibsndfileError as error:
        # Not its whole message, which has an address in memory and so differs each time.
        raise BadAudio("undecodable", error.error_string) from error


def _decode_av(raw: bytes) -> tuple[Samples, int, str]:
    """[S, C] at the file's rate; mixing down here would be sqrt(2) too loud in FFmpeg."""
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
    """[S, C] float32 from FFmpeg's planar or interleaved, integer or float block."""
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
