"""A file of weights -> its state dict, and a state dict -> a module, strictly.

The release loads with ``strict=False`` and prints two counts, so a file of another model trains
unnoticed from random weights. Here every key that does not fit is an error that names it.
"""

import hashlib
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

# Where the layouts of known torch files keep the encoder: Lightning (OPERA), AcuLa release.
NESTED = ("state_dict", "audio_model_state_dict")


class CheckpointError(ValueError):
    """Weights that are damaged, unreadable, or of another model."""


def load_content(path: Path) -> Any:
    """What a torch or safetensors file holds, running no code from it.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: It cannot be read, or holds more than numbers and plain values.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read as weights: {error}") from error


def load_state(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a file, running no code from it.

    Args:
        path: ``.safetensors``, or a torch file that holds a bare state dict, a Lightning
            checkpoint (``state_dict``) or an AcuLa one (``audio_model_state_dict``).

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: The file holds something else.
    """
    content = load_content(path)
    if isinstance(content, Mapping):
        found = next((content[name] for name in NESTED if name in content), content)
        if isinstance(found, Mapping) and found:
            if all(isinstance(value, Tensor) for value in found.values()):
                return dict(found)
            raise CheckpointError(f"{path}: no state dict; its top level has {_few(content)}")
    raise CheckpointError(f"{path}: no state dict in it")


def load_strictly(
    module: nn.Module, state: Mapping[str, Tensor], accept: Collection[str] = ()
) -> None:
    """Load a state dict, or say everything that does not fit, and load nothing.

    Args:
        module: Gets the weights.
        state: Its weights.
        accept: Keys that need not fit; these keep what the module had.

    Raises:
        CheckpointError: Keys that are missing, unexpected or of another shape.
    """
    own = module.state_dict()
    wrong = {
        "missing": own.keys() - state.keys(),
        "unexpected": state.keys() - own.keys(),
        "of another shape": {k for k in own.keys() & state if own[k].shape != state[k].shape},
    }
    shapes = {k: f"{k} {list(state[k].shape)} for {list(own[k].shape)}" for k in own.keys() & state}
    lines = [
        f"{what}: {', '.join(shapes.get(key, key) for key in sorted(keys - set(accept)))}"
        for what, keys in wrong.items()
        if keys - set(accept)
    ]
    if lines:
        raise CheckpointError("weights do not fit the model\n  " + "\n  ".join(lines))
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    module.load_state_dict(own | fitting)


def sha256(path: Path) -> str:
    """Hash of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _few(keys: Collection[Any]) -> str:
    return ", ".join(str(key) for key in list(keys)[:8])
