"""Synthetic corpora of any size for load: raw archives in two layouts, or tables without sound.

ICBHI's layout is many small wav files with cycle files; CoughVID's is WebM. Signals are made once
and reused: each wav is a block of noise turned to a place of its own, each WebM the packets of an
encoded block in an order of their own, so that no two recordings sound the same and none costs an
encoder. ``tables`` leaves what the recordings step would, without any audio.

    python -m benchmarks.corpus --root <folder> --icbhi 15000 --coughvid 5000
    python -m benchmarks.corpus --tables <data root> --icbhi 700000 --coughvid 300000
"""

import argparse
import hashlib
import io
import itertools
import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import records
from pipeline.readers import coughvid
from pipeline.records import Recording
from pipeline.steps import layout, recordings, store

SECONDS, RATE, BLOCKS = 4, 8000, 32
_DISEASES = ("COPD", "Healthy", "URTI", "Bronchiectasis")
_LOCATIONS = ("Tc", "Al", "Ar", "Pl", "Pr", "Ll", "Lr")
_DEVICES = ("AKGC417L", "LittC2SE", "Litt3200", "Meditron")
_BATCH = 4096


def _stems(count: int) -> Iterator[tuple[str, str]]:
    """Patient and stem: each patient has up to 1,120 recordings, spread evenly."""
    takes = itertools.product(range(10), "bp", range(10), _LOCATIONS)
    names = ((f"{r}{c}{n}_{place}", p) for r, c, n, place in takes for p in range(1000))
    for (take, p), device in zip(itertools.islice(names, count), itertools.cycle(_DEVICES)):
        yield f"{p:03d}", f"{p:03d}_{take}_sc_{device}"


def _person(patient: str) -> tuple[str, str, str, str]:
    """Age, sex, body mass index, disease."""
    n = int(patient)
    return str(20 + n % 70), "MF"[n % 2], f"{17 + n % 200 / 10:.1f}", _DISEASES[n % 4]


