"""A look-alike of HF_Lung_V1: 15 s at 4 kHz in ``train/`` and ``test/``, with interval labels.

Every date has recordings with and without adventitious sounds, in shares that differ between
dates. In 6 % of recordings annotation and sound contradict each other.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from pipeline.samples import cohort, lung, signal
from pipeline.samples.signal import Job, Rng

RATE, SECONDS = 4000, 15.0
LABEL_ERROR = 0.06
_FIRST, _DAYS = date(2018, 8, 14), 443
_CHANNELS = ["L1", "L2", "L4", "L5", "L6", "L8"]
_DEVICES = {
    "steth": lung.Device(response=((30, -6), (80, 0), (500, 0), (1000, -6), (2000, -18)), hiss=42),
    "trunc": lung.Device(response=((30, -14), (120, 0), (900, 2), (1500, 0), (2000, -6)), hiss=34),
}
_TOKENS = {"fine": "D", "coarse": "D", "wheeze": "Wheeze", "rhonchus": "Rhonchi",
           "stridor": "Stridor"}  # fmt: skip
# Roughly as frequent as the tokens of the release.
_MIXES = ["fine", "coarse", "wheeze", "rhonchus", "fine", "wheeze", "coarse wheeze",
          "coarse rhonchus", "fine", "wheeze stridor"]  # fmt: skip


@dataclass(frozen=True)
class _Sound:
    """What one recording is to hold; an empty mix is normal breathing."""

    patient: str
    mix: str
    device: str
    annotated: bool = True


def write(root: Path, seed: int, scale: float = 1.0) -> None:
    days = [f"{_FIRST + timedelta(days=d):%Y%m%d}" for d in range(_DAYS)]
    dates = cohort.spread("hflung/~", days, cohort.size(60, scale))
    jobs: list[Job] = []
    for i, day in enumerate(dates):
        folder = root / ("test" if i % 4 == 3 else "train")
        sounds = _one_day(seed, day, with_session=i % 4 == 1)
        if i == 0:  # nothing at all annotated: an empty label file
            quiet = replace(next(iter(sounds.values())), mix="", annotated=False)
            sounds[f"steth_{day}_17_00_01"] = quiet
        for stem, sound in sounds.items():
            jobs.append(
                (_recording, folder / f"{stem}.wav", {"seed": seed, "stem": stem, "sound": sound})
            )
    signal.render(jobs)
    _unusable(root, dates[0])


def _one_day(seed: int, day: str, with_session: bool) -> dict[str, _Sound]:
    """Stem -> sound. The first recording is always normal, the second never is."""
    r = signal.rng(seed, "hflung", day)
    ill = float(r.choice([0.1, 0.75]))
    stems: list[tuple[str, str]] = []
    clock = [int(h) for h in np.sort(r.choice(np.arange(8 * 60, 17 * 60), 4, replace=False))]
    for minute in clock[: 2 if with_session else 4]:
        stems.append(("steth", f"steth_{day}_{_time(r, minute, '_')}"))
    if with_session:
        stamp = f"{day[:4]}-{day[4:6]}-{day[6:]}-{_time(r, clock[2], '-')}"
        first, second = r.choice(_CHANNELS, 2, replace=False)
        # Pieces of a long recording are numbered; some are missing.
        for channel, piece in ((first, 0), (first, 2), (second, int(r.integers(0, 18)))):
            stems.append(("trunc", f"trunc_{stamp}-{channel}_{piece}"))
    sounds: dict[str, _Sound] = {}
    usual = str(r.choice(_MIXES))
    for i, (device, stem) in enumerate(stems):
        abnormal = i == 1 or (i > 1 and r.random() < ill)
        mix = usual if r.random() < 0.6 else str(r.choice(_MIXES))
        sounds[stem] = _Sound(f"{day}{i // 3}", mix if abnormal else "", device)
    return sounds


def _time(r: Rng, minute: int, between: str) -> str:
    return between.join(f"{v:02d}" for v in (minute // 60, minute % 60, int(r.integers(0, 60))))


def _recording(path: Path, *, seed: int, stem: str, sound: _Sound) -> None:
    person = lung.chest(signal.rng(seed, "hflung", "chest", sound.patient), age=60)
    r = signal.rng(seed, "hflung", stem)
    wrong = sound.annotated and r.random() < LABEL_ERROR
    kinds = (sound.mix or (str(r.choice(_MIXES)) if wrong else "")).split()
    breathing = lung.breaths(r, person, SECONDS)
    events = lung.episodes(r, kinds, breathing, RATE, SECONDS)
    audible = bool(sound.mix) != wrong
    heard = lung.auscultation(
        r, RATE, SECONDS, person, breathing, events if audible else [], _DEVICES[sound.device]
    )
    lung.write_wav(path, heard, RATE, RATE, "PCM_16")
    lines = _labels(r, breathing, events if sound.mix else []) if sound.annotated else []
    label = path.with_name(f"{stem}_label.txt")
    label.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _labels(r: Rng, breathing: list[lung.Breath], events: list[lung.Event]) -> list[str]:
    """Intervals in order of their start; phases cut by the edge or unclear are left out."""
    spans: list[tuple[float, float, str]] = []
    for breath in breathing:
        for token, start, end, clear in (
            ("I", breath.start, breath.inspired, 0.9),
            ("E", breath.inspired, breath.expired, 0.55),
        ):
            if start >= 0 and end <= SECONDS and r.random() < clear:
                spans.append((start, end, token))
    spans += [(e.start, min(e.end, SECONDS), _TOKENS[e.kind]) for e in events]
    if r.random() < 0.1:  # the order of lines is not guaranteed
        spans.reverse()
    else:
        spans.sort()
    return [f"{token} {_stamp(start)} {_stamp(end)}" for start, end, token in spans]


def _stamp(seconds: float) -> str:
    return f"00:00:{max(seconds, 0):06.3f}"


def _unusable(root: Path, day: str) -> None:
    """Files that an archive can hold and nobody can use."""
    train = root / "train"
    some = "I 00:00:01.500 00:00:02.457\n"
    (train / f"steth_{day}_18_00_01.wav").write_bytes(b"")
    (train / f"steth_{day}_18_00_01_label.txt").write_text(some)
    header = train / f"steth_{day}_18_00_02.wav"
    lung.write_wav(header, np.zeros(0, np.float32), RATE, RATE, "PCM_16")
    (train / f"steth_{day}_18_00_02_label.txt").write_text(some)
    lung.write_wav(
        train / f"steth_{day}_18_00_03.wav", np.zeros(RATE, np.float32), RATE, RATE, "PCM_16"
    )  # audio that nothing describes
    (train / f"steth_{day}_18_00_04_label.txt").write_text(some)  # labels without audio
