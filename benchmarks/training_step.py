"""One training step of OPERA-GT, and how long a fast step waits for its input.

The step is the trainer's own: spectra from 16-bit levels, normalisation, masked loss, alignment
loss against cached teacher vectors, gradients, AdamW. `two_passes` and `one_pass` take a batch size
and return a step; a paired benchmark that has the release beside it can time them with the same
inputs (batch of windows of 256 x 64, teacher width 2048).

    python -m benchmarks.training_step [--batch 4] [--rounds 5]

prints medians of paired rounds, the encoder's bare forward as the unit, and the share of a 20 ms
step that is spent waiting for windows from the cache.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from acula_model.recipes import PAPER
from acula_model.spectra import Raw

WIDTH = 2048  # of the teacher that the release's code fixes
Step = Callable[[], float]
RECIPE = replace(
    PAPER, weights=None, queue=0, warmup=0.0, precision="fp32", epochs=1, within_groups=False
)


def two_passes(batch: int) -> Step:
    """The default objective: a masked pass for the masked loss, a clean one for the alignment."""
    return _step(batch, one_pass=False)


def one_pass(batch: int) -> Step:
    """The masked pass serves both losses."""
    return _step(batch, one_pass=True)


def _step(batch: int, one_pass: bool) -> Step:
    from acula_model.training.feed import MicroBatch
    from acula_model.training.model import Aligner
    from acula_model.training.trainer import Trainer

    recipe = replace(RECIPE, batch_size=batch, one_pass=one_pass)
    trainer = Trainer(recipe, Aligner(recipe, WIDTH), 1_000_000, "cpu")
    random = torch.Generator().manual_seed(0)
    front_end = trainer.model.encoder.front_end
    raw = Raw.of(80 * torch.rand(batch, 256, 64, generator=random) - 80, front_end.depth)
    given = MicroBatch(
        raw=raw,
        seed_B=np.arange(batch),
        said=list(range(batch)),
        text_GLE=torch.randn(batch, 1, WIDTH, generator=random),
        group_G=torch.zeros(batch, dtype=torch.long),
        finding_G=torch.arange(batch),
        key_G=torch.arange(batch),
        share=1.0,
        last=True,
        pairs=batch,
    )
    return lambda: trainer.step([given], "the benchmark")["loss"]


def waiting(step_s: float = 0.02, batch: int = 24, steps: int = 200) -> float:
    """Share of the time that a step of ``step_s`` waits for windows of the cache."""
    from acula_model.front_end import MelFrontEnd
    from acula_model.mels import Mels
    from acula_model.training.feed import Feed
    from acula_model.training.pairs import Pairs

    r = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        count, frames = 2_000, 700
        path = Path(folder) / "levels.npy"
        np.save(path, r.integers(-32_768, 32_767, (count * frames, 64), np.int16))
        ids = [f"{i:016x}" for i in range(count)]
        index = {i: (n * frames, frames, [0.0], [0.001]) for n, i in enumerate(ids)}
        meta = {i: {"dataset": "d", "modality": "m", "full_hash": i} for i in ids}
        source = Mels([(np.load(path, mmap_mode="r"), index)], meta, MelFrontEnd())
        vectors = {i: r.standard_normal(WIDTH, np.float32) for i in ids}
        feed = Feed(source, Pairs(meta, vectors, ids, "full"), 0, 0, 1)
        plan = [[r.choice(ids, batch, replace=False).tolist()] for _ in range(steps)]
        began = time.perf_counter()
        for given in feed(plan, 1):
            source.front_end.normalise(given.raw.to("cpu"))
            time.sleep(step_s)
        return feed.waited / (time.perf_counter() - began)


def main(batch: int, rounds: int) -> None:
    """Paired rounds: each case once per round."""
    from acula_model import encoders

    encoder = encoders.build("opera_gt").eval()
    mel = torch.rand(batch, 256, 64)

    @torch.inference_mode()
    def forward() -> float:
        return float(encoder.embed(mel).sum())

    cases = {
        "bare forward": forward,
        "two passes, cached teacher": two_passes(batch),
        "one pass, cached teacher": one_pass(batch),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for name, run in cases.items():
            began = time.perf_counter()
            run()
            if turn:  # the first is for warming up
                seconds[name].append(time.perf_counter() - began)
    base = seconds["bare forward"]
    for name, found in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(found, base, strict=True))
        print(f"{name:28} {statistics.median(found):7.2f} s  {ratio:5.2f}")  # noqa: T201
    print(f"waiting for input in steps of 20 ms: {waiting():.2%}")  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.batch, arguments.rounds)
