"""A look-alike of NoseMic: a flat folder of 30 s of nasal breathing, its rate in the file's name.

Every breath is two rushes of air, inspiration brighter than expiration. How loud, bright and even
somebody breathes belongs to the person and says nothing about the rate. The two middle fields of a
name count sessions and takes; what they mean in the release is unknown.
"""

from pathlib import Path

import numpy as np
import soundfile

from pipeline.samples import signal
from pipeline.samples.signal import Job, Rng, Signal, render, rng

RATE = 16000  # Hz
SECONDS = 30
# The users of the published evaluation.
USERS = (*range(4, 15), *range(17, 22))
_SESSIONS = 2


def write(root: Path, seed: int, scale: float = 1.0) -> None:
    takes = max(1, round(2 * scale))
    folder = root / "audio"
    jobs: list[Job] = []
    for user in USERS:
        usual = float(rng(seed, "nosemic", user).uniform(12, 18))
        for session in range(1, _SESSIONS + 1):
            for take in range(1, takes + 1):
                r = rng(seed, "nosemic", user, session, take)
                # At rest, then after exercise; noted to half a breath.
                rate = round(2 * usual * float(r.uniform(0.8, 1.1) * (1, 1.5)[session - 1])) / 2
                path = folder / f"{user}_{session}_{take}_{rate:g}.wav"
                arguments = {"seed": seed, "user": user, "rate": rate, "take": path.stem}
                jobs.append((_recording, path, arguments))
    # The published parser stops at both of these.
    odd = folder / f"{USERS[0]}_1_{takes + 1}_again_15.wav"
    jobs.append((_recording, odd, {"seed": seed, "user": USERS[0], "rate": 15.0, "take": "odd"}))
    render(jobs)
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")


def _recording(path: Path, seed: int, user: int, rate: float, take: str) -> None:
    who, r = rng(seed, "nosemic", user, "nose"), rng(seed, "nosemic", take)
    n = SECONDS * RATE
    bright, depth = float(who.uniform(1500, 4500)), float(who.uniform(0.5, 1.0))
    share = float(who.uniform(0.35, 0.48))  # of a breath that is inspiration
    uneven = float(who.uniform(0.02, 0.08))
    count = int(SECONDS * rate / 60) + 3
    lengths = 60 / rate * np.clip(r.normal(1, uneven, count), 0.7, 1.3)
    starts = np.cumsum(lengths) - lengths - float(r.uniform(0, 1)) * lengths[0]
    inspired = signal.bumps(n, RATE, list(starts), list(0.9 * share * lengths))
    expired = signal.bumps(
        n, RATE, list(starts + share * lengths), list(0.8 * (1 - share) * lengths)
    )
    sound = inspired * _noise(r, 300, bright, -3)
    sound += depth * expired * _noise(r, 150, 0.6 * bright, -5)
    sound += 10 ** (float(r.uniform(-35, -18)) / 20) * _noise(r, 50, 7500, -4)
    sound *= 10 ** (float(r.normal(-26, 4)) / 20) / np.sqrt(np.mean(sound**2))
    # Four bits a sample: half a minute of each take then needs a quarter of a megabyte.
    soundfile.write(path, np.clip(sound, -1, 1), RATE, subtype="IMA_ADPCM", format="WAV")


def _noise(r: Rng, low: float, high: float, tilt_db: float) -> Signal:
    """Noise of 5 s over and over: made from a spectrum, it has no seam, and it is made fast."""
    once = signal.band(r, 5 * RATE, RATE, low, high, tilt_db)
    return np.tile(once, SECONDS // 5)
