"""What a killed run needs to go on, written whole or not at all."""

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from acula_model.training.errors import TrainingError

STATE, BEST = "state.pt", "best.pt"


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write under a temporary name, to the disk, then rename.

    Raises:
        TrainingError: The disk is full; the file of before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        # torch's zip writer reports a full disk as a RuntimeError of its own.
        full = isinstance(error, RuntimeError) or error.errno == errno.ENOSPC
        if not full:
            raise
        free = shutil.disk_usage(path.parent).free
        raise TrainingError(
            f"cannot write {path.name}, {free:,} bytes are free in {path.parent}: make room and "
            f"start again, training goes on from the last saved state"
        ) from error


def load(path: Path, key: str, device: str) -> dict[str, Any] | None:
    """The state of a run, or None where there is none.

    Raises:
        TrainingError: It is of another run, or cannot be read.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # damaged bytes make torch raise anything
        if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
            raise  # nothing is wrong with the file
        why = str(error).partition("\n")[0]
        raise TrainingError(
            f"{path} cannot be read ({why}): delete it to start this run over"
        ) from error
    if state.get("key") != key:
        raise TrainingError(
            f"{path} is of another run (other recipe, pairs or vectors): use another folder, or "
            "delete it to start over"
        )
    return state


def room(folder: Path, model: torch.nn.Module) -> None:
    """Refuse to start where the states cannot be written.

    Two copies of the state (weights and two moments) are on disk during a save, besides the best
    weights and the checkpoint.

    Raises:
        TrainingError: Says how much is missing.
    """
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    needed, free = 8 * weights, shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(
            f"training needs {needed / 1e9:.2f} GB for its states in {folder}, "
            f"{free / 1e9:.2f} GB are free"
        )
