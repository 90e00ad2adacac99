"""The table of teacher vectors that a training run reads: one row per report."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = dict[str, npt.NDArray[np.float32]]


def write(path: Path, vectors: Mapping[str, npt.NDArray[np.float32]], facts: Any) -> str:
    """Write parquet with ``report_hash``, ``vector`` and what the teacher was; all or nothing.

    Args:
        path: The file.
        vectors: Report hash -> [E], or [L, E] of several layers.
        facts: JSON values: model, revision, layer, pooling.

    Returns:
        Their ``digest``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    hashes = sorted(vectors)
    matrix = np.stack([np.asarray(vectors[h], np.float32) for h in hashes])
    said = {"teacher": json.dumps(facts), "shape": json.dumps(matrix.shape[1:])}
    flat = pa.array(matrix.reshape(-1))
    columns = [pa.array(hashes), pa.FixedSizeListArray.from_arrays(flat, matrix[0].size)]
    table = pa.table(columns, names=["report_hash", "vector"]).replace_schema_metadata(said)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path)
    return digest(vectors)


def digest(vectors: Mapping[str, npt.NDArray[np.float32]]) -> str:
    """16 hex digits of hashes and numbers: ``write`` returns it, a reader may compare it."""
    hashes = sorted(vectors)
    hasher = hashlib.sha256("".join(hashes).encode())
    for h in hashes:
        hasher.update(np.asarray(vectors[h], np.float32).tobytes())
    return hasher.hexdigest()[:16]


def about(path: Path) -> dict[str, Any]:
    """What the teacher was, without reading the vectors.

    Raises:
        FileNotFoundError: No such file.
    """
    import pyarrow.parquet as pq

    return json.loads((pq.read_schema(path).metadata or {})[b"teacher"])


def read(path: Path) -> tuple[Vectors, dict[str, Any]]:
    """Vectors by report hash, and what the teacher was.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no table of vectors.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    said = table.schema.metadata or {}
    if table.column_names != ["report_hash", "vector"] or b"shape" not in said:
        raise ValueError(f"{path} is no table of teacher vectors: make `report_embeddings` again")
    shape = json.loads(said[b"shape"])
    chunk = table["vector"].combine_chunks()
    matrix = chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(table), *shape)
    found = dict(zip(table["report_hash"].to_pylist(), matrix, strict=True))
    return found, json.loads(said[b"teacher"])
