"""Normalising one part, as the pipeline does it, beside the bare loop: decode, mono, soxr, FLAC.

One process each, the same files, in turn; ratios are of speed, round by round. Ours is a worker as
the pool starts it, which keeps the memory of one sound for the next. The pipeline's way also
hashes, checks, measures, and writes the tar and the table. The common way is `librosa.load` and a
wav file, which compresses nothing and cannot read WebM; the bare loop of WebM decodes with PyAV.

    python -m benchmarks.normalisation --data <folder>
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
import av.error
import librosa
import numpy as np
import soundfile
import soxr

from benchmarks import rows
from pipeline import pool, samples
from pipeline.readers import reader
from pipeline.records import Recording
from pipeline.steps import part_audio, parts

ROUNDS, JOBS = 5, 16
FORMS = {
    "icbhi": "wav at 44.1 kHz", "uk_covid19": "wav at 48 kHz", "circor": "wav at 4 kHz",
    "coughvid": "WebM Opus",
}  # fmt: skip


def files(data: Path, dataset: str) -> tuple[Path, list[parts.Item]]:
    """A sample archive and the items of one part."""
    root = data / dataset
    if not root.exists():
        root.mkdir(parents=True)
        samples.sample(dataset).write(root, 3, 0.5)
    found = [r for r in reader(dataset).read(root) if isinstance(r, Recording)]
    return root, [(r.native_id, r.member, 0, 0) for r in found if _sound(root / r.member)]


def _sound(path: Path) -> bool:
    """Whether it can be decoded: samples hold broken files, which every way treats otherwise."""
    try:
        with av.open(path) as source:
            return any(True for _ in source.decode(audio=0))
    except (av.error.FFmpegError, IndexError):
        return False


def bare(root: Path, items: list[parts.Item]) -> float:
    """The least that must be done; returns seconds of audio."""
    heard = 0.0
    for _, member, _, _ in items:
        wave, rate = soundfile.read(root / member, dtype="float32", always_2d=True)
        mono = soxr.resample(wave.mean(axis=1), rate, 16_000, "HQ")
        soundfile.write(io.BytesIO(), mono, 16_000, format="FLAC", subtype="PCM_16")
        heard += len(wave) / rate
    return heard


def made(root: Path, folder: Path, dataset: str, items: list[parts.Item]) -> None:
    """One part, as the pipeline does it."""
    parts.record(folder, *part_audio.make(root, folder, dataset, "timed", items))


def loaded(root: Path, items: list[parts.Item]) -> None:
    """The common way: librosa, and a wav file of each."""
    for _, member, _, _ in items:
        wave, _ = librosa.load(root / member, sr=16_000)
        soundfile.write(io.BytesIO(), wave, 16_000, format="WAV", subtype="PCM_16")


def webm(root: Path, items: list[parts.Item]) -> float:
    """As ``bare``, by PyAV."""
    heard = 0.0
    for _, member, _, _ in items:
        with av.open(root / member) as source:
            frames = [f.to_ndarray() for f in source.decode(audio=0)]
        wave = np.concatenate(frames, axis=1).mean(axis=0)
        mono = soxr.resample(wave.astype(np.float32), 48_000, 16_000, "HQ")
        soundfile.write(io.BytesIO(), mono, 16_000, format="FLAC", subtype="PCM_16")
        heard += len(wave) / 48_000
    return heard


def main() -> None:
    """Five rounds per dataset after a warm-up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    with pool.started(1) as worker:
        for dataset, form in FORMS.items():
            _beside(worker, data, dataset, form)
    root, items = files(data, "icbhi")
    jobs = [(root, data / "parts", "icbhi", f"icbhi{n}", items) for n in range(JOBS)]
    ratios = []
    for _ in range(ROUNDS):
        taken_by = []
        for workers in (1, 2):
            start = time.perf_counter()
            with pool.started(workers) as workers_:
                for done in [workers_.submit(part_audio.make, *job) for job in jobs]:
                    parts.record(data / "parts", *done.result())
            taken_by.append(time.perf_counter() - start)
        ratios.append(taken_by[0] / taken_by[1])
    heading = f"{JOBS} parts of ICBHI, starts included"
    rows.add("two processes", heading, "one process", rows.span(ratios), "1.7")


def _beside(worker: ProcessPoolExecutor, data: Path, dataset: str, form: str) -> None:
    root, items = files(data, dataset)
    least = webm if dataset == "coughvid" else bare
    heard = least(root, items)
    cases: dict[str, Callable[[], object]] = {
        "ours": lambda: worker.submit(made, root, data / "parts", dataset, items).result(),
        "bare": lambda: least(root, items),
    }
    if least is bare:
        cases["librosa"] = lambda: loaded(root, items)
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(ROUNDS + 1):
        for name in list(cases)[round_ % len(cases) :] + list(cases)[: round_ % len(cases)]:
            start = time.perf_counter()
            cases[name]()
            if round_:  # the first is for warming up
                taken[name].append(time.perf_counter() - start)
    speed = f"{heard / statistics.median(taken['ours']):,.0f} audio-s/s on one core"
    for other, words, goal in (
        ("bare", "bare decode, resample, encode", "0.85"),
        ("librosa", "`librosa.load` and a wav file", "0.59"),
    ):
        if other in taken:
            ratios = [b / o for b, o in zip(taken[other], taken["ours"], strict=True)]
            rows.add(f"normalising {form}", speed, words, rows.span(ratios), goal)


if __name__ == "__main__":
    main()
