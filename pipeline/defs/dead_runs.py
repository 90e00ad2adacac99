"""Runs whose process was killed stay `started` for ever and keep their pool slots; this ends them.

Dagster's run monitoring does not cover runs started from the command line.
"""

import os
from pathlib import Path

import dagster as dg


def instance() -> dg.DagsterInstance:
    """The instance that ./dagster.yaml describes, the one the command line and UI use."""
    if not Path("dagster.yaml").is_file() and "DAGSTER_HOME" not in os.environ:
        raise FileNotFoundError(f"no dagster.yaml in {Path.cwd()}: run this at the project root")
    os.environ.setdefault("DAGSTER_HOME", str(Path.cwd()))
    return dg.DagsterInstance.get()


def unfinished(where: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs recorded as started and not ended."""
    running = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    return list(where.get_runs(dg.RunsFilter(statuses=running)))


def close(where: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Record the run as failed and free its slots."""
    where.report_run_failed(run, message="closed by `acula unlock`: its process was gone")
    where.event_log_storage.free_concurrency_slots_for_run(run.run_id)
