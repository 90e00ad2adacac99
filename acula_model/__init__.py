"""Audio encoders aligned with a frozen language model that read the reports.

    model = acula_model.load("runs/demo-1a2b3c4d/checkpoint")
    vectors = model.embed(["a.wav", "b.flac"])
    scores = model.similarity(["a.wav"], ["A systolic murmur.", "No murmur."])

Importing this costs nothing: torch and the rest come with the first call.
"""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acula_model.model import Model
    from acula_model.teachers import Teacher

__all__ = ["load"]


def load(
    source: str | Path,
    encoder: str | None = None,
    accept: Collection[str] = (),
    teacher: "Teacher | None" = None,
    device: str = "auto",
) -> "Model":
    """Load a model by path or Hugging Face Hub id.

    Args:
        source: A checkpoint's folder, a published file (OPERA's ``.ckpt``, AcuLa's ``.pt``, a
            state dict), ``owner/name`` or ``owner/name@revision`` on the Hub, or one file of a
            repository there: ``hf://owner/name/file``.
        encoder: Name in ``acula_model.encoders``; needed where the source does not say it.
        accept: Keys of the encoder that may be missing, unexpected or of another shape.
        teacher: Text model for comparisons, in place of the recorded one.
        device: ``auto`` takes a GPU when there is one.

    Returns:
        A model with ``embed``, ``similarity`` and ``retrieve``.

    Raises:
        FileNotFoundError: Nothing there.
        HubError: The Hub has no such model, guards it, or cannot be reached.
        CheckpointError: Damaged weights, or weights of another model; lists every key.
        ValueError: The source does not say which encoder it is of.
    """
    from acula_model import model

    return model.load(source, encoder, accept, teacher, device)
