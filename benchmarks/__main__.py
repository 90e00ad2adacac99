"""Every benchmark in one command, in processes of their own, and their lines in one table.

    python -m benchmarks --data <folder with some 30 GB free> [--only reports shards ...]

The release's side runs where REF_ACULA and REF_OPERA name its checkouts. Lines of benchmarks that
were not run again stay in the table, with the day they were measured.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import rows
from pipeline.pool import cores

OUT = Path(__file__).parent / "results.md"
VERSIONS = ("dagster", "librosa", "numpy", "pyarrow", "soundfile", "soxr", "torch")
COMMANDS = {
    "startup": "startup --data {data}/startup",
    "download": "download",
    "normalisation": "normalisation --data {data}/normalisation",
    "reports": "reports --reports 70000",
    "shards": "shards --data {data}/shards",
    "grouping": "grouping --rows 1000000",
    "preparation": "scale --data {data}/scale",
    "trace": "trace",
    "explorer": "explorer",
    "loading": "loading --data {data}/loading",
    "training_step": "training_step",
    "embedding": "embedding --data {data}/embedding",
    "evaluation": "evaluation",
}
HEAD = "| measured | result | beside | ratio: median [range] of paired rounds | goal | run |"


def machine() -> str:
    """Processor, cores, memory, versions."""
    about = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in about.splitlines() if "model name" in line]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{v} {version(v)}" for v in VERSIONS)
    return (
        f"{cores()} cores ({names[0] if names else platform.processor()}), {memory:.0f} GiB, "
        f"Python {platform.python_version()}, {versions}"
    )


def run(name: str, data: Path, place: Path) -> list[rows.Row]:
    """The lines of one benchmark."""
    place.unlink(missing_ok=True)
    command = [sys.executable, "-m", *f"benchmarks.{COMMANDS[name]}".format(data=data).split()]
    done = subprocess.run(command, env=os.environ | {rows.FILE: str(place)}, check=False)
    if done.returncode:
        print(f"benchmarks.{name} ended with {done.returncode}: its lines stay as they were")  # noqa: T201
        return []
    lines = place.read_text().splitlines() if place.exists() else []
    return [rows.Row(**json.loads(line)) for line in lines]


def kept(out: Path) -> dict[str, list[str]]:
    """Lines of the table by benchmark, as they stand."""
    found: dict[str, list[str]] = {}
    for line in out.read_text().splitlines() if out.exists() else ():
        if line.startswith("| ") and " run |" not in line:
            name = line.rstrip("| ").rpartition("| ")[2].split(",")[0]
            found.setdefault(name, []).append(line)
    return found


def write(out: Path, lines: dict[str, list[str]]) -> None:
    """The table, in the order of the commands."""
    text = [
        "# Measured speed", "",
        f"`python -m benchmarks --data <folder>` makes this table. Last run on {machine()}.",
        "Ratios are of speed, so that more is better, unless it says time.", "",
        HEAD, "| --- " * 6 + "|",
    ]  # fmt: skip
    text += [line for name in COMMANDS for line in lines.get(name, [])]
    out.write_text("\n".join(text) + "\n")


def main() -> None:
    """Run what is asked for; the table is written after each, so that a stop loses one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    asked.data.mkdir(parents=True, exist_ok=True)
    lines, day = kept(asked.out), datetime.now(UTC).date().isoformat()
    for name in asked.only:
        found = run(name, asked.data, asked.data / "rows.jsonl")
        lines[name] = (
            lines.get(name, [])
            if not found
            else [
                f"| {r.stage} | {r.rate} | {r.beside} | {r.ratio} | {r.goal} | {name}, {day} |"
                for r in found
            ]
        )
        write(asked.out, lines)


if __name__ == "__main__":
    main()
