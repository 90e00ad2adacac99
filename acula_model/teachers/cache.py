"""teacher + reports -> vectors, each computed once per (report, model, revision, layer, pooling).

A folder per teacher holds parts, each written under a temporary name and renamed: a killed job
goes on from its last part, and another run with the same teacher finds all of them.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from acula_model.teachers import Teacher, Text, as_reports, facts, identity

Vectors = dict[str, npt.NDArray[np.float32]]
CHUNK = 4096  # texts between two writes and two lines of progress


def place(folder: Path, teacher: Teacher) -> Path:
    """Where the vectors of one teacher lie."""
    return folder / hashlib.sha256(identity(teacher).encode()).hexdigest()[:16]


def embed(
    teacher: Teacher,
    texts: Sequence[Text],
    folder: Path,
    progress: Callable[[str], None] = print,
    chunk: int = CHUNK,
) -> tuple[Vectors, int]:
    """Vectors of texts, from the cache where they are there.

    Args:
        teacher: Reads what is missing.
        texts: Equal hashes are read once.
        folder: The cache, shared by all teachers.
        progress: Called with a line after each part.
        chunk: Texts in a part.

    Returns:
        report hash -> float32 [D] of these texts, and how many were read now.
    """
    reports = {r.hash: r for r in as_reports(texts)}
    here = place(folder, teacher)
    known = load(here)
    missing = [r for key, r in sorted(reports.items()) if key not in known]
    for start in range(0, len(missing), chunk):
        part = missing[start : start + chunk]
        vectors = dict(zip((r.hash for r in part), teacher.embed(part), strict=True))
        _write(here, vectors, teacher)
        known |= vectors
        progress(f"teacher: {start + len(part)} of {len(missing)} reports embedded")
    return {key: known[key] for key in reports}, len(missing)


def load(here: Path) -> Vectors:
    """All vectors of one teacher's folder; none if there is no such folder."""
    found: Vectors = {}
    for path in sorted(here.glob("part-*.npz")):
        with np.load(path, allow_pickle=False) as part:
            found |= dict(zip(part["hashes"].tolist(), part["vectors"], strict=True))
    return found


def _write(here: Path, vectors: Mapping[str, npt.NDArray[np.float32]], teacher: Teacher) -> None:
    here.mkdir(parents=True, exist_ok=True)
    about = here / "teacher.json"
    if not about.exists():
        said = json.dumps(facts(teacher), indent=2) + "\n"
        _finish(about, lambda path: path.write_text(said))
    # Named by its content: two jobs on one cache cannot overwrite each other's parts.
    key = hashlib.sha256("".join(vectors).encode()).hexdigest()[:16]
    hashes, matrix = np.array(list(vectors), dtype=np.str_), np.stack(list(vectors.values()))
    _finish(
        here / f"part-{key}.npz",
        lambda path: np.savez(path, hashes=hashes, vectors=matrix.astype(np.float32)),
    )


def _finish(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    write(temporary)
    temporary.replace(path)
