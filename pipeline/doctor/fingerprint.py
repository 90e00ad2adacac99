"""A recording's sound as a few kilobytes that survive a codec, a gain or a cut.

After Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002): each frame
is 32 bits, and a bit says whether the energy difference of two neighbouring bands rises or falls.
Changed for body sounds: bands from 40 Hz, and a difference over 8 frames (0.26 s) where music
has one, since breath and heart sounds change slowly and noise decides the sign of less.

Not found: another speed or pitch, other sounds mixed in, less than 1.3 s that is louder than -60 dB
of the peak, tones and machines that repeat exactly, and much noise on a telemedicine stethoscope's
narrow band (of 58 such files all at 30 dB, 48 at 20 dB).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

# Raise by one when the bits of a sound change: stored fingerprints are then made again.
VERSION = 1
RATE = 16_000  # Hz
FRAME, HOP, STEP = 4096, 512, 8  # samples, samples, frames
BANDS = np.geomspace(40, 1800, 34)  # Hz; telemedicine stethoscopes record at 4 kHz
VOID = 0  # the word of a frame that is too quiet to have a shape
QUIET = 1e-6  # of the loudest frame's energy: -60 dB
# Fewer frames than these in common (1.3 s with both windows) are no evidence.
MIN_FRAMES = 24
# From here on the share of equal bits counts in full. Chance strays further over fewer frames, by
# the root of their number, and is allowed for.
FULL_FRAMES = 61
# Two sounds are one from this similarity on. Strangers, at the best of all alignments, reached
# 0.606 in 4,657 pairs of real recordings (0.625 in 18,000 before short overlaps were drawn down).
# A codec, a gain or a cut alone leaves 0.69 or more; all of them in noise of 30 dB, 0.65 or more.
DUPLICATE = 0.66
# And when it is this much higher than at any alignment a quarter of a second away. Two takes of a
# regular heart agree beat by beat, at every beat: lead 0.03 at most. Sounds that are one: 0.14.
LEAD = 0.08
_APART = 8  # frames

Words = npt.NDArray[np.uint32]
_ONES = np.array([bin(i).count("1") for i in range(1 << 16)], np.uint8)
_BLOCK = 512  # frames transformed at a time: a recording of an hour needs no gigabyte


def fingerprint(wave: npt.NDArray[np.floating], rate: int) -> Words:
    """One word per 32 ms of sound.

    Args:
        wave: [samples] mono.
        rate: Hz; other rates than 16 kHz are resampled.

    Returns:
        [T] with T = 0 for less than 0.55 s of sound; ``VOID`` where there is (nearly) silence.
    """
    sound = np.asarray(wave, np.float32)
    if rate != RATE:
        import soxr

        sound = soxr.resample(sound, rate, RATE, "HQ")
    if len(sound) < FRAME + STEP * HOP:
        return np.zeros(0, np.uint32)
    energy_TB = np.concatenate(list(_energies(sound)))
    total = energy_TB.sum(1)
    loud = (total > QUIET * total.max()) & (total > 0)
    tilt = energy_TB[:, :-1] - energy_TB[:, 1:]
    rises = tilt[STEP:] > tilt[:-STEP]
    words = np.packbits(rises, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)
    words[~(loud[STEP:] & loud[:-STEP])] = VOID
    return words


def _energies(sound: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float64]]:
    """Energy [frames, 33] of each band, a block of frames at a time."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::HOP]
    window = np.hanning(FRAME).astype(np.float32)
    edges = np.searchsorted(np.fft.rfftfreq(FRAME, 1 / RATE), BANDS)
    for start in range(0, len(frames), _BLOCK):
        spectrum = np.abs(np.fft.rfft(frames[start : start + _BLOCK] * window, axis=1)) ** 2
        yield np.add.reduceat(spectrum, edges, axis=1)[:, :-1]


def agreement(one: Words, other: Words, offset: int) -> tuple[float, int]:
    """How two sounds agree when frame ``i`` of one meets frame ``i + offset`` of the other.

    Returns:
        Similarity: the share of equal bits over the whole overlap, 0.5 for strangers and 1 for
        one file, drawn towards 0.5 below ``FULL_FRAMES``; 0.0 below ``MIN_FRAMES``. Then the
        frames compared.
    """
    start, stop = max(0, -offset), min(len(one), len(other) - offset)
    if stop - start < MIN_FRAMES:
        return 0.0, 0
    a, b = one[start:stop], other[start + offset : stop + offset]
    wrong = (a ^ b)[(a != VOID) & (b != VOID)]
    if len(wrong) < MIN_FRAMES:
        return 0.0, len(wrong)
    bits = int(_ONES[wrong & 0xFFFF].sum()) + int(_ONES[wrong >> 16].sum())
    trust = min(1.0, (len(wrong) / FULL_FRAMES) ** 0.5)
    return 0.5 + trust * (0.5 - bits / 32 / len(wrong)), len(wrong)


def matches(one: Words, other: Words) -> float:
    """Similarity at the best alignment; 0.0 when too little can be compared."""
    return peak(one, other)[0]


def peak(one: Words, other: Words) -> tuple[float, float, int]:
    """The best alignment: its similarity, its lead over those elsewhere, the frames compared."""
    offsets = np.arange(MIN_FRAMES - len(one), len(other) - MIN_FRAMES + 1)
    if not len(offsets):
        return 0.0, 0.0, 0
    found = [agreement(one, other, int(offset)) for offset in offsets]
    similarity = np.array([s for s, _ in found])
    best = int(similarity.argmax())
    elsewhere = similarity[np.abs(offsets - offsets[best]) > _APART]
    lead = similarity[best] - max(0.5, elsewhere.max(initial=0.5))
    return float(similarity[best]), float(lead), found[best][1]
