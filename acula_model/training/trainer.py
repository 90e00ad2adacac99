"""One optimiser step: losses of micro-batches, their gradients, and the update."""

# B = pairs of this process, G = of all processes, T = frames, M = mel bins, D = encoder width

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from acula_model import gather
from acula_model.augment import Augment
from acula_model.losses.cka import MIN_GROUP
from acula_model.queue import PairQueue
from acula_model.recipes import Recipe
from acula_model.training import ranks
from acula_model.training.errors import TrainingError
from acula_model.training.feed import MicroBatch
from acula_model.training.model import Aligner, MovingAverage

LOSSES = ("loss", "alignment_loss", "masked_loss")


@contextmanager
def _compiler_errors(compiling: bool) -> Iterator[None]:
    """Of ``torch.compile``, whose pages of trace end in one sentence.

    Around the backward pass, too: for changing sizes its graph is compiled only there.
    """
    if not compiling:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        reason = " ".join(str(error).split("\n\n")[0].split())[:300]
        what = "leave compile out of the recipe"
        if "compiler" in reason.lower():
            what = f"install a C++ compiler (g++, or what CXX names), or {what}"
        raise TrainingError(
            f"the encoder cannot be compiled: {reason}. To go on, {what}"
        ) from error


class Trainer:
    """A model with what its training needs: optimiser, schedule, queue, moving average.

    Attributes:
        model: On the device.
        done: Optimiser steps so far.
    """

    def __init__(self, recipe: Recipe, model: Aligner, steps: int, device: str):
        self.recipe, self.device, self.steps, self.done = recipe, device, steps, 0
        self.model = model.to(device)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        temperature = list(model.loss.parameters())
        weights = [p for p in self.parameters if not any(p is t for t in temperature)]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": weights, "weight_decay": recipe.weight_decay},
                {"params": temperature, "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            fused=True,
        )
        self.queue = PairQueue(recipe.queue) if recipe.queue else None
        self.average = MovingAverage(model, recipe.ema) if recipe.ema else None
        self.augment = Augment(**recipe.augment)
        half = recipe.precision == "bf16" or (
            recipe.precision == "auto" and device.startswith("cuda")
        )
        self._autocast = torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=half)
        encoder = model.encoder
        self._embed, self._own, self._both = (
            encoder.embed,
            encoder.self_supervised_loss,
            encoder.masked_pass,
        )
        if recipe.compile:
            self._embed = torch.compile(self._embed)
            self._own = torch.compile(self._own)
            self._both = torch.compile(self._both)

    def learning_rate(self) -> float:
        """Of the next step."""
        warm = max(1, int(self.recipe.warmup * self.steps))
        if self.done < warm:
            return self.recipe.learning_rate * (self.done + 1) / warm
        left = 1 - (self.done - warm) / max(1, self.steps - warm)
        share = left if self.recipe.decay == "linear" else 0.5 * (1 - math.cos(math.pi * left))
        return self.recipe.learning_rate * share

    def step(self, micro_batches: Sequence[MicroBatch], where: str) -> dict[str, float]:
        """Update the weights once.

        Args:
            micro_batches: Of one step; their shares add up to 1.
            where: Named in errors.

        Returns:
            Losses, mean over the step's pairs.

        Raises:
            TrainingError: A loss or the gradient is not a number; the encoder cannot be compiled.
        """
        # Dropout draws from here; a resumed run draws the same.
        torch.manual_seed((self.recipe.seed * 1_000_003 + self.done) * 997 + ranks.rank())
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros(3, device=self.device)
        with _compiler_errors(self.recipe.compile):
            for batch in micro_batches:
                sums += batch.share * self._backward(batch)
        ranks.average_gradients(self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm)
        total, alignment, masked = ranks.mean(sums).tolist()
        if not math.isfinite(total) or not torch.isfinite(norm):
            raise TrainingError(
                f"loss is {total} in {where} (masked {masked}, alignment {alignment}, gradient "
                f"norm {norm.item()}); lower the learning rate or look at the inputs"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.step()
        self.done += 1
        if self.average:
            self.average.update(self.model)
        return dict(zip(LOSSES, (total, alignment, masked), strict=True))

    def _backward(self, batch: MicroBatch) -> Tensor:
        """Add this micro-batch's gradients; returns its three losses."""
        recipe, encoder = self.recipe, self.model.encoder
        seed_B = torch.from_numpy(batch.seed_B).to(self.device)
        raw_BTM = batch.raw.to(self.device)
        mel_BTM = encoder.front_end.normalise(self.augment(raw_BTM, seed_B, encoder.front_end))
        aligning = recipe.alignment_weight > 0 and batch.text_GLE is not None
        masked, sound_BD = torch.zeros((), device=self.device), None
        if recipe.one_pass and aligning and recipe.masked_weight > 0:
            with self._autocast:
                masked, sound_BD = self._both(mel_BTM, seed_B)
        elif recipe.masked_weight > 0:
            with self._autocast:
                masked = self._own(mel_BTM, seed_B)
            # Its graph is freed before the clean pass makes one of its own: half the memory.
            (batch.share * recipe.masked_weight * masked).backward()
            masked = masked.detach()
        if aligning and sound_BD is None:
            with self._autocast:
                sound_BD = self._embed(mel_BTM)
        alignment = torch.zeros((), device=self.device)
        left = recipe.masked_weight * masked if masked.requires_grad else None
        if aligning and sound_BD is not None:
            alignment = self._alignment(sound_BD.float(), batch)
            weighted = recipe.alignment_weight * alignment
            left = weighted if left is None else left + weighted
        if left is not None:
            (batch.share * left).backward()
        total = recipe.masked_weight * masked + recipe.alignment_weight * alignment
        return torch.stack([total, alignment, masked]).detach().float()

    def _alignment(self, sound_BD: Tensor, batch: MicroBatch) -> Tensor:
        assert batch.text_GLE is not None
        sound_GD = gather.gather(sound_BD)[batch.said]
        text_GX = batch.text_GLE.flatten(1).to(self.device)
        group_G, finding_G, key_G = (
            t.to(self.device) for t in (batch.group_G, batch.finding_G, batch.key_G)
        )
        layers, width = batch.text_GLE.shape[1:]
        parts = (sound_GD, text_GX, group_G, finding_G)
        if self.queue is not None:
            joined = self.queue.joined(*parts, key_G)
            self.queue.push(*parts, key_G)
            parts = joined
        sound, text, group, finding = parts
        if int(group.unique(return_counts=True)[1].max()) < MIN_GROUP:
            return 0 * sound.sum()  # the first steps of small mixed batches: nothing to compare
        return self.model.alignment(
            sound,
            text.unflatten(1, (layers, width)),
            group if self.recipe.within_groups else None,
            finding,
        )

    def state(self) -> dict[str, Any]:
        """For a saved state."""
        return {
            "done": self.done,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "queue": self.queue.state_dict() if self.queue is not None else None,
            "average": self.average.state() if self.average else None,
        }

    def load(self, state: dict[str, Any]) -> None:
        """From a saved state."""
        self.done = state["done"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.queue is not None:
            self.queue.load_state_dict(state["queue"])
        if self.average:
            self.average.load(state["average"])
