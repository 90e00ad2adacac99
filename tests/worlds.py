"""Sample archives of the datasets: written small, read with a reader, and taken apart."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import pool
from pipeline.manifest import Manifest
from pipeline.records import Recording, Rejected, Value
from pipeline.steps import audio
from pipeline.steps.reports import render

SHARED = Path(__file__).parents[2] / "shared"
SCALE = 0.1

Found = dict[str, Recording]
Refused = dict[str, Rejected]


def needs(real: Path) -> pytest.MarkDecorator:
    """Skip a test where this part of the real recordings is absent."""
    reason = "the shared folder of real recordings is absent"
    return pytest.mark.skipif(not real.exists(), reason=reason)


def write_small(write: Callable[..., object], root: Path, seed: int = 1) -> Path:
    """A tenth of a sample archive, written by this process alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "cores", lambda: 1)  # starting processes takes longer than the work
        write(root, seed=seed, scale=SCALE)
    return root


def archive_of(write: Callable[..., object], seed: int = 1) -> Any:
    """A fixture: the small sample archive that all tests of a module read."""

    @pytest.fixture(scope="module")
    def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_small(write, tmp_path_factory.mktemp("archive"), seed)

    return archive


def rows(
    read: Callable[[Path], Iterable[Recording | Rejected]], archive: Path
) -> tuple[Found, Refused]:
    """Recordings by native id, and what was rejected by name."""
    entries = list(read(archive))
    found = [e for e in entries if isinstance(e, Recording)]
    assert len({r.native_id for r in found}) == len(found)
    return {r.native_id: r for r in found}, {e.name: e for e in entries if isinstance(e, Rejected)}


def digest(root: Path) -> str:
    """One hash of every file's path and content."""
    files = sorted(p for p in root.rglob("*") if p.is_file())
    lines = [f"{p.relative_to(root)} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def bad_sound(archive: Path, found: Mapping[str, Recording]) -> dict[str, str]:
    """Native id -> why its sound goes to quarantine."""
    reasons: dict[str, str] = {}
    for native_id, recording in found.items():
        try:
            audio.normalise(archive / recording.member)
        except audio.BadAudio as error:
            reasons[native_id] = error.reason
    return reasons


def texts(manifest: Manifest, key: str, findings: Mapping[str, Value]) -> tuple[str, str]:
    """A recording's full and its strict report."""
    strict = render(manifest, key, findings, omit=manifest.strict_masks)
    return render(manifest, key, findings).text, strict.text


def recordings_table(dataset: str, found: Mapping[str, Recording]) -> list[dict[str, Any]]:
    """The table of recordings as ``subjects`` reads it; no two sounds are the same."""
    return [
        {"recording_id": f"{dataset}/{r.native_id}", "dataset": dataset, "native_id": r.native_id,
         "case_id": r.case_id, "person": r.person, "linked": (), "proxy": r.proxy,
         "official_split": r.official_split, "audio_sha256": r.native_id,
         "findings": json.dumps(r.findings)}
        for r in found.values()
    ]  # fmt: skip


def edit(path: Path, key: str, change: Callable[[dict[str, Any]], object]) -> None:
    """One row of a parquet table, as somebody with an editor would change it."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    (row,) = [r for r in rows if r["recording_id"] == key]
    change(row)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
