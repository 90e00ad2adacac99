"""pairs + recipe -> an aligned encoder: epochs of steps, held-out gauges, states, a checkpoint."""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from acula_model import checkpoint, features
from acula_model.recipes import Recipe
from acula_model.spectra import Source
from acula_model.training import (
    feed,
    held_out,
    order,
    pairs,
    ranks,
    report,
    state,
    stopping,
)
from acula_model.training.errors import InterruptedTrainingError, TrainingError
from acula_model.training.model import Aligner
from acula_model.training.trackers import TrackerName
from acula_model.training.trainer import LOSSES, Trainer


@dataclass(frozen=True, kw_only=True)
class Result:
    """Where the encoder is, which epoch it is from, and what happened in each epoch."""

    folder: Path
    best_epoch: int
    history: list[dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a run learns from and measures on.

    Attributes:
        source: Windows of all pairs.
        vectors: Report hash -> teacher vector [E], or [L, E] of several layers.
        aligned: Pair ids to learn from.
        gauge: Pair ids of held-out persons outside every test.
        only_heard: Pair ids whose sound enters the encoder's own loss and whose text is not read.
    """

    source: Source
    vectors: pairs.Vectors
    aligned: Sequence[str]
    gauge: Sequence[str]
    only_heard: Sequence[str] = ()


def align(
    recipe: Recipe,
    given: Given,
    folder: Path,
    progress: Callable[[str], None] = print,
    device: str = "auto",
    about: Mapping[str, Any] | None = None,
    teacher: Path | None = None,
    key: str = "",
    save_seconds: float = 600.0,
    trackers: Sequence[TrackerName] = (),
) -> Result:
    """Train; continue where a killed run stopped, with the same result.

    Under ``torchrun`` all processes call this with the same arguments; the first one writes.

    Args:
        recipe: What to do.
        given: Pairs, windows and vectors.
        folder: Gets ``state.pt``, ``best.pt``, ``log.jsonl`` and ``checkpoint`` of the best epoch.
        progress: Called with a line per epoch, and now and then within one.
        device: ``auto`` takes a GPU when there is one.
        about: JSON values to keep with the checkpoint, such as which teacher it was.
        teacher: State of a fitted teacher, to keep with the checkpoint.
        key: Of everything the run reads; a state with another one is refused.
        save_seconds: Between two saved states within an epoch; each epoch ends with one.
        trackers: Where else numbers go; their packages are the user's.

    Raises:
        TrainingError: Too few pairs, a pair without vector, a loss that is not a number, a
            collapse, a full disk. The best state so far then is in ``checkpoint``.
        CheckpointError: The weights to start from are of another model.
    """
    device = ranks.pick(device)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        ranks.group(device),
        stopping.event() as stopped,
        report.Reporter(folder, progress, trackers, asdict(recipe), ranks.rank() > 0) as said,
    ):
        run = _Run(recipe, given, folder, device, f"{recipe.key}-{key}", said)
        run.resume()
        try:
            run.epochs(stopped, save_seconds)
        except TrainingError as error:
            if isinstance(error, InterruptedTrainingError) or not run.best["epoch"]:
                raise
            where = run.export(about, teacher)
            raise type(error)(
                f"{error}. The best state so far, of epoch {run.best['epoch']}, is in {where}"
            ) from error
        ranks.wait()
        place = run.export(about, teacher)
        ranks.wait()
    return Result(folder=place, best_epoch=run.best["epoch"], history=run.history)


class _Run:
    """State of a run between epochs."""

    def __init__(
        self,
        recipe: Recipe,
        given: Given,
        folder: Path,
        device: str,
        key: str,
        said: report.Reporter,
    ):
        self.recipe, self.given, self.folder, self.key, self.said = recipe, given, folder, key, said
        self.learn = pairs.Pairs(
            given.source.meta, given.vectors, given.aligned, recipe.text, given.only_heard
        )
        self.check = pairs.Pairs(given.source.meta, given.vectors, given.gauge, recipe.text)
        if small := {g: len(m) for g, m in self.learn.groups.items() if len(m) < order.MIN_GROUP}:
            said.say(f"left out, fewer than {order.MIN_GROUP} pairs in a group: {small}")
        if recipe.shuffle_reports:
            self.learn.shuffle_reports(recipe.seed)
        per_epoch = len(self._steps(1))
        if per_epoch == 0:
            raise TrainingError(
                f"no group has {order.MIN_GROUP} alignment pairs; got {len(given.aligned)} pairs"
            )
        model = Aligner(recipe, self.learn.width, self.learn.layers)
        if ranks.rank() == 0:
            state.room(folder, model)
        self.trainer = Trainer(recipe, model, per_epoch * recipe.epochs, device)
        self.gauges = held_out.Gauges(self.check, given.source, recipe)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] = {"epoch": 0, "cka": -math.inf}
        self.sums, self.steps_done = dict.fromkeys(LOSSES, 0.0), 0

    def resume(self) -> None:
        """Go on from a saved state; without one, measure the model before training."""
        found = state.load(self.folder / state.STATE, self.key, self.trainer.device)
        if found is None:
            if ranks.rank() == 0:
                self.gauges.begin(self.trainer.model)
            return
        self.trainer.load(found["trainer"])
        self.history, self.best = found["history"], found["best"]
        self.sums, self.steps_done = found["sums"], found["steps_done"]
        self.gauges.start = found["gauges"]
        within = f" and {self.steps_done} steps" if self.steps_done else ""
        self.said.say(f"resuming after epoch {len(self.history)}{within} of {self.recipe.epochs}")

    def epochs(self, stopped: threading.Event, save_seconds: float) -> None:
        """All that are left."""
        for epoch in range(len(self.history) + 1, self.recipe.epochs + 1):
            line = self._epoch(epoch, stopped, save_seconds)
            if ranks.rank() == 0:
                line |= self._gauge(epoch)
            self.history.append(line)
            self.sums, self.steps_done = dict.fromkeys(LOSSES, 0.0), 0
            self.save()
            self.said.epoch(line, self.trainer.done, self._in_words(line))
            collapsed = ranks.rank() == 0 and self.gauges.collapse()
            if ranks.any_of(bool(collapsed), self.trainer.device):
                raise TrainingError(collapsed or "training collapsed; see the first process")

    def _steps(self, epoch: int) -> list[list[list[str]]]:
        recipe = self.recipe
        batches = order.epoch(
            self.learn.groups,
            recipe.batch_size,
            (recipe.seed, epoch),
            recipe.batches,
            recipe.temperature,
        )
        cut = [order.micro(b, recipe.micro_batch, ranks.world()) for b in batches]
        return [step for step in cut if step]

    def _epoch(self, epoch: int, stopped: threading.Event, save_seconds: float) -> dict[str, float]:
        steps = self._steps(epoch)
        left = steps[self.steps_done :]
        read = feed.Feed(
            self.given.source, self.learn, self.recipe.seed, ranks.rank(), ranks.world()
        )
        batches = read(left, epoch)
        saved = began = time.monotonic()
        heard = 0
        for step in left:
            micro_batches = (next(batches) for _ in step)
            where = f"epoch {epoch}, step {self.steps_done + 1}"
            found = self.trainer.step(list(micro_batches), where)
            self.sums = {k: v + found[k] for k, v in self.sums.items()}
            self.steps_done += 1
            heard += sum(map(len, step))
            seconds = time.monotonic() - began
            facts = {
                **found,
                "learning_rate": self.trainer.optimizer.param_groups[0]["lr"],
                "pairs_per_s": heard / seconds,
                "waiting": read.waited / seconds,
            }
            self.said.step(facts, self.trainer.done, lambda: self._where(epoch, steps, facts))  # noqa: B023
            stop = ranks.any_of(stopped.is_set(), self.trainer.device)
            if stop or time.monotonic() - saved > save_seconds:
                self.save()
                saved = time.monotonic()
            if stop:
                raise InterruptedTrainingError(
                    f"stopped in {where}; the state is saved, and the same command goes on from it"
                )
        mean = {k: v / self.steps_done for k, v in self.sums.items()}
        seconds = time.monotonic() - began
        return {
            **mean,
            "epoch": epoch,
            "seconds": seconds,
            "waiting": read.waited / seconds,
            "pairs_per_s": heard / seconds,
        }

    def _gauge(self, epoch: int) -> dict[str, float]:
        """Measure held-out pairs; keep the weights if they are the best."""
        model, average = self.trainer.model, self.trainer.average
        before = average.applied(model) if average else None
        line = self.gauges.measure(model, f"epoch {epoch}")
        cka = line["held_out_cka"]
        # Without an alignment loss or without held-out pairs, the last epoch is the best known.
        blind = self.recipe.alignment_weight == 0 or math.isnan(cka)
        if blind or cka >= self.best["cka"]:
            self.best = {"epoch": epoch, "cka": cka}
            state.save(self.folder / state.BEST, {"key": self.key, "model": model.state_dict()})
        if before is not None:
            model.load_state_dict(before)
        return line

    def save(self) -> None:
        """What a killed run needs."""
        if ranks.rank() > 0:
            return
        content = {
            "key": self.key,
            "trainer": self.trainer.state(),
            "history": self.history,
            "best": self.best,
            "sums": self.sums,
            "steps_done": self.steps_done,
            "gauges": self.gauges.start,
        }
        state.save(self.folder / state.STATE, content)

    def export(self, about: Mapping[str, Any] | None, teacher: Path | None) -> Path:
        """Write the best weights as a checkpoint."""
        place = self.folder / "checkpoint"
        if ranks.rank() > 0:
            return place
        model, recipe = self.trainer.model, self.recipe
        if found := state.load(self.folder / state.BEST, self.key, self.trainer.device):
            model.load_state_dict(found["model"])
        kept = model.kept()
        if recipe.alignment_weight > 0:
            # In the order of ids, which are hashes: a sample of all groups.
            some = sorted(self.learn.report)[: features.BRIDGE_PAIRS]
            text = self.learn.text(some)[:, 0]
            kept["bridge"] = features.bridge(
                model.encoder, model.heads, self.given.source, some, text
            )
        meta = {
            "recipe": asdict(recipe),
            "best_epoch": self.best["epoch"],
            "held_out_cka": self.best["cka"],
        }
        checkpoint.save(place, model.encoder, kept, meta | dict(about or {}), teacher)
        return place

    def _where(self, epoch: int, steps: Sequence[Any], facts: Mapping[str, float]) -> str:
        left = (self.recipe.epochs - epoch + 1) * len(steps) - self.steps_done
        rate = facts["pairs_per_s"]
        minutes = left * self.recipe.batch_size / rate / 60
        return (
            f"epoch {epoch} of {self.recipe.epochs}, step {self.steps_done} of {len(steps)}: loss "
            f"{facts['loss']:.3f}, {rate:.0f} pairs/s, about {minutes:.0f} min left"
        )

    def _in_words(self, line: Mapping[str, float]) -> str:
        said = (
            f"epoch {line['epoch']:.0f} of {self.recipe.epochs}: loss {line['loss']:.3f}, masked "
            f"{line['masked_loss']:.4f}"
        )
        return said + (self.gauges.in_words(line) if "held_out_cka" in line else "")
