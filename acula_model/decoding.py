"""any audio file -> mono samples at the rate that an encoder wants, or the reason why not.

libsndfile reads wav, flac and most others; PyAV reads Opus, WebM and what phones record. Neither
says a word about some cut files, so containers that state their length are held to it.
"""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
# libsndfile cannot read Matroska, and FFmpeg decodes Opus twice as fast.
_AV_SUFFIXES = {".webm", ".ogg", ".oga", ".opus", ".m4a", ".mp3", ".mp4", ".aac", ".wma"}
SUFFIXES = _AV_SUFFIXES | {".wav", ".flac", ".aiff", ".aif", ".au", ".caf", ".w64"}
SILENCE = 1e-4  # of full scale: -80 dBFS
MIN_SECONDS = 0.5
LOUDEST = 32_768.0  # of full scale: 16-bit integers stored as floats; beyond it are no samples
_BLOCK = 1 << 20  # frames read at a time: a damaged header may promise billions


class SoundError(ValueError):
    """A file that holds no usable sound; the message is the reason."""


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
    import soxr

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SoundError(error.strerror or str(error)) from error
    if not raw:
        raise SoundError("empty file")
    _check_riff_length(raw)
    _check_ogg_length(raw)
    decode = _decode_av if path.suffix.lower() in _AV_SUFFIXES else _decode_soundfile
    samples, rate = decode(raw)
    if not len(samples) or rate <= 0:
        raise SoundError("a header without samples")
    if len(samples) < MIN_SECONDS * rate:
        raise SoundError(f"too short: {len(samples) / rate:.3f} s")
    if not float(np.abs(samples).max()) <= LOUDEST:  # also nan and inf
        raise SoundError("the samples are not finite numbers")
    mono = samples.mean(axis=1)
    if rate != sample_rate:
        mono = soxr.resample(mono, rate, sample_rate, "HQ")
    if float(np.abs(mono).max(initial=0.0)) < SILENCE:
        raise SoundError("silent")
    return mono.astype(np.float32, copy=False)


def _decode_soundfile(raw: bytes) -> tuple[Samples, int]:
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(raw)) as file:
            blocks = [file.read(_BLOCK, dtype="float32", always_2d=True)]
            while len(blocks[-1]):
                blocks.append(file.read(_BLOCK, dtype="float32", always_2d=True))
            samples = np.concatenate(blocks)
            if len(samples) < file.frames:
                raise SoundError(f"cut short: {len(samples)} of {file.frames} samples")
            return samples.astype(np.float32, copy=False), file.samplerate
    except soundfile.LibsndfileError as error:
        raise SoundError(f"cannot be decoded: {error}") from error


def _decode_av(raw: bytes) -> tuple[Samples, int]:
    """[S, channels] at the file's rate; mixing down here would be sqrt(2) too loud in FFmpeg."""
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
                raise SoundError("cannot be decoded: no audio stream of a known codec")
            frames = [
                _frame(f.to_ndarray(), len(f.layout.channels)) for f in container.decode(stream)
            ]
            rate = stream.codec_context.sample_rate
    except (av.error.FFmpegError, OSError) as error:
        raise SoundError(f"cannot be decoded: {error}") from error
    # A cut WebM decodes without an exception; only the demuxer's message tells.
    if cut := [text for _, _, text in messages if "ended prematurely" in text]:
        raise SoundError(f"cut short: {cut[0].strip()}")
    if len({frame.shape[1] for frame in frames}) > 1:
        raise SoundError("cannot be decoded: the number of channels changes")
    return (np.concatenate(frames) if frames else np.zeros((0, 1), np.float32)), rate


def _frame(block: npt.NDArray[Any], channels: int) -> Samples:
    """[S, channels] float32 from FFmpeg's planar or interleaved, integer or float block."""
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
    while raw[at : at + 4] == b"OggS" and at + 27 <= len(raw):
        segments = raw[at + 26]
        end = at + 27 + segments + sum(raw[at + 27 : at + 27 + segments])
        if end > len(raw):
            raise SoundError(f"cut short: {len(raw) - at} of {end - at} bytes of the last page")
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
            # Streaming writers leave 0xFFFFFFFF or 0x7FFFF000-like sizes: no length is stated.
            if there < size < 0x7FFF0000:
                raise SoundError(f"cut short: {there} of {size} bytes of samples")
            return
        at += 8 + size + (size & 1)
