"""Training input in clips per second: ours from the cache and from shards, beside what bounds it.

Every case makes batches of 24 windows of 256 x 64 on one thread. The bare memory map reads float16
windows by fancy indexing and does nothing else; the bare loop decodes each FLAC, already in
memory, and computes its log-mel. In every round each case runs once, in rotating order; ratios
are taken round by round. With REF_ACULA set to a checkout of the AcuLa release, its loader reads
the same sounds, once at the rates of the public datasets (six of ten files at 44.1 or 48 kHz),
and once as 16 kHz wav files, which spares it the resampling. It takes the first 8.19 s; "published
windows" are those, the other cases take random ones.

    REF_ACULA=<checkout> python -m benchmarks.loading --data <folder>

`cached` and `direct` are for a paired benchmark that has shards (`flac-*.tar`) and the release's
loader beside them: the trainer's own feed, windows as published, teacher vectors included.
"""

import argparse
import io
import os
import statistics
import sys
import tarfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch

from acula_model import mels, shards
from acula_model.flac_source import FlacSource
from acula_model.front_end import MelFrontEnd
from acula_model.spectra import Source
from acula_model.training.feed import Feed
from acula_model.training.pairs import Pairs
from benchmarks import rows

BATCH, SECONDS, ROUNDS = 24, 10.0, 7
OURS = MelFrontEnd()
PUBLISHED = MelFrontEnd(profile="acula-train")  # the first 8.19 s, zeros after a shorter recording
WIDTH = 2560  # of the teacher
RATES = (48_000, 48_000, 48_000, 48_000, 48_000, 44_100, 4_000, 4_000, 4_000, 8_000)
WAV, NATIVE = "wav", "native"  # folders: all at 16 kHz, and each at its own rate
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
    for folder in (WAV, NATIVE):
        (data / folder).mkdir(parents=True, exist_ok=True)
    for number in range(clips):
        pcm = body_sound(number)
        file = io.BytesIO()
        soundfile.write(file, pcm, 16_000, format="FLAC")
        flacs.append(file.getvalue())
        soundfile.write(data / WAV / f"{number:05}.wav", pcm, 16_000)
        rate = RATES[number % len(RATES)]
        soundfile.write(data / NATIVE / f"{number:05}.wav", soxr.resample(pcm, 16_000, rate), rate)
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
    """Windows as the source's front end takes them, normalised."""
    ids = sorted(source.meta)
    for step, order in enumerate(orders(clips, epochs)):
        seed_B = order * 1_000_003 + step
        yield source.front_end.normalise(source.crops([ids[n] for n in order], seed_B).to("cpu"))


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


