"""teacher + reports -> vectors, each computed once per (report, model, revision, layer, pooling).

A folder per teacher and layer holds parts, each written under a temporary name and renamed: a
killed job goes on from its last part, and another run with the same teacher finds all of them.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model.counting import Counted
from acula_model.teachers import Teacher, Text, as_reports, facts, identity, layers

Vectors = dict[str, npt.NDArray[np.float32]]
CHUNK = 4096  # texts between two writes and two lines of progress


def place(folder: Path, teacher: Teacher, layer: int | None = None) -> Path:
    """Where the vectors of one layer of a teacher lie; of its only one if not given."""
    return folder / hashlib.sha256(identity(teacher, layer).encode()).hexdigest()[:16]


def embed(
    teacher: Teacher,
    texts: Sequence[Text],
    folder: Path,
    progress: Callable[[str], None] = print,
    chunk: int = CHUNK,
) -> tuple[Vectors, int]:
    """Vectors of texts, from the cache where they are there.

    Each layer of a teacher has a folder of its own, so a layer that was once read along with
    others is there for whoever asks for it alone.

    Args:
        teacher: Reads what is missing.
        texts: Equal hashes are read once.
        folder: The cache, shared by all teachers.
        progress: Called with a line after each part.
        chunk: Texts in a part.

    Returns:
        report hash -> float32 of these texts, [E], or [L, E] if the teacher reads several layers;
        and how many were read now.
    """
    reports = {r.hash: r for r in as_reports(texts)}
    several = isinstance(teacher.layer, tuple)
    known = {
        layer: load(place(folder, teacher, layer), identity(teacher, layer))
        for layer in layers(teacher)
    }
    missing = [r for key, r in sorted(reports.items()) if any(key not in k for k in known.values())]
    counted = Counted(progress, "teacher: {} reports embedded", len(missing))
    for start in range(0, len(missing), chunk):
        part = missing[start : start + chunk]
        vectors = teacher.embed(part)
        for n, (layer, found) in enumerate(known.items()):
            rows = vectors[:, n] if several else vectors
            new = {r.hash: v for r, v in zip(part, rows, strict=True) if r.hash not in found}
            if new:
                about = facts(teacher) | {"layer": layer}
                _write(place(folder, teacher, layer), new, about, identity(teacher, layer))
                found |= new
        counted.add(len(part))
    if several:
        return {key: np.stack([k[key] for k in known.values()]) for key in reports}, len(missing)
    (found,) = known.values()
    return {key: found[key] for key in reports}, len(missing)


def load(here: Path, teacher: str | None = None) -> Vectors:
    """All vectors of one layer's folder; none if there is no such folder.

    Args:
        here: The folder.
        teacher: Its ``identity``, if parts of another one are to be refused.

    Raises:
        ValueError: A part says that it is of another teacher.
    """
    found: Vectors = {}
    for path in sorted(here.glob("part-*.npz")):
        with np.load(path, allow_pickle=False) as part:
            if teacher and "teacher" in part and (said := str(part["teacher"])) != teacher:
                raise ValueError(
                    f"{path} has vectors of the teacher {said}, not of {teacher}: delete the file, "
                    "its reports are read again"
                )
            found |= dict(zip(part["hashes"].tolist(), part["vectors"], strict=True))
    return found


def _write(
    here: Path,
    vectors: Mapping[str, npt.NDArray[np.float32]],
    about: Mapping[str, Any],
    teacher: str,
) -> None:
    here.mkdir(parents=True, exist_ok=True)
    card = here / "teacher.json"
    if not card.exists():
        said = json.dumps(dict(about), indent=2) + "\n"
        _finish(card, lambda path: path.write_text(said))
    # Named by its content: two jobs on one cache cannot overwrite each other's parts.
    key = hashlib.sha256("".join(vectors).encode()).hexdigest()[:16]
    hashes, matrix = np.array(list(vectors), dtype=np.str_), np.stack(list(vectors.values()))
    _finish(
        here / f"part-{key}.npz",
        lambda path: np.savez(
            path, hashes=hashes, vectors=matrix.astype(np.float32), teacher=np.array(teacher)
        ),
    )


def _finish(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    write(temporary)
    temporary.replace(path)
