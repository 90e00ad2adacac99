"""Hugging Face checkpoint -> model, or every key that does not fit.

``from_pretrained`` fills what a file lacks with random numbers and says so in a log; here it is an
error. A concrete class is loaded, so no code comes with the weights.
"""

import hashlib
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from acula_model import hub
from acula_model.encoders.base import Weights
from acula_model.weights import CheckpointError, sha256

_FILES = ("*.safetensors", "*.bin")


def load(
    kind: type[PreTrainedModel],
    source: str,
    revision: str | None,
    licence: str,
    unused: tuple[str, ...],
) -> tuple[Any, Weights]:
    """Load a checkpoint strictly.

    Args:
        kind: Class of the model.
        source: Folder or Hub id.
        revision: Branch, tag or commit on the Hub.
        licence: Of the weights.
        unused: First parts of keys that the checkpoint may have and the model has not.

    Returns:
        The model in eval mode, and what was loaded.

    Raises:
        HubError: The Hub has no such model, guards it, or cannot be reached.
        CheckpointError: Missing, unexpected or misshapen keys, all of them.
    """
    local = hub.text_model(source, revision)
    loaded: Any = kind.from_pretrained(
        local.path,
        local_files_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # so that they are listed with the others
        weights_only=True,
        dtype="float32",
    )
    model, said = loaded
    wrong = {
        "missing": said["missing_keys"],
        "unexpected": [key for key in said["unexpected_keys"] if not key.startswith(unused)],
        "of another shape": said["mismatched_keys"],
        "not read": said["error_msgs"],
    }
    lines = [f"{what}: {', '.join(sorted(map(str, keys)))}" for what, keys in wrong.items() if keys]
    if lines:
        raise CheckpointError(f"{source} does not fit the model\n  " + "\n  ".join(lines))
    revision = local.commit or f"sha256:{_digest(local.path)}"
    return model, Weights(source=source, revision=revision, licence=licence)


def check_sizes(own: Any, theirs: Any, names: tuple[str, ...]) -> None:
    """Refuse a checkpoint whose configuration differs where shapes would not tell.

    Args:
        own: Configuration that the encoder was built with.
        theirs: Configuration of the checkpoint.
        names: What must be equal, such as the count of heads.

    Raises:
        CheckpointError: Names and both values of what differs.
    """
    pairs = {name: (getattr(own, name), getattr(theirs, name)) for name in names}
    differing = [
        f"{name} {found!r} for {wanted!r}"
        for name, (wanted, found) in pairs.items()
        if _plain(wanted) != _plain(found)
    ]
    if differing:
        raise CheckpointError("the checkpoint is of another shape: " + ", ".join(differing))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _digest(folder: Path) -> str:
    """Hash of the file of weights, or of the hashes of several."""
    found = [sha256(path) for kind in _FILES for path in sorted(folder.glob(kind))]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()
