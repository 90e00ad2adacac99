"""encoder and heads <-> a folder that rebuilds them, and published weights -> an encoder.

A checkpoint is ``weights.safetensors`` (keys ``encoder.*`` and ``heads.<name>.*``) and
``config.json`` (name, sizes and front end of the encoder, what the caller adds, and the hash of
the weights). Loading is strict: the release loads with ``strict=False`` and prints two counts,
so a file of another model trains unnoticed from random weights.
"""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from acula_model import encoders
from acula_model.encoders.base import AudioEncoder
from acula_model.front_end import MelFrontEnd

WEIGHTS, CONFIG = "weights.safetensors", "config.json"
FORMAT = 1
# Where the layouts of known torch files keep the weights: Lightning (OPERA), AcuLa release.
NESTED = ("state_dict", "audio_model_state_dict")


class CheckpointError(ValueError):
    """Weights that are damaged, unreadable, or of another model."""


@dataclass(frozen=True)
class Checkpoint:
    """What a folder held.

    Attributes:
        encoder: Rebuilt, in eval mode, on the CPU.
        heads: State dict of each head by name, for a head that the caller builds.
        meta: What was saved with it.
    """

    encoder: AudioEncoder
    heads: dict[str, dict[str, Tensor]]
    meta: dict[str, Any]


def save(
    folder: Path, encoder: AudioEncoder, heads: Mapping[str, nn.Module], meta: Mapping[str, Any]
) -> None:
    """Write a checkpoint under a temporary name, then rename it into place.

    A checkpoint of that name is replaced; it goes away only when the new one is complete.

    Args:
        folder: The checkpoint; its parent is made if needed.
        encoder: From ``encoders.build``.
        heads: Heads by name (no dots).
        meta: JSON values: recipe, epoch, provenance.

    Raises:
        ValueError: The name of a head has a dot.
    """
    if dotted := [name for name in heads if "." in name]:
        raise ValueError(f"names of heads have no dots: {', '.join(dotted)}")
    modules = {"encoder": encoder, **{f"heads.{name}": head for name, head in heads.items()}}
    tensors = {
        f"{prefix}.{key}": tensor.detach().cpu().contiguous().clone()
        for prefix, module in modules.items()
        for key, tensor in module.state_dict().items()
    }
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(tensors, temporary / WEIGHTS)
    config = {
        "format": FORMAT,
        "encoder": encoder.name,
        "config": encoder.config,
        "front_end": asdict(encoder.front_end),
        "heads": sorted(heads),
        "sha256": _sha256(temporary / WEIGHTS),
        "meta": dict(meta),
    }
    (temporary / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path, accept: Collection[str] = ()) -> Checkpoint:
    """Rebuild an encoder from its folder.

    Args:
        folder: Written by ``save``.
        accept: Keys of the encoder that may be missing, unexpected or of another shape.

    Raises:
        FileNotFoundError: No checkpoint there.
        CheckpointError: Another format, damaged weights, or keys that do not fit.
    """
    config = json.loads((folder / CONFIG).read_text())
    if config["format"] != FORMAT:
        raise CheckpointError(f"{folder}: format {config['format']}, this version reads {FORMAT}")
    if _sha256(folder / WEIGHTS) != config["sha256"]:
        raise CheckpointError(f"{folder / WEIGHTS} is not the file that {CONFIG} describes")
    tensors = load_file(folder / WEIGHTS)
    front_end = MelFrontEnd(**config["front_end"])
    encoder = encoders.build(config["encoder"], front_end=front_end, **config["config"])
    load_strictly(encoder, _below(tensors, "encoder."), accept)
    heads = {name: _below(tensors, f"heads.{name}.") for name in config["heads"]}
    return Checkpoint(encoder=encoder.eval(), heads=heads, meta=config["meta"])


def restore(encoder: AudioEncoder, path: Path, accept: Collection[str] = ()) -> None:
    """Put weights into an encoder: from a folder of ``save``, or a published file.

    Args:
        encoder: Gets the weights.
        path: Folder, or file of a layout that ``load_state`` knows, with our keys or published.
        accept: Our keys that may be missing, unexpected or of another shape; those keep what
            the encoder had. A published file without its decoder needs the ``decoder.*`` ones.

    Raises:
        FileNotFoundError: Nothing there.
        CheckpointError: Keys that do not fit, or a file that cannot be read.
    """
    state = load(path).encoder.state_dict() if path.is_dir() else load_state(path)
    load_strictly(encoder, encoder.own_keys(state), accept)


def load_state(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a file, running no code from it.

    Args:
        path: ``.safetensors``, or a torch file that holds a bare state dict, a Lightning
            checkpoint (``state_dict``) or an AcuLa one (``audio_model_state_dict``).

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: The file holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read as weights: {error}") from error
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


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _few(keys: Collection[Any]) -> str:
    return ", ".join(str(key) for key in list(keys)[:8])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
