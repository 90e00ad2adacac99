"""One training step of OPERA-GT beside the release's, and how long a fast step waits for its input.

The step is the trainer's own: spectra from 16-bit levels, normalisation, masked loss, alignment
loss against cached teacher vectors, gradients, AdamW. `two_passes` and `one_pass` take a batch size
and return a step; a paired benchmark that has the release beside it can time them with the same
inputs (batch of windows of 256 x 64, teacher width 2048).

    export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
    REF_ACULA=<checkout> REF_OPERA=<checkout> python -m benchmarks.training_step [--batch 4]

prints medians of paired rounds (wall time and processor time, which a busy machine disturbs less),
peak memory of a fresh process per case, and the share of a 20 ms step that is spent waiting for
windows from the cache. Without the allocator's settings page faults dominate; without the
checkouts (`released.py`) the encoder's bare forward is the unit.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from acula_model.recipes import PAPER
from acula_model.spectra import Raw
from benchmarks import released, rows

WIDTH = 2048  # of the teacher that the release's code fixes
THREADS = 2
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


def forward(batch: int) -> Step:
    """The encoder's bare forward, without gradient."""
    from acula_model import encoders

    encoder = encoders.build("opera_gt").eval()
    mel = torch.rand(batch, 256, 64)

    @torch.inference_mode()
    def run() -> float:
        return float(encoder.embed(mel).sum())

    return run


CASES: dict[str, Callable[[int], Step]] = {
    "released, cached teacher": lambda batch: released.cached_teacher(batch, WIDTH),
    "bare forward": forward,
    "two passes, cached teacher": two_passes,
    "one pass, cached teacher": one_pass,
}

GOALS = {"two passes, cached teacher": "1.10", "one pass, cached teacher": "0.55"}


def peak(name: str, batch: int) -> float:
    """Largest resident size in GiB of a fresh process that makes two steps."""
    code = f"from benchmarks import training_step as t; t.two_steps({name!r}, {batch})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def two_steps(name: str, batch: int) -> None:
    """Make two steps (the second has the optimiser's moments) and print the peak in GiB."""
    torch.set_num_threads(THREADS)
    step = CASES[name](batch)
    step(), step()
    # Not getrusage, which counts what this process was forked from.
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in status if line.startswith("VmHWM")]
    print(int(line.split()[1]) / 2**20)  # noqa: T201


def main(batch: int, rounds: int) -> None:
    """Paired rounds: each case once per round, in rotating order."""
    torch.set_num_threads(THREADS)
    names = [n for n in CASES if released.available() or not n.startswith("released")]
    cases = {name: CASES[name](batch) for name in names}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            wall, cpu = time.perf_counter(), time.process_time()
            cases[name]()
            if turn:  # the first is for warming up
                seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    cases.clear()
    memory = {name: peak(name, batch) for name in names}
    base = names[0]
    for name, found in seconds.items():
        paired = list(zip(found, seconds[base], strict=True))
        wall, cpu = ([a[i] / b[i] for a, b in paired] for i in (0, 1))
        print(  # noqa: T201
            f"{name:28} {statistics.median(w for w, _ in found):7.2f} s"
            f"  x{statistics.median(wall):.2f} [{min(wall):.2f}..{max(wall):.2f}] of {base}"
            f", processor time x{statistics.median(cpu):.2f} [{min(cpu):.2f}..{max(cpu):.2f}]"
            f", peak {memory[name]:.2f} GiB x{memory[name] / memory[base]:.2f}"
        )
        if name != base:
            rows.add(
                f"training step of OPERA-GT, batch {batch}: {name}",
                f"{statistics.median(w for w, _ in found):.1f} s, peak {memory[name]:.2f} GiB",
                f"time of: {base} ({memory[base]:.2f} GiB)",
                rows.span(wall),
                GOALS.get(name, ""),
            )
    rows.add("waiting for input, in steps of 20 ms", f"{waiting():.2%} of the time", goal="2 %")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.batch, arguments.rounds)
