"""Batches read ahead of the step that needs them, and how long it had to wait for them."""

# B = pairs of this process, G = pairs of all processes

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from acula_model import noise
from acula_model.spectra import Raw, Source
from acula_model.training import pairs as pair_data

AHEAD = 3  # micro-batches


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What is computed at once.

    Attributes:
        raw: Spectra of this process's pairs, as ``Source.crops`` gives them.
        seed_B: Of this process's pairs.
        said: Places, among all pairs, of those that have a report.
        text_GLE: Teacher vectors of those.
        group_G: Dataset and modality of those.
        finding_G: Equal for equal findings.
        key_G: Pair ids as numbers.
        share: This micro-batch's share of its step.
        last: Whether the step ends with it.
        pairs: Of all processes.
    """

    raw: Raw
    seed_B: npt.NDArray[np.int64]
    said: list[int]
    text_GLE: Tensor | None
    group_G: Tensor
    finding_G: Tensor
    key_G: Tensor
    share: float
    last: bool
    pairs: int


class Feed:
    """Micro-batches of an epoch, prepared by a thread of its own.

    Attributes:
        waited: Seconds that the caller waited.
    """

    def __init__(
        self, source: Source, pairs: pair_data.Pairs, seed: int, rank: int, world: int
    ) -> None:
        self._source, self._pairs, self._seed = source, pairs, seed
        self._rank, self._world = rank, world
        self.waited = 0.0

    def __call__(
        self, steps: Sequence[Sequence[Sequence[str]]], epoch: int
    ) -> Iterator[MicroBatch]:
        """Micro-batches of the given steps, in order.

        Args:
            steps: For each step its micro-batches' pair ids, over all processes.
            epoch: From 1; decides windows and masks.
        """
        jobs = [
            (ids, len(ids) / sum(map(len, step)), n == len(step) - 1)
            for step in steps
            for n, ids in enumerate(step)
        ]
        waiting: deque[Future[MicroBatch]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="feed") as pool:
            for job in jobs[:AHEAD]:
                waiting.append(pool.submit(self._prepare, *job, epoch))
            for n in range(len(jobs)):
                started = time.perf_counter()
                ready = waiting.popleft().result()
                self.waited += time.perf_counter() - started
                if n + AHEAD < len(jobs):
                    waiting.append(pool.submit(self._prepare, *jobs[n + AHEAD], epoch))
                yield ready

    def _prepare(self, ids: Sequence[str], share: float, last: bool, epoch: int) -> MicroBatch:
        size = len(ids) // self._world
        own = ids[self._rank * size : (self._rank + 1) * size]
        seed_B = noise.seeds(own, self._seed, epoch)
        said = [n for n, i in enumerate(ids) if i in self._pairs.report]
        spoken = [ids[n] for n in said]
        return MicroBatch(
            raw=self._source.crops(own, seed_B),
            seed_B=seed_B,
            said=said,
            text_GLE=self._pairs.text(spoken) if spoken else None,
            group_G=self._pairs.group(spoken),
            finding_G=self._pairs.finding(spoken),
            key_G=pair_data.keys(spoken),
            share=share,
            last=last,
            pairs=len(ids),
        )
