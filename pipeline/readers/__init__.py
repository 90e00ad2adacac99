"""unpacked archive -> typed rows; one small module per dataset, found by its id.

A reader walks its archive and yields a ``Recording`` for each usable recording and a
``Rejected`` for everything else it meets; nothing is dropped in silence. It reads metadata
only: whether audio decodes is decided in ``steps.recordings``. Readers use ``csv`` and
``json``, not pandas, so that ids and missing values stay the strings that they are.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol

from pipeline.records import Event, Recording, Rejected


class Reader(Protocol):
    """What each module in this package offers."""

    __file__: str | None

    def read(self, archive: Path) -> Iterator[Recording | Rejected]:
        """Rows of the unpacked archive; order does not matter.

        Raises:
            FileNotFoundError: A metadata file without which nothing can be read is missing.
        """
        ...


def events(dataset: str, archive: Path, member: str, row: Mapping[str, str]) -> list[Event]:
    """What is annotated in one recording; none where nothing is.

    A reader whose dataset has such annotations offers ``events(wav, row)``, which takes them from
    the metadata row or from a file beside the sound, whichever holds them.

    Args:
        dataset: Whose.
        archive: Its folder; may be gone.
        member: Of the recording.
        row: Its metadata as they stood.

    Raises:
        ValueError: The annotations cannot be read.
    """
    read = getattr(reader(dataset), "events", None)
    return sorted(read(archive / member, row), key=lambda e: e.start_s) if read else []


def reader(dataset: str) -> Reader:
    """The reader module of a dataset."""
    return import_module(f"pipeline.readers.{dataset}")  # type: ignore[return-value]
