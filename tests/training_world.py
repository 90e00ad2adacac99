"""Pairs of two kinds of made-up sounds, whose reports say the kind; small enough to train on."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from acula_model import mels, shards
from acula_model.front_end import MelFrontEnd
from acula_model.recipes import SAMPLE
from acula_model.training import loop

TINY = {
    "patch": (8, 64),
    "width": 32,
    "depth": 1,
    "heads": 2,
    "decoder_width": 16,
    "decoder_heads": 2,
}
RECIPE = dataclasses.replace(
    SAMPLE,
    name="tiny",
    encoder_config=TINY,
    epochs=12,
    batch_size=32,
    projection=(32, 16),
    learning_rate=1e-2,
)
Vectors = dict[str, npt.NDArray[np.float32]]


def sound(r: np.random.Generator, kind: int, seconds: float = 2.0) -> bytes:
    """Clicks or none, under noise and a hum whose levels say nothing."""
    count = int(16_000 * seconds)
    time = np.arange(count) / 16_000
    wave = r.uniform(0.005, 0.03) * r.standard_normal(count)
    wave += r.uniform(0.01, 0.05) * np.sin(2 * np.pi * r.uniform(100, 3000) * time)
    if kind:
        wave[:: int(r.integers(2500, 4000))] += 0.9
    file = io.BytesIO()
    soundfile.write(file, wave, 16_000, format="FLAC")
    return file.getvalue()


def write(root: Path, count: int = 96, groups: int = 1) -> Vectors:
    """A shard of pairs, and the noisy vectors of their reports."""
    r = np.random.default_rng(0)
    pairs, vectors = [], Vectors()
    for i in range(count):
        kind = i % 2
        meta = {
            "pair_id": f"{(i * 2654435761) % 2**61:016x}",
            "dataset": f"d{i // 2 % groups}",
            "modality": "lung",
            "split": "train" if i < 64 else "val",
            "align": i < 64,
            "audio_sha256": f"{i}",
            "full_hash": f"report{i}",
            "strict_hash": f"report{i}",
            "full_text": f"Clicks are {'' if kind else 'not '}heard in recording {i}.",
            "full_terms": [f"kind={kind}"],
            "strict_terms": [f"kind={kind}"],
            "recording_id": f"d/{i}",
        }
        pairs.append(shards.Pair(flac=sound(r, kind, r.uniform(1, 12)), meta=meta))
        clean = np.array([kind, 1 - kind, 0, 0, 0, 0, 0, 0])
        vectors[f"report{i}"] = (clean + 0.2 * r.standard_normal(8)).astype(np.float32)
    shards.write(root / "a.tar", pairs)
    return vectors


def given(root: Path, vectors: Vectors, aligned: int = 64) -> loop.Given:
    """The first pairs to learn from, the rest to measure on."""
    source = mels.load(root, root / "mels", MelFrontEnd(), lambda _: None)
    ids = sorted(source.meta, key=lambda i: int(source.meta[i]["recording_id"].split("/")[1]))
    return loop.Given(source=source, vectors=vectors, aligned=ids[:aligned], gauge=ids[aligned:])


def silent(_: str) -> None:
    """Progress that nobody reads."""


def killed_at(line_start: str) -> Callable[[str], None]:
    """Progress that kills the run, with the state of that line on disk."""

    def progress(line: str) -> None:
        if line.startswith(line_start):
            raise KeyboardInterrupt

    return progress
