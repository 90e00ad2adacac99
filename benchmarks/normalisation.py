"""Normalising one part, as the pipeline does it, beside the bare loop: decode, mono, soxr, FLAC.

One process, the same files, in turn; prints audio-seconds per second of each and the ratio of
their times, round by round. The pipeline's way also hashes, checks, measures, and writes the tar
and the table.

    python -m benchmarks.normalisation --data <folder>
"""

import argparse
import io
import statistics
import time
from pathlib import Path

import soundfile
import soxr

from pipeline import samples
from pipeline.readers import reader
from pipeline.records import Recording
from pipeline.steps import parts


def files(data: Path, dataset: str) -> tuple[Path, list[parts.Item]]:
    """A sample archive and the items of one part."""
    root = data / dataset
    if not root.exists():
        root.mkdir(parents=True)
        samples.sample(dataset).write(root, 3, 0.5)
    rows = [r for r in reader(dataset).read(root) if isinstance(r, Recording)]
    return root, [(r.native_id, r.member, 0, 0) for r in rows]


def bare(root: Path, items: list[parts.Item]) -> float:
    """The least that must be done; returns seconds of audio."""
    heard = 0.0
    for _, member, _, _ in items:
        try:
            wave, rate = soundfile.read(root / member, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            continue
        mono = soxr.resample(wave.mean(axis=1), rate, 16_000, "HQ")
        soundfile.write(io.BytesIO(), mono, 16_000, format="FLAC", subtype="PCM_16")
        heard += len(wave) / rate
    return heard


def main() -> None:
    """Five rounds per dataset after a warm-up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    for dataset in ("icbhi", "uk_covid19", "circor"):  # 44.1 kHz, 48 kHz and 4 kHz wav
        root, items = files(data, dataset)
        heard = bare(root, items)
        ratios, rates = [], []
        for round_ in range(5):
            start = time.perf_counter()
            parts.make(root, data / "parts", dataset, f"{dataset}{round_}", items)
            middle = time.perf_counter()
            bare(root, items)
            ours, least = middle - start, time.perf_counter() - middle
            ratios.append(ours / least)
            rates.append(heard / ours)
        print(  # noqa: T201
            f"{dataset:12} {statistics.median(rates):6.0f} audio-s/s on one core, "
            f"{statistics.median(ratios):.2f} x the bare loop's time "
            f"[{min(ratios):.2f}, {max(ratios):.2f}]"
        )


if __name__ == "__main__":
    main()
