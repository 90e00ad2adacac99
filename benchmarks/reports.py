"""Rendering, reading back and writing many reports: seconds and peak memory per dataset.

    python -m benchmarks.reports [--reports 100000] [--data <folder>]

The findings of a sample archive are repeated under new recording ids until there are as many rows
as asked for, shared evenly by the seven alignment datasets; the reports step then runs as it does
in the pipeline, with all cores. Memory is the peak of the largest process.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks import rows
from pipeline import readers, samples
from pipeline.manifest import load_all
from pipeline.records import Recording
from pipeline.settings import load
from pipeline.steps import layout, report_parts, report_table, store


def recordings(dataset: str, data: Path, count: int) -> None:
    """A recordings table of ``count`` rows with the findings of a sample archive."""
    with tempfile.TemporaryDirectory() as archive:
        samples.sample(dataset).write(Path(archive), 1, 0.3)
        rows = [r for r in readers.reader(dataset).read(Path(archive)) if isinstance(r, Recording)]
    here = layout.Dataset(data, dataset)
    here.folder.mkdir(parents=True, exist_ok=True)
    said = [json.dumps(r.findings) for r in rows]
    table = pa.table(
        {
            "recording_id": [f"{dataset}/{n:07d}" for n in range(count)],
            "findings": [said[n % len(said)] for n in range(count)],
        }
    )
    pq.write_table(table, here.recordings, row_group_size=store.ROWS_PER_GROUP)
    store.write_json(here.recordings_stamp, {"version": f"{count}"})


def peak_megabytes() -> float:
    """The most that this process has held so far."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(x.split()[1] for x in status if x.startswith("VmHWM"))) / 1024


def main() -> None:
    """Run and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=int, default=100_000)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    table = Table("dataset", "reports", "seconds", "per second", "differences", "peak MB here")
    total = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        settings = load(data_root=options.data or Path(scratch))
        for dataset in settings.alignment:
            count = options.reports // len(settings.alignment)
            recordings(dataset, settings.data_root, count)
            begin = time.perf_counter()
            facts = report_table.make(load_all()[dataset], settings).facts
            took = time.perf_counter() - begin
            total += took
            wrong = sum(facts["audit"][r]["differences"] for r in report_parts.REGIMES)
            table.add_row(
                dataset, f"{count}", f"{took:.1f}", f"{count / took:.0f}", f"{wrong}",
                f"{peak_megabytes():.0f}",
            )  # fmt: skip
    Console().print(table)
    rows.add(
        f"{options.reports:,} reports, full and strict, read back and written",
        f"{total:.0f} s, {options.reports / total:,.0f}/s, main process {peak_megabytes():.0f} MiB",
        goal="5,000/s",
    )


if __name__ == "__main__":
    main()
