"""``python -m acula_model.training job.json``: one process of a run; see ``job``."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from acula_model.training.job import ERROR, RESULT, Job


def main(path: Path) -> int:
    """Run a job; an error that its reader can mend is one line in ``error.txt``."""
    job = Job.read(path)
    first = int(os.environ.get("RANK", "0")) == 0
    if job.parent is not None:
        _end_with(*job.parent)
    from acula_model.training import loop, reading

    with _lines() as progress:
        try:
            result = loop.align(
                job.recipe,
                reading.given(job, progress),
                job.folder,
                progress,
                job.device,
                job.about,
                job.teacher,
                job.key,
                job.save_seconds,
                job.trackers,
            )
        except (ValueError, OSError) as error:
            (job.folder / ERROR).write_text(f"{error}\n")
            print(f"acula: {error}", file=sys.stderr)  # noqa: T201
            return 1
    if first:
        found = {"best_epoch": result.best_epoch, "history": result.history}
        temporary = job.folder / f".{RESULT}.{os.getpid()}"
        temporary.write_text(json.dumps({"folder": str(result.folder), **found}))
        temporary.replace(job.folder / RESULT)
    return 0


@contextmanager
def _lines() -> Iterator[Callable[[str], None]]:
    """Lines to Dagster, where it started this process, or to the terminal.

    Only processes on Dagster's node have its context, so the first of each node speaks to it;
    the reporter keeps all but the first of the run silent.
    """
    if "DAGSTER_PIPES_CONTEXT" not in os.environ or os.environ.get("LOCAL_RANK", "0") != "0":
        yield lambda line: print(line, flush=True)  # noqa: T201
        return
    import dagster_pipes

    with dagster_pipes.open_dagster_pipes() as pipes:
        yield pipes.log.info


def _end_with(host: str, process: int) -> None:
    """End when the process that asked for the run is gone."""
    if host != socket.gethostname():
        return

    def watch() -> None:
        while True:
            time.sleep(2)
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                os._exit(1)  # the last saved state is whole; nobody waits for a newer one

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
