"""A look-alike of ZCHSound: a clean and a noisy set, ids ordered by class, ages in days.

Each defect has its own sound: a ventricular septal defect a harsh holosystolic murmur, an atrial
one a wide split and an ejection murmur, a patent duct a continuous murmur, and an open foramen
ovale little or nothing.
"""

import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr

from pipeline.samples import heart
from pipeline.samples.signal import Job, Rng, render, rng

RATE = 8000  # Hz
ROOT = "ZCHSound"
CLEAN, NOISE = "clean Heartsound Data", "Noise Heartsound Data Details"
# Shares of the classes, in the order of the ids.
_CLEAN = {"NORMAL": 0.56, "ASD": 0.13, "PDA": 0.05, "PFO": 0.08, "VSD": 0.18}
_NOISE = {"NORMAL": 0.53, "PDA": 0.05, "PFO": 0.11, "VSD": 0.06, "ASD": 0.25}
_FEWEST = 40
_ERROR = 0.06  # share of recordings whose sound does not fit the diagnosis
# (set, class, place in the class) -> what is odd about the file or its row.
_ODD = {
    ("clean", "NORMAL", 2): "header only",
    ("clean", "NORMAL", 3): "0.3 s",
    ("clean", "NORMAL", 9): "extra chunk",
    ("clean", "ASD", 0): "extra chunk",
    ("clean", "NORMAL", 10): "long",
    ("clean", "NORMAL", 12): "no age",
    ("clean", "VSD", 1): "no file",
    ("noise", "NORMAL", 1): "no row",
}
# The second of each pair is a copy of the first; the last pair has two diagnoses.
_COPIES = {
    ("clean", "NORMAL", 8): ("clean", "NORMAL", 5),
    ("clean", "NORMAL", 11): ("clean", "NORMAL", 6),
    ("clean", "VSD", 2): ("clean", "ASD", 1),
}
_Place = tuple[str, str, int]


@dataclass(frozen=True, kw_only=True)
class _Child:
    name: str
    place: _Place
    sex: str
    days: int

    @property
    def odd(self) -> str | None:
        return _ODD.get(self.place)

    def row(self) -> str:
        age = "" if self.odd == "no age" else str(self.days)
        return f"{self.name};{self.sex};{age};{self.place[1]}"


def write(root: Path, seed: int, scale: float = 1.0) -> None:
    children = _children(seed, max(_FEWEST, round(240 * scale)))
    by_place = {c.place: c for c in children}
    jobs: list[Job] = []
    for child in children:
        if child.odd == "no file":
            continue
        source = by_place[_COPIES.get(child.place, child.place)]
        folder = CLEAN if child.place[0] == "clean" else NOISE
        jobs.append((_recording, root / ROOT / folder / child.name, {
            "seed": seed, "source": source.name, "part": source.place[0],
            "diagnosis": source.place[1], "years": source.days / 365.25, "odd": child.odd,
        }))  # fmt: skip
    render(jobs)
    # One table as a spreadsheet programme would save it, with a byte order mark and CRLF.
    for part, name, encoding, end in (
        ("clean", "Clean", "utf-8", "\n"), ("noise", "Noise", "utf-8-sig", "\r\n"),
    ):  # fmt: skip
        rows = [c.row() for c in children if c.place[0] == part and c.odd != "no row"]
        text = end.join(["fileName;gender;age(days);diagnosis", *rows, ""])
        table = root / ROOT / f"{name} Heartsound Data Details.csv"
        table.write_text(text, encoding=encoding, newline="")


def _children(seed: int, n: int) -> list[_Child]:
    clean = round(0.75 * n)
    children: list[_Child] = []
    for part, shares, size in (("clean", _CLEAN, clean), ("noise", _NOISE, n - clean)):
        for diagnosis, share in shares.items():
            for i in range(max(1, round(share * size))):
                name = f"ZCH{len(children) + 1:04d}.wav"
                r = rng(seed, "zchsound", name, "child")
                days = int(r.integers(1, 6)) if part == "noise" else _age(r)
                sex = str(r.choice(["M", "F"]))
                children.append(_Child(name=name, place=(part, diagnosis, i), sex=sex, days=days))
    return children


def _age(r: Rng) -> int:
    """Days; most ages beyond a year are whole months converted, as in the original tables."""
    days = float(
        np.exp(r.uniform(np.log(2), np.log(5045))) if r.random() < 0.4 else r.uniform(60, 5045)
    )
    return int(days) if days < 100 else round(days / 30.4) * 30 + round(days / 365.25) * 5


def _heart(r: Rng, diagnosis: str, years: float) -> heart.Heart:
    pace, tone = heart.resting_heart(r, years)
    base = heart.Heart(beats_per_minute=pace, tone=tone, split=r.uniform(0.005, 0.03))
    if r.random() < _ERROR:
        diagnosis = "NORMAL" if diagnosis != "NORMAL" else str(r.choice(["ASD", "VSD"]))
    if diagnosis == "VSD":
        murmur = ("Holosystolic", "Plateau", "High" if r.random() < 0.6 else "Medium", "Harsh")
    elif diagnosis == "ASD":
        base = replace(base, split=r.uniform(0.05, 0.07))
        murmur = ("Mid-systolic", "Diamond", "Medium" if r.random() < 0.6 else "Low", "Blowing")
    elif diagnosis == "PDA":
        murmur = ("Continuous", "Diamond", "Medium" if r.random() < 0.6 else "High", "Harsh")
    elif diagnosis == "PFO" and r.random() < 0.5:
        murmur = ("Early-systolic", "Decrescendo", "Medium", "Blowing")
    else:
        return base
    timing, shape, pitch, quality = murmur
    level = r.uniform(-15, -10) if diagnosis == "PFO" else r.uniform(-10, -1)
    heard = heart.Murmur(timing=timing, shape=shape, pitch=pitch, quality=quality, level_db=level)
    return replace(base, murmurs=(heard,))


def _recording(
    path: Path, seed: int, source: str, part: str, diagnosis: str, years: float, odd: str | None
) -> None:
    r = rng(seed, "zchsound", source)
    seconds = {"0.3 s": 0.3, "long": 20.0}.get(odd or "", round(float(r.uniform(8, 10)), 2))
    sounds = _heart(r, diagnosis, years)
    room = heart.room(r, quiet=-12.0 if part == "noise" else 3.0)
    signal, _ = heart.sound(r, seconds, sounds, heart.device(r), room)
    pcm = heart.pcm(r, soxr.resample(signal, heart.RATE, RATE))
    path.write_bytes(_riff(b"" if odd == "header only" else pcm, tagged=odd == "extra chunk"))


def _riff(pcm: bytes, tagged: bool) -> bytes:
    """A wav file; a tagged one has a chunk of 49 characters, padded to even, before the samples."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    label = b"recorded with an electronic stethoscope, channel 1"[:49]
    tag = struct.pack("<4sI", b"note", len(label)) + label + b"\0" if tagged else b""
    data = struct.pack("<4sI", b"data", len(pcm)) + pcm
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form + tag + data), b"WAVE") + form + tag + data
