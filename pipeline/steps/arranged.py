"""batches of a table larger than memory -> its rows in another order, piece by piece.

Rows are written to files by the pieces they belong to, then each file is read and put in order:
one sequential write and read of everything, while memory holds two of the files at most. They are
as large as the table is uncompressed: some 2.4 kB for a pair with its texts.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.steps import disk

# Rows of one file, some 10 MB of pairs with their texts; more where there would be too many files,
# which are all open at a time.
ROWS_AT_A_TIME = 4_096
FILES = 128


def arranged(
    batches: Iterable[pa.RecordBatch | pa.Table],
    places: npt.NDArray[np.int64],
    sizes: Sequence[int],
    beside: Path,
) -> Generator[pa.Table]:
    """Yield the rows in the order of their places, so many at a time.

    Args:
        batches: The table.
        places: Of each of its rows, from 0 in the order that is wanted; -1 leaves a row out.
        sizes: Rows of each piece that is yielded; together all rows with a place.
        beside: Names the folder next to it in which the files lie meanwhile.

    Raises:
        ValueError: The batches hold fewer or more rows than there are places.
    """
    ends = np.cumsum(sizes, dtype=np.int64)
    bounds = _bounds(ends)
    with disk.scratch(beside) as folder:
        files = [folder / str(n) for n in range(len(bounds))]
        written = _split(batches, places, bounds, files)
        start = piece = 0
        for file, end, own in zip(files, bounds.tolist(), written, strict=True):
            table = _read(file).take(pa.array(np.argsort(own)))
            while piece < len(ends) and ends[piece] <= end:
                size = sizes[piece]
                yield table.slice(int(ends[piece]) - size - start, size)
                piece += 1
            start = end


def _bounds(ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Ends of the files: whole pieces, until there are enough rows."""
    bounds, start = list[int](), 0
    least = max(ROWS_AT_A_TIME, -(-int(ends[-1]) // FILES)) if len(ends) else 0
    for end in ends.tolist():
        if end - start >= least:
            bounds.append(end)
            start = end
    if len(ends) and start < ends[-1]:
        bounds.append(int(ends[-1]))
    return np.array(bounds, np.int64)


def _split(
    batches: Iterable[pa.RecordBatch | pa.Table],
    places: npt.NDArray[np.int64],
    bounds: npt.NDArray[np.int64],
    files: Sequence[Path],
) -> list[npt.NDArray[np.int64]]:
    """Write each row into its file; returns the places of the rows of each, as they lie there."""
    own: list[list[npt.NDArray[np.int64]]] = [[] for _ in files]
    seen = 0
    with ExitStack() as stack:
        writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
        for batch in batches:
            table = pa.table(batch) if isinstance(batch, pa.RecordBatch) else batch
            here = places[seen : seen + len(table)]
            seen += len(table)
            if len(here) < len(table):
                raise ValueError(f"{seen} rows, but places for {len(places)}")
            which = np.where(here < 0, -1, np.searchsorted(bounds, here, side="right"))
            for file in np.unique(which[which >= 0]).tolist():
                rows = np.flatnonzero(which == file)
                if file not in writers:
                    writers[file] = stack.enter_context(
                        pa.ipc.new_stream(files[file], table.schema)
                    )
                writers[file].write_table(table.take(pa.array(rows)))
                own[file].append(here[rows])
    if seen < len(places):
        raise ValueError(f"{seen} rows, but places for {len(places)}")
    return [np.concatenate(found) for found in own]


def _read(file: Path) -> pa.Table:
    with pa.ipc.open_stream(file) as reader:
        return reader.read_all()
