"""Embedding sound files beside the bare loop over the model on the same inputs, in one run.

The bare loop has the spectrograms in memory already and does nothing but call the model in batches
of the same size; ours also reads, decodes and resamples the files, computes spectrograms, and
writes the table. Prints windows per second of each and the ratio, round by round, then the
peak memory of processes that embed few and many files.

    python -m benchmarks.embedding --data <folder>
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

from benchmarks import rows

ROUNDS = 3


def files(data: Path, count: int) -> list[Path]:
    """Recordings of 3 to 30 s at 44.1 kHz, written once."""
    data.mkdir(parents=True, exist_ok=True)
    made = [data / f"{i:05}.wav" for i in range(count)]
    for i, path in enumerate(made):
        if not path.exists():
            r = np.random.default_rng(i)
            samples = int(44_100 * r.uniform(3, 30))
            noise = np.cumsum(r.standard_normal(samples))
            soundfile.write(path, 0.3 * noise / np.abs(noise).max(), 44_100)
    return made


def throughput(data: Path, name: str, count: int, batch: int, device: str) -> None:
    """Ours and the bare loop in turn."""
    import torch

    from acula_model import decoding, embedding, encoders

    torch.manual_seed(0)
    encoder = encoders.build(name).eval().to(device)
    paths = files(data, count)
    front_end = encoder.front_end
    waves = [decoding.read(p, front_end.sample_rate) for p in paths]
    mel_KTM = torch.cat([front_end.windows(wave) for wave in waves])
    del waves

    @torch.inference_mode()
    def bare() -> None:
        for mel_BTM in mel_KTM.split(batch):
            encoder.embed(mel_BTM.to(device)).float().cpu()

    def ours() -> None:
        found = embedding.embed(encoder, paths, batch)
        embedding.write_table(found, encoder.width, data / "embeddings.parquet", {})

    bare()
    ratios: list[float] = []
    for round_ in range(ROUNDS):
        times: dict[str, float] = {}
        order = (("ours", ours), ("bare", bare))
        for what, work in order if round_ % 2 else order[::-1]:
            start = time.perf_counter()
            work()
            times[what] = time.perf_counter() - start
        ratios.append(times["bare"] / times["ours"])
        rates = {what: len(mel_KTM) / took for what, took in times.items()}
        print(  # noqa: T201
            f"{name} on {device}: {rates['ours']:.2f} windows/s, bare loop {rates['bare']:.2f}, "
            f"{ratios[-1]:.1%} of it"
        )
    rows.add(
        f"embedding sound files with {name} on {device}",
        f"{count} files, {len(mel_KTM)} windows",
        "the bare loop over the model, spectra at hand",
        rows.span(ratios),
    )


def memory(data: Path, name: str, count: int) -> float:
    """Peak MiB of a process of its own that embeds that many files."""
    command = [sys.executable, "-m", "benchmarks.embedding", "--data", str(data)]
    command += ["--encoder", name, "--only-embed", str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def only_embed(data: Path, name: str, count: int) -> float:
    """Embed a few files over and over; returns the peak of this process in MiB."""
    from acula_model import embedding, encoders

    paths = files(data, 20)
    encoder = encoders.build(name).eval()
    found = embedding.embed(encoder, (paths[i % len(paths)] for i in range(count)), 16)
    embedding.write_table(found, encoder.width, data / f"{count}.parquet", {})
    # Not getrusage: its peak is inherited from the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Throughput, then memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", default="opera_gt")
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only-embed", type=int)
    asked = parser.parse_args()
    if asked.only_embed:
        print(only_embed(asked.data, asked.encoder, asked.only_embed))  # noqa: T201
        return
    throughput(asked.data, asked.encoder, asked.files, asked.batch, asked.device)
    for count in (100, 400, 1600):
        peak = memory(asked.data, "opera_gt_small", count)
        print(f"opera_gt_small: {count} files, peak {peak:.0f} MiB")  # noqa: T201


if __name__ == "__main__":
    main()
