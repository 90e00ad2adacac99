"""encoder and heads -> the file layout of the AcuLa release.

The release reads such a file with ``torch.load`` and takes ``audio_model_state_dict``, whose keys
are OPERA's. It never reads the heads back; ours stand under its names, with GELU between the two
layers where the release has ReLU, which ``head_activation`` states.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acula_model.encoders.base import AudioEncoder
from acula_model.encoders.opera_gt import OperaGT

# Our head's layers -> the release's, which has dropout between them.
_HEAD_LAYERS = {"0.": "layers.0.", "2.": "layers.3."}
# Our names of an OPERA-GT block's parts -> OPERA's.
_BLOCK_PARTS = {
    ".self_attn.in_proj_": ".attn.qkv.",
    ".self_attn.out_proj.": ".attn.proj.",
    ".linear1.": ".mlp.fc1.",
    ".linear2.": ".mlp.fc2.",
}


def export(
    path: Path, encoder: AudioEncoder, heads: Mapping[str, nn.Module], epoch: int = 0
) -> None:
    """Write the layout of the release; the file appears under its name when it is complete.

    Args:
        path: The ``.pt`` file.
        encoder: An OPERA-GT; the release runs no other.
        heads: ``audio_head`` and ``text_head``; either may be absent.
        epoch: What the release counts from 1.

    Raises:
        ValueError: Another encoder.
    """
    content: dict[str, Any] = {
        "epoch": epoch,
        "audio_model_state_dict": published_keys(encoder),
        "audio_projection_mlp_state_dict": _head(heads.get("audio_head")),
        "language_projection_mlp_state_dict": _head(heads.get("text_head")),
        "optimizer_state_dict": {},
        "scheduler_state_dict": None,
        "head_activation": "gelu",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save(content, temporary)
    temporary.replace(path)


def published_keys(encoder: AudioEncoder) -> dict[str, Tensor]:
    """State dict of an encoder under the published names: the inverse of ``own_keys``.

    Raises:
        ValueError: Not an OPERA-GT.
    """
    if not isinstance(encoder, OperaGT):
        raise ValueError(f"the release has no layout for {encoder.name}; it runs OPERA-GT only")
    return {_published(key): t.detach().cpu() for key, t in encoder.state_dict().items()}


def _published(key: str) -> str:
    if key.startswith("blocks."):
        for ours, published in _BLOCK_PARTS.items():
            key = key.replace(ours, published)
        return key
    return "mask_token" if key == "decoder.mask_token" else key.replace("decoder.", "decoder_", 1)


def _head(head: nn.Module | None) -> dict[str, Tensor]:
    """A two-layer head under the release's names; any other under its own."""
    found: dict[str, Tensor] = {}
    for key, tensor in head.state_dict().items() if head is not None else ():
        for ours, published in _HEAD_LAYERS.items():
            key = published + key.removeprefix(ours) if key.startswith(ours) else key
        found[key] = tensor.detach().cpu()
    return found
