"""`acula unlock` after a SIGKILL: the slot of the gpu pool that the dead run held is free again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
pytestmark = pytest.mark.slow

# What matters is the pool and the project's dagster.yaml; an asset that waits is killed surely.
DEFINITIONS = """
import time
from pathlib import Path

import dagster as dg

@dg.asset(pool="gpu")
def training():
    Path("begun").touch()
    time.sleep(600)

@dg.asset(pool="gpu")
def following():
    Path("done").touch()

defs = dg.Definitions([training, following])
"""


def test_a_killed_run_keeps_its_slot_until_it_is_unlocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dagster.yaml").write_bytes((ROOT / "dagster.yaml").read_bytes())
    (tmp_path / "project.py").write_text(DEFINITIONS)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER_", "ACULA_"))}

    def command(*words: str) -> tuple[subprocess.Popen[str], Path]:
        """Its output in a file: processes that outlive a killed run would keep a pipe open."""
        log = tmp_path / f"{len(list(tmp_path.glob('*.log')))}.log"
        with log.open("w") as out:
            started = subprocess.Popen(
                [str(BIN / words[0]), *words[1:]], cwd=tmp_path, env=kept, stdout=out, stderr=out,
                text=True,
            )  # fmt: skip
        return started, log

    def said(*words: str) -> str:
        started, log = command(*words)
        started.wait(200)
        return log.read_text()

    materialize = ("dagster", "asset", "materialize", "-f", "project.py", "--select")
    killed, log = command(*materialize, "training")
    while not (tmp_path / "begun").exists():
        assert killed.poll() is None, log.read_text()[-3000:]
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.wait(30)

    monkeypatch.chdir(tmp_path)  # the storage's folder in dagster.yaml is relative
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        gpu = instance.event_log_storage.get_concurrency_info
        assert (gpu("gpu").slot_count, len(gpu("gpu").claimed_slots)) == (1, 1)
        told = said("acula", "unlock", "--yes")
        assert "STARTED" in told and "closed 1 runs" in told, told
        assert not gpu("gpu").claimed_slots
        (run,) = instance.get_runs()
        assert run.status == dg.DagsterRunStatus.FAILURE
    told = said(*materialize, "following")
    assert (tmp_path / "done").exists(), told[-3000:]
    assert "no run is recorded as running" in said("acula", "unlock")
