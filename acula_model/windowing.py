"""What of a recording a window hears.

A profile is a rule for cutting a recording. ``consecutive`` is ours, the same in training and
probing: windows of the spectrum of the whole recording, so that their edges hear what is really
beside them. The others cut the sound as published front ends do, so that published numbers can be
checked; they differ in trimming, in what fills a short clip and in how much of a long clip is
heard.
Only numpy is imported: this module is part of a cache key that light code computes.
"""

from typing import Literal

import numpy as np

from acula_model.waves import Wave

Profile = Literal["consecutive", "acula-train", "opera-eval", "opera-whole"]
Fill = Literal["repeat", "zeros"]

# What the published profiles do, in words.
PUBLISHED: dict[Profile, str] = {
    "acula-train": "the first 8.19 s, zeros after a shorter recording",
    "opera-eval": "silence trimmed, chunks of 8.18 s that overlap by half, the last repeats itself "
    "in front; mean over the chunks",
    "opera-whole": "silence trimmed, the whole recording, a short one repeats itself in front",
}
# A shorter rest of a recording says little that its full windows do not; fraction of a window.
SHORTEST_REST = 0.25
# AcuLa release: 8 s and 3,000 samples more, which makes 256 frames (8 s make only 251).
ACULA_SAMPLES = 131_000
# OPERA evaluation of operaGT: 8.18 s at 16 kHz, again 256 frames.
OPERA_SAMPLES = 130_880
# librosa.effects.trim as OPERA calls it, at 16 kHz: frames of 0.1 s, half overlapping.
TRIM_FRAME, TRIM_HOP, TRIM_DB = 1_600, 800, 60.0


def step(frames: int, overlap: float) -> int:
    """Frames from the start of a window to that of the next."""
    return max(round(frames * (1 - overlap)), 1)


def starts(total: int, frames: int, overlap: float = 0.0) -> list[int]:
    """Where windows of a spectrum start that follow each other and hear the whole of it.

    A rest of at least ``SHORTEST_REST`` of a window gets one that ends with the recording.

    Args:
        total: Frames of the spectrum, at least ``frames``.
        frames: In a window.
        overlap: Share of a window in [0, 1) that the next one hears again.
    """
    found = list(range(0, total - frames + 1, step(frames, overlap)))
    if total - frames - found[-1] >= SHORTEST_REST * frames:
        found.append(total - frames)
    return found


def in_words(window_s: float, step_s: float) -> str:
    """The policy of ``starts``, of a window's length and of ``step`` in seconds."""
    return (
        f"windows of {window_s:.4g} s, each {step_s:.4g} s after the last; a rest of "
        f"{SHORTEST_REST:.0%} of a window or more is heard by a last window that ends with the "
        "recording; a recording shorter than a window repeats its own sound; training draws one "
        "window at random from anywhere in the recording, an embedding is the mean over all"
    )


def cut(profile: Profile, wave: Wave, window: int) -> Wave:
    """Cut a recording as a published front end does.

    Args:
        profile: Any but ``consecutive``, whose windows are cut from a spectrum; see ``starts``.
        wave: mono samples, shape [S].
        window: shortest window of ``opera-whole`` in samples (the others have their own).

    Returns:
        Samples, shape [K, window]; K is at least 1. ``opera-whole`` gives [1, window or more].
    """
    if profile == "acula-train":
        return acula_train(wave)
    return opera_eval(wave) if profile == "opera-eval" else opera_eval_whole(wave, window)


def repeat_whole(wave: Wave, length: int) -> Wave:
    """CLAP's filling: as many whole copies as fit, then zeros."""
    copies = np.tile(wave, length // len(wave))
    return np.pad(copies, (0, length - len(copies)))


def acula_train(wave: Wave) -> Wave:
    """The AcuLa release in training: the first 8.19 s, zeros after a shorter clip. [1, 131000]."""
    head = wave[:ACULA_SAMPLES]
    return np.pad(head, (0, ACULA_SAMPLES - len(head)))[None]


def opera_eval(wave: Wave) -> Wave:
    """OPERA's probing of operaGT: silence trimmed, half-overlapping chunks of 8.18 s.

    A clip longer than one chunk always gets a last, filled chunk that starts half a chunk after
    the last full one, even where the full ones have heard everything. [K, 130880].
    """
    wave, hop = trim(wave), OPERA_SAMPLES // 2
    if len(wave) <= OPERA_SAMPLES:
        return fill_in_front(wave, OPERA_SAMPLES)[None]
    full = range(0, len(wave) - OPERA_SAMPLES + 1, hop)
    chunks = [wave[start : start + OPERA_SAMPLES] for start in full]
    chunks.append(fill_in_front(wave[len(full) * hop :], OPERA_SAMPLES))
    return np.stack(chunks)


def opera_eval_whole(wave: Wave, shortest: int, fill: Fill = "repeat") -> Wave:
    """OPERA's probing of operaCT and operaCE: the trimmed clip as one window.

    Args:
        wave: samples, shape [S].
        shortest: samples that a shorter clip is filled up to (set per task: 2, 8, 20 or 30 s).
        fill: ``repeat`` as in ``fill_in_front``; ``zeros`` repeats the clip from the start as
            often as it fits and leaves the rest zero.

    Returns:
        Samples, shape [1, max(shortest, samples after trimming)].
    """
    wave = trim(wave)
    if len(wave) >= shortest:
        return wave[None]
    if fill == "repeat":
        return fill_in_front(wave, shortest)[None]
    copies = np.tile(wave, (shortest - 1) // len(wave))
    return np.pad(copies, (0, shortest - len(copies)))[None]


def fill_in_front(wave: Wave, length: int) -> Wave:
    """Fill up to ``length`` samples by repeating the clip before itself; it keeps its end.

    OPERA draws the side with ``random.seed(7456); random.random() < 0.5``: always this one.
    """
    return np.resize(wave[::-1], length)[::-1].copy()  # torch wants no negative strides


def trim(wave: Wave) -> Wave:
    """Drop a start and an end that are 60 dB below the loudest frame of 0.1 s.

    Same result as ``librosa.effects.trim(top_db=60, frame_length=1600, hop_length=800)``; a
    silent clip stays whole.
    """
    padded = np.pad(wave, TRIM_FRAME // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, TRIM_FRAME)[::TRIM_HOP]
    power = np.maximum(np.mean(np.square(frames), axis=1), 1e-10)  # librosa's floor
    loud = np.flatnonzero(10 * np.log10(power / power.max()) > -TRIM_DB)
    return wave[loud[0] * TRIM_HOP : (loud[-1] + 1) * TRIM_HOP]
