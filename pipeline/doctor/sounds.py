"""Fingerprints of normalised recordings, once per part and in workers, and of a folder's files."""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from pipeline import pool
from pipeline.doctor import fingerprint as fingerprints
from pipeline.doctor.columns import SplitError
from pipeline.doctor.fingerprint import MIN_FRAMES, VOID, Words
from pipeline.doctor.near import Group, near_duplicates
from pipeline.doctor.table import Split
from pipeline.settings import Settings
from pipeline.steps import audio, layout, parts, remote, store

SCHEMA = pa.schema([pa.field("native_id", pa.string()), pa.field("words", pa.binary())])
_FILES_PER_JOB = 64


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What was found by listening.

    Attributes:
        groups: Recordings that are one sound.
        unheard: Recordings too short or too quiet to tell (see ``MIN_FRAMES``).
        bad: File -> why it cannot be read.
    """

    groups: list[Group]
    unheard: int
    bad: dict[str, str]


def near_duplicates_of(settings: Settings, datasets: Sequence[str]) -> Heard:
    """Groups over all recordings of some datasets, by recording id.

    Fingerprints lie beside the parts and are made where they are missing: 1 ms per second of
    sound and core. To search 100,000 recordings of 10 s took 2 to 7 minutes of a shared core, 1 GB.

    Raises:
        FileNotFoundError: A dataset has no recordings yet.
    """
    unheard: list[str] = []
    return Heard(
        groups=near_duplicates(_usable(_stored(settings, datasets), unheard)),
        unheard=len(unheard),
        bad={},
    )


def _stored(settings: Settings, datasets: Sequence[str]) -> Iterator[tuple[str, Words]]:
    for dataset in datasets:
        here = layout.Dataset(settings.data_root, dataset)
        if not remote.exists(here.recordings):
            raise FileNotFoundError(
                f"{here.recordings} is missing: run "
                f"`dagster asset materialize --select '*{dataset}/recordings'`"
            )
        keys = sorted({*store.read_table(here.recordings, ["part"])["part"].to_pylist()})
        folder = here.fingerprints / str(fingerprints.VERSION)
        missing = [(here.parts, folder, p) for p in keys if not (folder / f"{p}.parquet").exists()]
        tars = [here.parts / f"{p}.{kind}" for _, _, p in missing for kind in ("tar", "parquet")]
        remote.need(*tars)
        for _ in pool.run(make, missing, settings.workers, settings.cluster):
            pass
        parts.clean(folder, set(keys))
        for part in keys:
            for row in store.read_table(folder / f"{part}.parquet").to_pylist():
                yield f"{dataset}/{row['native_id']}", np.frombuffer(row["words"], "<u4")


def make(source: Path, folder: Path, part: str) -> None:
    """Fingerprint the recordings of one part, reading its tar from front to back."""
    facts = pq.read_table(source / f"{part}.parquet", columns=["native_id", "offset"]).to_pylist()
    names = {f["offset"]: f["native_id"] for f in facts if f["offset"] is not None}
    rows: list[dict[str, object]] = []
    with tarfile.open(source / f"{part}.tar") as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is None:
                continue
            words = _fingerprint(stream.read())
            rows.append(
                {"native_id": names[member.offset_data], "words": words.astype("<u4").tobytes()}
            )
    store.write_table(folder / f"{part}.parquet", rows, SCHEMA)


def _fingerprint(flac: bytes) -> Words:
    wave, rate = soundfile.read(io.BytesIO(flac), dtype="float32")
    return fingerprints.fingerprint(np.asarray(wave, np.float32), rate)


@dataclass(frozen=True, kw_only=True)
class File:
    """One file as it was heard."""

    name: str
    raw: str | None
    sound: str | None
    words: Words
    problem: str | None


def read_files(root: Path, names: Sequence[str], workers: int | None = None) -> dict[str, File]:
    """Hashes and fingerprints of files by their names below ``root``."""
    todo = sorted(set(names))
    jobs = [(root, todo[i : i + _FILES_PER_JOB]) for i in range(0, len(todo), _FILES_PER_JOB)]
    return {f.name: f for files in pool.run(_read_files, jobs, workers) for f in files}


def _read_files(root: Path, names: Sequence[str]) -> list[File]:
    files: list[File] = []
    for name in names:
        path, none = root / name, np.zeros(0, np.uint32)
        if not path.is_file():
            files.append(File(name=name, raw=None, sound=None, words=none, problem="no such file"))
            continue
        try:
            heard = audio.normalise(path)
        except audio.BadAudio as error:
            raw = hashlib.sha256(path.read_bytes()).hexdigest()
            # Equal silence says nothing about persons, so that it has no hash of its samples.
            files.append(File(name=name, raw=raw, sound=None, words=none, problem=str(error)))
            continue
        words = _fingerprint(heard.flac)
        files.append(
            File(
                name=name, raw=heard.raw_sha256, sound=heard.audio_sha256, words=words, problem=None
            )
        )
    return files


def compare(files: Sequence[tuple[str, File]]) -> Heard:
    """Groups among files, each under the id of its row."""
    unheard: list[str] = []
    return Heard(
        groups=near_duplicates(_usable(((key, f.words) for key, f in files), unheard)),
        unheard=len(unheard),
        bad={f.name: f.problem for _, f in files if f.problem},
    )


def _usable(
    prints: "Iterator[tuple[str, Words]]", unheard: list[str]
) -> Iterator[tuple[str, Words]]:
    for name, words in prints:
        if int((words != VOID).sum()) < MIN_FRAMES:
            unheard.append(name)
        else:
            yield name, words


def listen(split: Split, folder: Path) -> tuple[Split, list[Group], int]:
    """A split with hashes of the files that its paths name, and the sounds that are one.

    Raises:
        SplitError: The table has no paths, or none of them is in the folder.
    """
    paths = split.column("path")
    if paths is None:
        raise SplitError("--audio needs a column with paths; name it with --path")
    files = read_files(folder, [p for p in paths if p])
    missing = [name for name, f in files.items() if f.raw is None]
    if len(missing) == len(files):
        raise SplitError(f"none of {len(files)} files is in {folder}, such as {missing[0]}")
    found = [files.get(p or "") for p in paths]
    keys = split.column("id") or paths
    heard = compare([(k or "", f) for k, f in zip(keys, found, strict=True) if f and f.raw])
    notes = [f"{len(missing)} files are not in {folder}, such as {missing[0]}"] if missing else []
    broken = {n: why for n, why in heard.bad.items() if n not in missing}
    if broken:
        name, why = next(iter(broken.items()))
        notes.append(f"{len(broken)} files cannot be heard, such as {name}: {why}")
    rows = split.rows.copy()
    rows["id"] = np.array(keys, object)
    for column in ("raw", "sound"):
        rows[column] = np.array([getattr(f, column, None) for f in found], object)
    return replace(split, rows=rows, notes=(*split.notes, *notes)), heard.groups, heard.unheard
