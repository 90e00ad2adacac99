"""How fast `acula explore` answers on 200,000 pairs, and what memory it takes.

A sample corpus is made with the pipeline's own steps; its tables are then repeated under new ids
until they hold that many rows, over the same sound. The server is a process of its own, as a user
starts it; times are those of whole answers over HTTP.

    python -m benchmarks.explorer [--pairs 200000] [--rounds 9]
"""

# ruff: noqa: T201
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import requests

from benchmarks import rows
from pipeline import settings as configuration
from pipeline.manifest import load_all
from pipeline.records import pair_id
from pipeline.steps import archive, layout, pairs, recordings, report_table, shards, store, subjects

DATASETS = ("circor", "coughvid", "hflung", "icbhi")
FILTERED = (
    "dataset=icbhi&split=test", "q=murmur", "q=wheezes+left+male", "finding=sex%3DFemale",
    "quality=clipped&order=clipped", "min_s=5&max_s=9&kind=pair", "q=nothing+has+this",
    "order=longest&page=2000", "diagnosis=chronic+obstructive+pulmonary+disease",
)  # fmt: skip


def make(root: Path, count: int) -> None:
    """A sample corpus, repeated to ``count`` pairs."""
    settings = configuration.load(data_root=root, archives="sample", datasets=",".join(DATASETS))
    known = {d: load_all()[d] for d in DATASETS}
    for manifest in known.values():
        archive.obtain(manifest, settings)
        recordings.prepare(manifest, settings)
        report_table.make(manifest, settings)
    subjects.decide(settings, known)
    pairs.join(settings)
    shards.write(settings, known)
    corpus = layout.Corpus(root)
    times = -(-count // pq.read_metadata(corpus.table("pairs")).num_rows)
    for dataset in DATASETS:
        here = corpus.dataset(dataset)
        for path in (here.recordings, here.reports):
            _repeat(path, times)
    for path in (corpus.table("subjects"), corpus.table("pairs"), corpus.shard_index):
        _repeat(path, times)


def _repeat(path: Path, times: int) -> None:
    table = pq.read_table(path)
    frame = table.to_pandas()
    copies: list[pd.DataFrame] = []
    for n in range(times):
        copy = frame.copy()
        for column in ("recording_id", "person_id") if n else ():
            if column in copy:
                copy[column] += f"-{n:04d}"
        if n and "pair_id" in copy:
            of = copy.get("recording_id", copy["pair_id"] + str(n))
            copy["pair_id"] = [pair_id(i) for i in of]
        copies.append(copy)
    whole = pd.concat(copies).sort_values("pair_id" if "pair_id" in frame else "recording_id")
    pq.write_table(
        pa.Table.from_pandas(whole, schema=table.schema, preserve_index=False), path,
        compression="zstd", row_group_size=store.ROWS_PER_GROUP,
    )  # fmt: skip


def _seconds(address: str) -> tuple[float, str]:
    begun = time.perf_counter()
    answer = requests.get(address, timeout=60)
    answer.raise_for_status()
    return time.perf_counter() - begun, answer.text


def _memory_mb(process: int) -> dict[str, float]:
    status = Path(f"/proc/{process}/status").read_text()
    return {
        said: int(found[1]) / 1024
        for name, said in (("VmRSS", "now"), ("VmHWM", "most"))
        if (found := re.search(rf"{name}:\s+(\d+) kB", status))
    }


def measure(root: Path, rounds: int) -> None:
    """Start the server, ask, and print a line per kind of page."""
    told = os.environ | {f"{configuration.PREFIX}DATA_ROOT": str(root)}
    command = [Path(sys.executable).with_name("acula"), "explore", "--port", "0"]
    begun = time.perf_counter()
    with subprocess.Popen(command, env=told, stdout=subprocess.PIPE, text=True) as server:
        try:
            _ask(server, begun, rounds)
        finally:
            server.terminate()


def _ask(server: "subprocess.Popen[str]", begun: float, rounds: int) -> None:
    assert server.stdout
    lines = iter(server.stdout.readline, "")
    base = next(m[0] for s in lines if (m := re.search(r"http://\S+", s)))
    print(f"{'start':34}        {1000 * (time.perf_counter() - begun):6.0f} ms")
    first, page = _seconds(f"{base}/")
    _line("first page", [first])
    slowest = [
        _line(query, [_seconds(f"{base}/?{query}")[0] for _ in range(rounds)]) for query in FILTERED
    ]
    names = re.findall(r'<th scope="row"><a [^>]*>([^<]*)</a>', page)[:rounds]
    one = {
        kind: _line(kind, [_seconds(f"{base}/{kind}/{quote(n)}")[0] for n in names])
        for kind in ("spectrogram", "recording", "chain")
    }
    memory = _memory_mb(server.pid)
    print(f"{'memory':34}        {memory['now']:6.0f} MB, at most {memory['most']:.0f}")
    rows.add("`acula explore`, first page", f"{1000 * first:.0f} ms", goal="300 ms")
    rows.add("filtered pages, slowest", f"{max(slowest):.0f} ms", goal="200 ms")
    rows.add("spectrogram, slowest", f"{one['spectrogram']:.0f} ms", goal="300 ms")
    rows.add("memory of the explorer", f"{memory['most']:.0f} MB", goal="500 MB")


def _line(name: str, times: list[float]) -> float:
    """Print a line; returns the slowest, in ms."""
    milliseconds = [1000 * t for t in times]
    print(f"{name:34} median {statistics.median(milliseconds):6.0f} ms, "
          f"slowest {max(milliseconds):6.0f}")  # fmt: skip
    return max(milliseconds)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--keep", type=Path, help="make the corpus here, or use the one that is")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = given.keep or Path(temporary)
        if not layout.Corpus(root).shard_index.is_file():
            make(root, given.pairs)
        measure(root, given.rounds)


if __name__ == "__main__":
    main()
