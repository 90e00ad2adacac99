"""Built-in sample archives: look-alikes of the raw archives in their original layout.

They serve the demo and the tests. Each module offers ``write(root, seed, scale)``, which
leaves behind what unpacking the publisher's archive would, naming and traps included. The
sounds carry the findings, with device colour, noise and some label error, so that a model
can learn something and cannot learn everything. Nothing in them is a recording of a person.
"""

from importlib import import_module
from pathlib import Path
from typing import Protocol


class Sample(Protocol):
    """What each module in this package that is named after a dataset offers."""

    def write(self, root: Path, seed: int, scale: float = 1.0) -> None:
        """Write the archive into the empty folder ``root``.

        Args:
            root: Folder that then looks like the unpacked archive.
            seed: The same seed and scale give the same bytes.
            scale: Fraction of the full number of persons; every trap is there at any scale.
        """
        ...


def sample(dataset: str) -> Sample:
    """The sample archive of a dataset."""
    return import_module(f"pipeline.samples.{dataset}")  # type: ignore[return-value]
