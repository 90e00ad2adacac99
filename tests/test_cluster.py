"""Data work on Dask: the same results and bytes, whatever is killed, and one sentence otherwise."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cluster_world as world
import pytest

from benchmarks.kills import content
from pipeline import cluster, pool
from pipeline.cluster import Cluster, ClusterError
from pipeline.settings import Settings, SettingsError
from pipeline.steps import parts, shards, store

NUMBERS = [(n,) for n in range(8)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[world.Processes]:
    """A scheduler and two workers, as on other computers."""
    with world.cluster(tmp_path_factory.mktemp("cluster"), workers=2) as started:
        yield started


@pytest.mark.parametrize("where", ["dask", "tcp"])
def test_the_tables_parts_and_shards_are_those_of_the_pool(
    where: str,
    running: world.Processes,
    materialise: Callable[..., dict[str, store.Outcome]],
    tiny_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "RECORDINGS_PER_PART", 4)
    monkeypatch.setattr(shards, "PAIRS_PER_SHARD", 4)
    pooled, dasked = tmp_path / "pooled", Path("dasked")  # as ACULA_DATA_ROOT=data is relative
    before = materialise(data_root=pooled)
    compute = running.address if where == "tcp" else where
    after = materialise(data_root=dasked, compute=compute, workers=2)
    assert {k: o.version for k, o in before.items()} == {k: o.version for k, o in after.items()}
    assert after["recordings"].facts["parts_made"] > 2
    assert (dasked / cluster.IDENTITY).is_file()
    assert content(dasked) == content(pooled)
    again = materialise(data_root=dasked, compute="local")
    assert all(outcome.skipped for outcome in again.values()), "where it is done is no input"


@pytest.mark.parametrize("where", ["dask", "tcp"])
def test_results_errors_and_a_killed_worker(
    where: str, running: world.Processes, tmp_path: Path
) -> None:
    at = Cluster(running.address if where == "tcp" else where, tmp_path)
    assert list(pool.run(world.square, [], 2, at)) == []
    with pytest.raises(ValueError, match="number 3"):
        list(pool.run(world.refuse, NUMBERS, 2, at))
    mark = tmp_path / "killed"
    found = list(pool.run(world.die_once, [(n, mark) for n in range(8)], 2, at))
    assert mark.exists()
    assert sorted(found) == [n * n for n in range(8)]  # each once: none lost, none doubled


def test_a_killed_scheduler_is_one_sentence_and_what_is_done_stays(tmp_path: Path) -> None:
    jobs = [(tmp_path / f"part{n}",) for n in range(12)]
    with (
        world.cluster(tmp_path, workers=1) as started,
        pytest.raises(ClusterError, match=r"scheduler of .* has ended.*is kept$"),
    ):
        for _ in pool.run(world.write_slowly, jobs, 2, Cluster(started.address, tmp_path)):
            started.scheduler.kill()
    missing = [job for job in jobs if not job[0].exists()]
    assert 0 < len(missing) < len(jobs)
    assert len(list(pool.run(world.write_slowly, missing, 2))) == len(missing)


def test_workers_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "from pathlib import Path\n"
        "from cluster_world import who\n"
        "from pipeline import pool\n"
        "if __name__ == '__main__':\n"
        f"    at = pool.Cluster('dask', Path({str(tmp_path)!r}))\n"
        "    for number in pool.run(who, [(n,) for n in range(1000)], 2, at):\n"
        "        print(number, flush=True)\n"
    )
    paths = os.pathsep.join((str(world.ROOT), str(Path(__file__).parent)))
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    ) as run:
        assert run.stdout
        workers: set[int] = set()
        while len(workers) < 2:
            workers.add(int(run.stdout.readline()))
        run.send_signal(signal.SIGKILL)
    world.wait_for(lambda: not any(map(world.alive, workers)))


def test_nobody_at_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ANSWER", 0.5)
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9: "):
        list(pool.run(world.square, NUMBERS, 2, Cluster("tcp://127.0.0.1:9", tmp_path)))


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[world.Processes]:
    with world.cluster(tmp_path) as started:
        yield started


def refusal(started: world.Processes, shared: Path) -> str:
    with pytest.raises(ClusterError) as caught:
        list(pool.run(world.square, NUMBERS, 2, Cluster(started.address, shared)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_workers_that_do_not_fit(
    lonely: world.Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody; one with other code, then with two threads, then one that sees another folder."""
    monkeypatch.setattr(cluster, "WORKERS", 0.5)
    assert "has had no worker for" in refusal(lonely, tmp_path)
    monkeypatch.setattr(cluster, "WORKERS", world.WAIT)
    other = tmp_path / "other"
    for name in ("pipeline", "acula_model"):
        shutil.copytree(world.ROOT / name, other / name)
    (other / "pipeline" / "records.py").open("a").write("# another version\n")
    worker = lonely.worker(code=other)
    assert " runs acula " in (said := refusal(lonely, tmp_path)) and " instead of " in said
    worker.kill()
    worker = lonely.worker(threads=2)
    assert "start it with --nthreads 1" in refusal(lonely, tmp_path)
    worker.kill()
    lonely.worker()
    monkeypatch.setattr(cluster, "_identity", lambda _: "of another folder")
    assert f"does not see {tmp_path}: several computers need" in refusal(lonely, tmp_path)


def test_a_scheduler_of_another_project(tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "pipeline").mkdir(parents=True)
    (other / "pipeline" / "__init__.py").touch()
    with world.cluster(tmp_path, code=other) as started:
        started.worker()
        assert "cannot load this project (No module" in refusal(started, tmp_path)


def test_the_setting(settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings().cluster is None
    at: Any = settings(compute="tcp://10.0.0.1:8786").cluster
    assert (at.address, at.shared) == ("tcp://10.0.0.1:8786", settings().data_root)
    with pytest.raises(SettingsError, match="neither `local` nor `dask` nor `tcp://host:port`"):
        settings(compute="10.0.0.1:8786")
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    assert settings(compute="local").cluster is None
    with pytest.raises(SettingsError, match=r"'dask' needs Dask.*pip install 'acula\[dask\]'"):
        settings(compute="dask")
