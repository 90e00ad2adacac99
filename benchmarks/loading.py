"""Training input in clips per second: ours from the cache and from shards, beside what bounds it.

Every case makes batches of 24 windows of 256 x 64 on one thread. The bare memory map reads float16
windows by fancy indexing and does nothing else; the bare loop decodes each FLAC, already in
memory, and computes its log-mel. In every round each case runs once, in rotating order; ratios
are taken round by round. With REF_ACULA set to a checkout of the AcuLa release, its loader reads
the same sounds as 16 kHz wav files, which spares it the resampling of real ones.

    REF_ACULA=<checkout> python -m benchmarks.loading --data <folder>
"""

import argparse
import io
import os
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from acula_model import mels, shards
from acula_model.flac_source import FlacSource
from acula_model.front_end import MelFrontEnd
from acula_model.spectra import Source

BATCH, SECONDS, ROUNDS = 24, 10.0, 7
OURS = MelFrontEnd()
Batches = Iterator[torch.Tensor]


def body_sound(number: int) -> np.ndarray:
    """Ten seconds of breathing noise and beats, as 16-bit samples."""
    r = np.random.default_rng(number)
    time_S = np.arange(int(SECONDS * 16_000)) / 16_000
    breath = np.convolve(r.standard_normal(len(time_S)), np.ones(12) / 12, "same")
    wave = 0.1 * breath * (1 + np.sin(2 * np.pi * 0.3 * time_S))
    wave += 0.2 * np.sin(2 * np.pi * 60 * time_S) * (np.sin(2 * np.pi * 1.2 * time_S) > 0.9)
    return (32_767 * np.clip(wave, -1, 1)).astype("<i2")


def build(data: Path, clips: int) -> list[bytes]:
    """Shards, wav files and a packed array of windows, written once; returns the FLACs."""
    flacs: list[bytes] = []
    (data / "wav").mkdir(parents=True, exist_ok=True)
    for number in range(clips):
        pcm = body_sound(number)
        file = io.BytesIO()
        soundfile.write(file, pcm, 16_000, format="FLAC")
        flacs.append(file.getvalue())
        soundfile.write(data / "wav" / f"{number:05}.wav", pcm, 16_000)
    for start in range(0, clips, 64):
        pairs = [
            shards.Pair(flac=flacs[n], meta={"pair_id": f"{n:016x}", "audio_sha256": f"{n}"})
            for n in range(start, min(start + 64, clips))
        ]
        shards.write(data / f"{start:05}.tar", pairs)
    waves = [shards.wave(flac, "", 16_000) for flac in flacs]
    packed = [OURS.windows(wave)[0].numpy().astype(np.float16) for wave in waves]
    np.save(data / "packed.npy", np.stack(packed))
    return flacs


def orders(clips: int, epochs: int) -> Iterator[np.ndarray]:
    """Numbers of the clips of each batch."""
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(clips)
        for start in range(0, clips - BATCH + 1, BATCH):
            yield order[start : start + BATCH]


def ours(source: Source, clips: int, epochs: int) -> Batches:
    """Random windows, normalised."""
    ids = sorted(source.meta)
    for step, order in enumerate(orders(clips, epochs)):
        seed_B = order * 1_000_003 + step
        yield OURS.normalise(source.crops([ids[n] for n in order], seed_B).to("cpu"))


def memory_map(data: Path, clips: int, epochs: int) -> Batches:
    """The floor of any reading: float16 windows that are ready."""
    packed = np.load(data / "packed.npy", mmap_mode="r")
    for order in orders(clips, epochs):
        yield torch.from_numpy(packed[np.sort(order)].astype(np.float32))


def bare_loop(flacs: list[bytes], clips: int, epochs: int) -> Batches:
    """The floor of decoding: FLAC to samples to log-mel, nothing cut or read from disk."""
    for order in orders(clips, epochs):
        found: list[torch.Tensor] = []
        for n in order:
            samples, _ = soundfile.read(io.BytesIO(flacs[n]), dtype="float32")
            found.append(OURS.log_mel(samples)[: OURS.frames])
        yield torch.stack(found)


def released(data: Path, clips: int, workers: int) -> Batches:
    """The loader of the release; its import of an augmentation that it never calls is replaced."""
    for name in ("augly", "augly.audio"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["augly"].audio = sys.modules["augly.audio"]  # pyright: ignore
    sys.path.insert(0, os.environ["REF_ACULA"])
    from dataloader import AudioTextPairDataset  # pyright: ignore

    paths = [str(data / "wav" / f"{n:05}.wav") for n in range(clips)]
    texts = [f"the recording number {n} has crackles" for n in range(clips)]
    pairs = AudioTextPairDataset(paths, texts, _tokenizer(texts), 128, 8)
    loader: Any = torch.utils.data.DataLoader(
        pairs, batch_size=BATCH, shuffle=True, num_workers=workers, drop_last=True
    )
    return (batch["audio"] if isinstance(batch, dict) else batch[0] for batch in loader)


def _tokenizer(texts: list[str]) -> Any:
    """A small one, trained on the texts: nothing is downloaded."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel()  # pyright: ignore
    special = ["[PAD]", "[UNK]"]
    made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=500, special_tokens=special))
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]")


def rate(batches: Batches) -> float:
    """Clips per second after the first batch."""
    first = next(batches)
    assert first.shape == (BATCH, 256, 64), first.shape
    start, clips = time.perf_counter(), 0
    for batch in batches:
        clips += len(batch)
    return clips / (time.perf_counter() - start)


def main() -> None:
    """A round to warm up, then the counted ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=240)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data, clips = asked.data, asked.clips
    flacs = build(data, clips)
    cached = mels.load(data, data / "mels", OURS)
    direct = {workers: FlacSource(data, OURS, workers) for workers in (0, 2)}
    cases: dict[str, Callable[[], Batches]] = {
        "bare memory map": lambda: memory_map(data, clips, 20),
        "ours, cache": lambda: ours(cached, clips, 20),
        "bare decode and log-mel": lambda: bare_loop(flacs, clips, 1),
        "ours, shards, 0 workers": lambda: ours(direct[0], clips, 1),
        "ours, shards, 2 workers": lambda: ours(direct[2], clips, 1),
    }
    if "REF_ACULA" in os.environ:
        cases["released loader, 0 workers"] = lambda: released(data, clips, 0)
        cases["released loader, 2 workers"] = lambda: released(data, clips, 2)
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(ROUNDS + 1):
        names = list(cases)
        turn = round_ % len(names)
        for name in names[turn:] + names[:turn]:
            rates[name].append(rate(cases[name]()))
    for name, found in rates.items():
        said = [f"{name:28} {statistics.median(found[1:]):9.0f} clips/s"]
        for base in ("bare memory map", "bare decode and log-mel", "released loader, 0 workers"):
            if base in rates and base != name:
                ratio = sorted(a / b for a, b in zip(found[1:], rates[base][1:], strict=True))
                middle = statistics.median(ratio)
                said.append(f"x{middle:.2f} [{ratio[0]:.2f}..{ratio[-1]:.2f}] of {base}")
        print(", ".join(said))  # noqa: T201


if __name__ == "__main__":
    main()
