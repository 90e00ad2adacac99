"""What a reader yields, kept on disk as it comes: rows of a large dataset do not fit in memory."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import findings
from pipeline.manifest import Manifest
from pipeline.records import Recording, Rejected
from pipeline.steps.part_audio import Item

SCHEMA = pa.schema(
    [
        pa.field("native_id", pa.string()),
        pa.field("member", pa.string()),
        pa.field("modality", pa.string()),
        pa.field("case_id", pa.string()),
        pa.field("person", pa.string()),
        pa.field("linked", pa.list_(pa.string())),
        pa.field("proxy", pa.string()),
        pa.field("official_split", pa.string()),
        pa.field("findings", pa.string()),  # JSON: name -> code or number
        pa.field("row", pa.string()),  # JSON: the metadata as they stood
    ]
)
_AT_ONCE = 2_048


class Rows:
    """The rows of one dataset in a file, and what of each is needed at once.

    A row with an unknown code, or a second row of one id, is refused.

    Args:
        manifest: Of the dataset.
        read: What its reader yields.
        root: Of the files.
        file: Gets the rows.

    Attributes:
        items: What normalising needs of each row, in the order of the rows.
        labels: What tasks ask about each row, as JSON; equal ones are one object.
        refused: Rows that are not used.
    """

    def __init__(
        self, manifest: Manifest, read: Iterable[Recording | Rejected], root: Path, file: Path
    ):
        self.items: list[Item] = []
        self.labels: list[str] = []
        self.refused: list[Rejected] = []
        self._file, self._seen = file, set[str]()
        names = sorted({t.label for t in manifest.tasks.values()})
        buffer: list[dict[str, Any]] = []
        with pa.ipc.new_stream(file, SCHEMA) as writer:
            for row in read:
                if refused := self._refusal(manifest, row):
                    self.refused.append(refused)
                    continue
                assert isinstance(row, Recording)
                self._seen.add(row.native_id)
                stat = (root / row.member).stat()
                self.items.append((row.native_id, row.member, stat.st_size, stat.st_mtime_ns))
                said = {n: row.findings[n] for n in names if n in row.findings}
                self.labels.append(sys.intern(_json(said)))
                buffer.append(as_row(row))
                if len(buffer) == _AT_ONCE:
                    writer.write_batch(pa.RecordBatch.from_pylist(buffer, schema=SCHEMA))
                    buffer.clear()
            writer.write_batch(pa.RecordBatch.from_pylist(buffer, schema=SCHEMA))
        del self._seen

    def _refusal(self, manifest: Manifest, row: Recording | Rejected) -> Rejected | None:
        if isinstance(row, Rejected):
            return row
        try:
            findings.resolve(manifest, row.findings)
        except findings.UnknownCode as error:
            return Rejected(name=row.member, reason="unknown_code", detail=str(error))
        if row.native_id in self._seen:
            detail = f"a second recording is called {row.native_id}"
            return Rejected(name=row.member, reason="bad_metadata", detail=detail)
        return None

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        with pa.ipc.open_stream(self._file) as reader:
            yield from reader


def as_row(recording: Recording) -> dict[str, Any]:
    """What a reader says, as columns of the table."""
    return asdict(recording) | {"findings": _json(recording.findings), "row": _json(recording.row)}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