def released(
    data: Path, clips: int, workers: int, shuffle: bool = True, folder: str = WAV
) -> Batches:
    """The loader of the release; its import of an augmentation that it never calls is replaced."""
    for name in ("augly", "augly.audio"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["augly"].audio = sys.modules["augly.audio"]  # pyright: ignore
    sys.path.insert(0, os.environ["REF_ACULA"])
    from dataloader import AudioTextPairDataset  # pyright: ignore

    paths = [str(data / folder / f"{n:05}.wav") for n in range(clips)]
    texts = [f"the recording number {n} has crackles" for n in range(clips)]
    pairs = AudioTextPairDataset(paths, texts, _tokenizer(texts), 128, 8)
    loader: Any = torch.utils.data.DataLoader(
        pairs, batch_size=BATCH, shuffle=shuffle, num_workers=workers, drop_last=True
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


def cached(folder: str, workers: int) -> Batches:
    """Training input from a cache of spectra that was made of the folder's shards.

    ``workers`` is the signature's: the feed has one thread.
    """
    own = _own_shards(Path(folder))
    return _fed(mels.load(own, own / "mels", PUBLISHED, lambda _: None), epochs=40)


def direct(folder: str, workers: int) -> Batches:
    """Training input decoded from the folder's shards as it is needed."""
    return _fed(FlacSource(_own_shards(Path(folder)), PUBLISHED, workers), epochs=1)


def _own_shards(folder: Path) -> Path:
    """Shards of ours with the sounds of any `flac-*.tar`; written once."""
    own = folder / "ours"
    if not own.exists():
        own.mkdir()
        for tar in sorted(folder.glob("flac-*.tar")):
            with tarfile.open(tar) as file:
                found = [
                    shards.Pair(flac=content.read(), meta=_meta(member.name))
                    for member in file
                    if member.name.endswith(".flac") and (content := file.extractfile(member))
                ]
            shards.write(own / tar.name, found)
    return own


def _meta(name: str) -> dict[str, Any]:
    pair_id = f"{int(name.partition('.')[0]):016x}"
    return {
        "pair_id": pair_id, "audio_sha256": pair_id, "dataset": "d", "modality": "m",
        "full_hash": pair_id, "full_terms": [pair_id],
    }  # fmt: skip


def _fed(source: Source, epochs: int) -> Batches:
    """Batches as the trainer gets them, normalised."""
    ids = sorted(source.meta)
    random = np.random.default_rng(0)
    vectors = {i: random.standard_normal(WIDTH).astype(np.float32) for i in ids}
    feed = Feed(source, Pairs(source.meta, vectors, ids, "full"), 0, 0, 1)
    plan = [[[ids[n] for n in order]] for order in orders(len(ids), epochs)]
    for given in feed(plan, 1):
        yield source.front_end.normalise(given.raw.to("cpu"))


def difference(data: Path, clips: int) -> float:
    """Largest difference between our windows as published, from the cache, and the release's."""
    source = mels.load(data, data / "mels", PUBLISHED)
    ids = sorted(source.meta)
    worst = 0.0
    for n, theirs in enumerate(released(data, clips, 0, shuffle=False)):
        here = ids[n * BATCH : (n + 1) * BATCH]
        ours = PUBLISHED.normalise(source.crops(here, np.zeros(len(here), np.int64)).to("cpu"))
        worst = max(worst, float((ours - theirs).abs().max()))
    return worst


def rate(batches: Batches) -> float:
    """Clips per second after the first batch."""
    first = next(batches)
    assert first.shape == (BATCH, 256, 64), first.shape
    start, clips = time.perf_counter(), 0
    for batch in batches:
        clips += len(batch)
    return clips / (time.perf_counter() - start)


GOALS = {
    ("ours, cache", "bare memory map"): "0.30",
    ("ours, cache", "released loader, 0 workers"): "50",
    ("ours, shards, published windows, 0 workers", "released loader, 0 workers"): "1.7",
    ("ours, shards, published windows, 0 workers", "released loader, 16 kHz, 0 workers"): "",
    ("ours, shards, 0 workers", "bare decode and log-mel"): "0.80",
}


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
    published = FlacSource(data, PUBLISHED, 0)
    cases: dict[str, Callable[[], Batches]] = {
        "bare memory map": lambda: memory_map(data, clips, 20),
        "ours, cache": lambda: ours(cached, clips, 20),
        "bare decode and log-mel": lambda: bare_loop(flacs, clips, 1),
        "ours, shards, 0 workers": lambda: ours(direct[0], clips, 1),
        "ours, shards, 2 workers": lambda: ours(direct[2], clips, 1),
        "ours, shards, published windows, 0 workers": lambda: ours(published, clips, 1),
    }
    if "REF_ACULA" in os.environ:
        cases["released loader, 0 workers"] = lambda: released(data, clips, 0, folder=NATIVE)
        cases["released loader, 2 workers"] = lambda: released(data, clips, 2, folder=NATIVE)
        cases["released loader, 16 kHz, 0 workers"] = lambda: released(data, clips, 0)
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(ROUNDS + 1):
        names = list(cases)
        turn = round_ % len(names)
        for name in names[turn:] + names[:turn]:
            rates[name].append(rate(cases[name]()))
    for name, found in rates.items():
        said = [f"{name:42} {statistics.median(found[1:]):9.0f} clips/s"]
        for base in {base: None for _, base in GOALS}:
            if base in rates and base != name:
                ratio = sorted(a / b for a, b in zip(found[1:], rates[base][1:], strict=True))
                middle = statistics.median(ratio)
                said.append(f"x{middle:.2f} [{ratio[0]:.2f}..{ratio[-1]:.2f}] of {base}")
                if (goal := GOALS.get((name, base))) is not None:
                    rate_ = f"{statistics.median(found[1:]):,.0f} clips/s"
                    rows.add(f"training input: {name}", rate_, base, rows.span(ratio), goal)
        print(", ".join(said))  # noqa: T201

    if "REF_ACULA" in os.environ:
        worst = difference(data, clips)
        print(f"largest difference to the released loader's windows: {worst:.1e}")  # noqa: T201


if __name__ == "__main__":
    main()
