"""Download, hash and unpack against `curl` and `unzip` of the same bytes, side by side.

    python -m benchmarks.download [--megabytes 400] [--rounds 5]

A server on this computer serves one zip of wav-like files. Each round times, one after the
other and in alternating order: `curl` followed by `unzip`, and this project's own verified
download (sha256, journal) and unpacking (CRC-32, sha256 of every member), both as whole
processes into fresh folders. Printed: medians, the ratio of the medians, peak memory.
"""

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import rows

OURS = """
import sys
from pathlib import Path
from pipeline.fetch.download import Want, download
from pipeline.fetch.unpack import unpack
from pipeline.fetch.volumes import LocalVolume, Volumes
from pipeline.pool import cores
from pipeline.sources import RemoteFile
url, sha256, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
file = RemoteFile(name="a.zip", urls=[url], sha256=sha256)
download(Want(file=file, urls=[url], target=folder / "a.zip"))
unpack("zip", Volumes([LocalVolume(folder / "a.zip")]), folder / "out", at_once=cores())
# not ru_maxrss, which a child inherits from the process that started it
print(next(x.split()[1] for x in open("/proc/self/status") if x.startswith("VmHWM")))
"""


def archive(folder: Path, megabytes: int) -> Path:
    """A zip of files that pack about as well as 16-bit recordings do."""
    draw = np.random.default_rng(1)
    path = folder / "served" / "a.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        for n in range(megabytes):
            noise = draw.normal(0, 300, 1 << 19).astype("<i2")
            out.writestr(f"sounds/{n}.wav", b"RIFF" + noise.tobytes())
    return path


def compare(ways: dict[str, list[str]], rounds: int) -> tuple[dict[str, list[float]], float]:
    """Seconds of each way in each round, and the peak memory of ours in MB."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    peak = 0.0
    for number in range(rounds + 1):  # the first warms caches and does not count
        for way in list(ways)[:: 1 if number % 2 else -1]:
            with tempfile.TemporaryDirectory() as at:
                begin = time.perf_counter()
                run = subprocess.run(ways[way], cwd=at, check=True, stdout=subprocess.PIPE)
                took = time.perf_counter() - begin
            if number:
                times[way].append(took)
            if way == "acula":
                peak = max(peak, int(run.stdout) / 1024)
    return times, peak


def main() -> None:
    """Run and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=400, help="unpacked size")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = archive(Path(name), options.megabytes)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
        with subprocess.Popen(
            command, cwd=path.parent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as server:
            assert server.stdout
            port = server.stdout.readline().split("port ")[1].split()[0]
            url = f"http://127.0.0.1:{port}/a.zip"
            theirs = f"curl -sf -o a.zip {url} && unzip -q a.zip -d out"
            ways = {
                "curl + unzip": ["sh", "-c", theirs],
                "acula": [sys.executable, "-c", OURS, url, sha256, "."],
            }
            try:
                times, peak = compare(ways, options.rounds)
            finally:
                server.terminate()
        packed = path.stat().st_size / 1e6
    table = Table("way", "seconds (median)", "range", "MB/s unpacked")
    for way, taken in times.items():
        middle = statistics.median(taken)
        span = f"{min(taken):.2f} to {max(taken):.2f}"
        table.add_row(way, f"{middle:.2f}", span, f"{options.megabytes * 1.05 / middle:.0f}")
    ratios = [a / b for a, b in zip(times["curl + unzip"], times["acula"], strict=True)]
    Console().print(table)
    rows.add(
        f"download, hash and unpack {packed:.0f} MB, verified",
        f"{options.megabytes * 1.05 / statistics.median(times['acula']):.0f} MB/s unpacked, peak "
        f"{peak:.0f} MB",
        "`curl` and `unzip`",
        rows.span(ratios),
    )


if __name__ == "__main__":
    main()