def write_icbhi(root: Path, count: int) -> None:
    """``count`` wav files of four seconds at 8 kHz with cycle files and side files."""
    audio = root / "ICBHI_final_database"
    audio.mkdir(parents=True)
    noise = np.random.default_rng(0).normal(0, 4000, (BLOCKS, SECONDS * RATE)).astype("<i2")
    people: dict[str, tuple[str, ...]] = {}
    sides: list[str] = []
    for i, (patient, stem) in enumerate(_stems(count)):
        with wave.open(str(audio / f"{stem}.wav"), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(np.roll(noise[i % BLOCKS], i // BLOCKS).tobytes())
        (audio / f"{stem}.txt").write_text(f"0.1\t1.9\t{i % 2}\t0\n1.9\t3.9\t0\t{i % 3 // 2}\n")
        people[patient] = _person(patient)
        sides.append(f"{stem}\t{'train' if int(patient) % 5 < 3 else 'test'}")
    tables = {
        "demographic_information": [
            f"{p}\t{a}\t{s}\t{b}\tNA\tNA" for p, (a, s, b, _) in people.items()
        ],
        "diagnosis": [f"{p}\t{d}" for p, (*_, d) in people.items()],
    }
    for name, lines in tables.items():
        (root / f"ICBHI_Challenge_{name}.txt").write_text("\n".join(lines) + "\n")
    (root / "ICBHI_challenge_train_test.txt").write_text("\n".join(sides) + "\n")


def _row(i: int) -> dict[str, str]:
    """Row of CoughVID's table; one in three names place, age and sex, by which it is linked."""
    name = UUID(bytes=hashlib.sha256(b"%d" % i).digest()[:16], version=4)
    return {
        "uuid": str(name),
        "datetime": f"2020-0{4 + i % 5}-1{i % 9}T12:00:00.000000+00:00",
        "cough_detected": f"{0.8 + i % 200 / 1000:.4f}",
        "latitude": f"{i % 900 / 10:.1f}" if i % 3 == 0 else "",
        "longitude": f"{i % 1790 / 10:.1f}" if i % 3 == 0 else "",
        "age": str(18 + i % 60),
        "gender": ("male", "female")[i % 2],
        "respiratory_condition": str(i % 7 == 0),
        "fever_muscle_pain": str(i % 11 == 0),
        "status": ("healthy", "symptomatic", "COVID-19")[i % 3],
    }


def write_coughvid(root: Path, count: int) -> None:
    """``count`` WebM files of four seconds and the table that names them."""
    folder = root / "public_dataset"
    folder.mkdir(parents=True)
    blocks = [_opus(seed) for seed in range(BLOCKS)]
    lines = [",".join(_row(0))]
    for i in range(count):
        row = _row(i)
        lines.append(",".join(row.values()))
        (folder / f"{row['uuid']}.webm").write_bytes(_turned(blocks[i % BLOCKS], i // BLOCKS))
    (folder / "metadata_compiled.csv").write_text("\n".join(lines) + "\n")


def _opus(seed: int) -> bytes:
    noise = np.random.default_rng(seed).normal(0, 3000, SECONDS * 48_000).astype(np.int16)
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as out:
        stream = out.add_stream("libopus", rate=48_000, layout="mono", bit_rate=24_000)
        frame = av.AudioFrame.from_ndarray(noise[None], format="s16", layout="mono")
        frame.sample_rate = 48_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def _turned(block: bytes, by: int) -> bytes:
    """The file with two of its packets changing places, another two for every ``by``."""
    file = io.BytesIO()
    with av.open(io.BytesIO(block)) as source, av.open(file, "w", format="webm") as out:
        sound = source.streams.audio[0]
        stream = out.add_stream_from_template(sound)
        packets = [p for p in source.demux(sound) if p.size]
        times = [(p.pts, p.dts) for p in packets]
        one, other = next(
            itertools.islice(itertools.combinations(range(len(packets)), 2), by, None)
        )
        packets[one], packets[other] = packets[other], packets[one]
        for packet, (packet.pts, packet.dts) in zip(packets, times, strict=True):
            packet.stream = stream
            out.mux(packet)
    return file.getvalue()


def _icbhi(count: int) -> Iterator[Recording]:
    """What the reader would yield of ``write_icbhi``."""
    for i, (patient, stem) in enumerate(_stems(count)):
        age, sex, bmi, disease = _person(patient)
        _, take, place, mode, device = stem.split("_")
        yield Recording(
            native_id=stem,
            member=f"ICBHI_final_database/{stem}.wav",
            modality="lung",
            case_id=f"{patient}_{take}",
            person=patient,
            official_split="train" if int(patient) % 5 < 3 else "test",
            findings={
                "age": float(age), "sex": sex, "bmi": float(bmi), "diagnosis": disease,
                "location": place, "mode": mode, "device": device, "cycles": 2,
                "crackle_cycles": i % 2, "wheeze_cycles": i % 3 // 2,
            },
            row={"patient": patient, "age": age, "diagnosis": disease},
        )  # fmt: skip


def _coughvid(count: int) -> Iterator[Recording]:
    for i in range(count):
        row = {k: v for k, v in _row(i).items() if v}
        entry = coughvid._entry(Path(), row["uuid"], row, Path(f"{row['uuid']}.webm"))
        assert isinstance(entry, Recording)
        yield entry


def write_table(data: Path, dataset: str, rows: Iterator[Recording]) -> None:
    """Table and stamp as of the recordings step; the sounds that they describe are not there."""
    here = layout.Dataset(data, dataset)
    here.folder.mkdir(parents=True)
    entries = (_entry(dataset, i, row) for i, row in enumerate(rows))
    with pq.ParquetWriter(here.recordings, recordings.SCHEMA, compression="zstd") as out:
        while batch := list(itertools.islice(entries, _BATCH)):
            out.write_table(pa.Table.from_pylist(batch, schema=recordings.SCHEMA))
    store.write_table(here.quarantine, [], recordings.QUARANTINE)
    store.write_json(here.recordings_stamp, {"key": "", "version": "load", "facts": {}})


def _entry(dataset: str, i: int, row: Recording) -> dict[str, Any]:
    digest = hashlib.sha256(f"{dataset}{i}".encode()).hexdigest()
    return vars(row) | {
        "recording_id": records.recording_id(dataset, row.native_id), "dataset": dataset,
        "findings": json.dumps(row.findings, sort_keys=True), "row": json.dumps(row.row),
        "raw_sha256": digest, "raw_bytes": 64_044, "audio_sha256": digest[::-1],
        "native_rate": RATE, "native_format": "WAV PCM_16", "native_channels": 1,
        "duration_s": float(SECONDS), "peak": 0.5, "rms_dbfs": -18.0, "clipped_fraction": 0.0,
        "part": digest[:16], "offset": 512, "size": 40_000,
    }  # fmt: skip


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--tables", type=Path)
    parser.add_argument("--icbhi", type=int, default=0)
    parser.add_argument("--coughvid", type=int, default=0)
    wanted = parser.parse_args()
    if wanted.root:
        write_icbhi(wanted.root / "icbhi", wanted.icbhi)
        write_coughvid(wanted.root / "coughvid", wanted.coughvid)
    if wanted.tables:
        write_table(wanted.tables, "icbhi", _icbhi(wanted.icbhi))
        write_table(wanted.tables, "coughvid", _coughvid(wanted.coughvid))


if __name__ == "__main__":
    main()
