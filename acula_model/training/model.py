"""The encoder and the heads that meet in a shared space."""

# B = pairs, D = encoder width, E = teacher width, P = width of the shared space

import copy

import torch
from torch import Tensor, nn

from acula_model import checkpoint, encoders, heads, losses
from acula_model.recipes import Recipe


class Aligner(nn.Module):
    """Encoder, projection heads of sound and of each teacher layer, and the alignment loss."""

    def __init__(self, recipe: Recipe, text_width: int, text_layers: int = 1):
        super().__init__()
        torch.manual_seed(recipe.seed)
        self.encoder = encoders.build(recipe.encoder, **recipe.encoder_config)
        if recipe.weights:
            checkpoint.restore(self.encoder, recipe.weights)
        self.encoder.remember()
        hidden, out = recipe.projection
        self.audio_head = heads.mlp(self.encoder.width, hidden, out)
        self.text_heads = nn.ModuleList(
            {
                "mlp": lambda: heads.mlp(text_width, hidden, out),
                "linear": lambda: nn.Linear(text_width, out, bias=False),
                "none": nn.Identity,
            }[recipe.text_head]()
            for _ in range(text_layers)
        )
        self.loss = losses.build(recipe.alignment_loss)

    @property
    def heads(self) -> tuple[nn.Module, nn.Module]:
        """Of sound, and of the text of the teacher's first layer."""
        return self.audio_head, self.text_heads[0]

    def alignment(
        self, audio_BD: Tensor, text_BLE: Tensor, group_B: Tensor | None, finding_B: Tensor
    ) -> Tensor:
        """Alignment loss, mean over the teacher's layers, in full precision.

        A debiased estimate is a small difference of large sums.
        """
        audio_BP = self.audio_head(audio_BD.float())
        found = [
            self.loss(audio_BP, head(text_BE.float()), group_B, finding_B)
            for head, text_BE in zip(self.text_heads, text_BLE.unbind(1), strict=True)
        ]
        return torch.stack(found).mean()

    def kept(self) -> dict[str, nn.Module]:
        """Heads by the name that a checkpoint gives them."""
        found: dict[str, nn.Module] = {"audio_head": self.audio_head}
        for layer, head in enumerate(self.text_heads):
            found["text_head" if layer == 0 else f"text_head_{layer}"] = head
        return found


class MovingAverage:
    """Exponential moving average of a model's weights (Polyak and Juditsky, 1992).

    In the first steps it follows faster, or the random start would stay in it.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.steps = decay, 0
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """After an optimiser step."""
        self.steps += 1
        decay = min(self.decay, self.steps / (10 + self.steps))
        for key, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[key].lerp_(value, 1 - decay)
            else:
                self.average[key].copy_(value)

    def applied(self, model: nn.Module) -> dict[str, Tensor]:
        """Put the average into the model; returns what was there, to put back."""
        before = {k: v.detach().clone() for k, v in model.state_dict().items()}
        model.load_state_dict(self.average)
        return before

    def state(self) -> dict[str, object]:
        """For a saved state."""
        return {"steps": self.steps, "average": copy.copy(self.average)}

    def load(self, state: dict[str, object]) -> None:
        """From a saved state."""
        self.steps = int(state["steps"])  # pyright: ignore[reportArgumentType]
        average: dict[str, Tensor] = state["average"]  # pyright: ignore[reportAssignmentType]
        for key, value in average.items():
            self.average[key].copy_(value)
