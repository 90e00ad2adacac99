"""Projection heads, and the bridge between the two spaces that they project into."""

# N = pairs, P = width of projected sound, Q = width of projected text

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from acula_model.weights import CheckpointError, load_strictly


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Projection head [B, inputs] -> [B, outputs]."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


def rebuild(state: Mapping[str, Tensor]) -> nn.Module:
    """The head that a state dict is of: two layers, one linear map, or the identity.

    Raises:
        CheckpointError: It is of none of them.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    if not shapes:
        return nn.Identity()
    if shapes.keys() == {"weight"}:
        head: nn.Module = nn.Linear(shapes["weight"][1], shapes["weight"][0], bias=False)
    elif shapes.keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}:
        hidden, inputs = shapes["0.weight"]
        head = mlp(inputs, hidden, shapes["2.weight"][0])
    else:
        raise CheckpointError(f"no head that we know has the keys {', '.join(sorted(shapes))}")
    load_strictly(head, state)
    return head.eval()


class Bridge(nn.Module):
    """Makes projected sounds and reports comparable.

    CKA does not change when either side is moved or turned, so a trained pair of heads agrees on
    which recordings are alike and not on directions: a cosine between the two is noise. The
    rotation that fits best over training pairs (orthogonal Procrustes, Schoenemann 1966)
    supplies what the loss leaves open.
    """

    audio_mean: Tensor
    text_mean: Tensor
    rotation: Tensor

    def __init__(self, audio_width: int, text_width: int):
        super().__init__()
        self.register_buffer("audio_mean", torch.zeros(audio_width))
        self.register_buffer("text_mean", torch.zeros(text_width))
        self.register_buffer("rotation", torch.eye(audio_width, text_width))

    @classmethod
    def fit(cls, audio_NP: Tensor, text_NQ: Tensor) -> "Bridge":
        """The best rotation from projected sounds to the projections of their reports.

        Args:
            audio_NP: Output of the audio head, a row per pair.
            text_NQ: Output of the text head for the same pairs.
        """
        bridge = cls(audio_NP.shape[1], text_NQ.shape[1])
        audio_NP, text_NQ = audio_NP.double().cpu(), text_NQ.double().cpu()
        audio_P, text_Q = audio_NP.mean(0), text_NQ.mean(0)
        left, _, right = torch.linalg.svd(
            (audio_NP - audio_P).T @ (text_NQ - text_Q), full_matrices=False
        )
        found = {"audio_mean": audio_P, "text_mean": text_Q, "rotation": left @ right}
        bridge.load_state_dict({name: tensor.float() for name, tensor in found.items()})
        return bridge

    @classmethod
    def rebuild(cls, state: Mapping[str, Tensor]) -> "Bridge":
        """The bridge that a state dict is of."""
        bridge = cls(len(state["audio_mean"]), len(state["text_mean"]))
        load_strictly(bridge, state)
        return bridge

    def audio(self, audio_NP: Tensor) -> Tensor:
        """Unit vectors [N, Q] of projected sounds, in the space of the reports."""
        turned_NQ = (audio_NP - self.audio_mean) @ self.rotation
        return nn.functional.normalize(turned_NQ, dim=1)

    def text(self, text_NQ: Tensor) -> Tensor:
        """Unit vectors [N, Q] of projected reports."""
        return nn.functional.normalize(text_NQ - self.text_mean, dim=1)
