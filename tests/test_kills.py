"""Killed, or out of disk, at random points of the data steps: the next run makes the same bytes."""

import errno
import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TinyIcbhi, tone

from benchmarks import kills
from benchmarks.kills import content
from pipeline.settings import Settings

KILLS, DISKS = 30, 3
# One interpreter imports everything and forks: it starts no thread, so a child is as good as new.
# A child runs all steps, and is killed at its n-th operation on a file of the data root, counted
# by an audit hook, or after so many seconds, which reaches what is written without Python. With
# the number of an error, that operation and all later ones that write end with it instead.
HARNESS = """
import json, os, signal, sys, threading, time
from pathlib import Path
import pandas, pyarrow.parquet, soundfile, soxr  # what the steps would import first
from pipeline import settings as configuration
from pipeline.manifest import load_all
from pipeline.steps.disk import CannotWrite
from pipeline.steps import archive, pairs, parts, recordings, report_table, shards, subjects

archives = sys.argv[1]
parts.RECORDINGS_PER_PART = shards.PAIRS_PER_SHARD = 4
known = {"icbhi": load_all()["icbhi"]}
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}

def steps(root):
    at = configuration.load(data_root=root, archives=archives, datasets="icbhi", workers=1)
    quiet = lambda _: None
    archive.obtain(known["icbhi"], at)
    recordings.prepare(known["icbhi"], at, quiet)
    report_table.make(known["icbhi"], at)
    subjects.decide(at, known)
    pairs.join(at)
    shards.write(at, known, quiet)

def writes(event, arguments):
    new = event == "os.rename" or event == "os.mkdir"
    return new or event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))

def child(root, operation, seconds, number):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event in EVENTS and str(arguments[0]).startswith(root):
            seen += 1
            if number and seen >= operation and writes(event, arguments):
                raise OSError(number, os.strerror(number), str(arguments[0]))
            if seen == operation and not number:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    if seconds is not None:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    code = 1
    try:
        steps(root)
        code = 0
    except CannotWrite as error:
        code = 3 if "ACULA_DATA_ROOT" in str(error) else 1
    finally:
        sys.stderr.flush()
        os.write(int(os.environ["COUNTS"]), f"{seen}\\n".encode())
        os._exit(code)

reader, writer = os.pipe()
os.environ["COUNTS"] = str(writer)
for line in sys.stdin:
    root, operation, seconds, number = json.loads(line)
    begun = time.perf_counter()
    pid = os.fork()
    if not pid:
        child(root, operation, seconds, number)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seen = int(os.read(reader, 99)) if status >= 0 else 0
    print(json.dumps([status, seen, time.perf_counter() - begun]), flush=True)
"""


@pytest.mark.slow
def test_thirty_kills_and_refusing_disks_change_no_byte_and_leave_nothing(
    tmp_path: Path, settings: Callable[..., Settings]
) -> None:
    tiny = TinyIcbhi(tmp_path / "archives" / "icbhi")
    for number in range(24):
        side, diagnosis = ("train", "test")[number % 3 == 0], ("COPD", "Healthy")[number % 2]
        tiny.add(f"{101 + number}_1b1_Tc_sc_Meditron", tone(100 + 9 * number), side, diagnosis)
    tiny.save()
    seed = random.SystemRandom().randrange(1 << 32)
    draw = random.Random(seed)
    command = [sys.executable, "-c", HARNESS, str(tiny.root.parent)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as harness:
        assert harness.stdin and harness.stdout

        def run(
            root: Path, operation: int = 0, seconds: float | None = None, number: int = 0
        ) -> list[Any]:
            assert harness.stdin and harness.stdout
            asked = json.dumps([str(root), operation, seconds, number])
            print(asked, file=harness.stdin, flush=True)
            return json.loads(harness.stdout.readline())

        before, undisturbed = tmp_path / "before", tmp_path / "undisturbed"
        assert run(before)[0] == 0
        patient, *rest = tiny.people["102"]
        tiny.people["102"] = (str(int(patient) + 30), *rest)  # other reports, no other sound
        tiny.add("105_1b1_Tc_sc_Meditron", tone(50), "train")
        tiny.wav("108_1b1_Tc_sc_Meditron").unlink()
        tiny.save()
        status, operations, seconds = run(undisturbed)
        assert status == 0 and operations > 100
        wanted, kills, corpora = content(undisturbed), Counter[str](), 0
        assert wanted != content(before) and any(name.endswith(".tar") for name in wanted)
        while kills.total() < KILLS or status != 0:
            root = tmp_path / f"corpus{corpora}"
            if corpora % 2 and not root.exists():
                shutil.copytree(before, root)  # what is there already is to be brought up to date
            share = draw.random() ** 2  # often early, since the next run has less to do
            how = "time" if kills.total() % 3 == 2 else "operation"
            if kills.total() == KILLS:
                status, _, _ = run(root)
            elif how == "time":
                status, _, _ = run(root, 0, share * seconds)
            else:
                status, _, _ = run(root, 1 + int(share * operations))
            assert status in (0, -9), f"seed {seed}: the run after {kills} failed"
            kills[how] += status == -9
            if status == 0:
                assert content(root) == wanted, f"seed {seed}: corpus {corpora} after {kills}"
                corpora += 1
        for number in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):  # from some operation on
            root = tmp_path / f"refused{number}"
            ends = Counter[int]()
            for _ in range(DISKS):
                status, _, _ = run(root, 1 + int(0.8 * draw.random() * operations), None, number)
                ends[status] += 1  # later runs may be done before they come so far
            assert ends[3] and not ends.keys() - {0, 3}, f"seed {seed}: error {number}: {ends}"
            assert run(root)[0] == 0 and content(root) == wanted, f"seed {seed}: error {number}"
        harness.stdin.close()
    assert corpora > 2 and all(kills[how] > 5 for how in ("time", "operation"))


@pytest.mark.slow
def test_three_killed_runs_of_dagster_change_no_byte(tmp_path: Path) -> None:
    """Two with the pool, one on a local Dask cluster; more with ``benchmarks.kills``."""
    seed = random.SystemRandom().randrange(1 << 32)
    kills.rounds(tmp_path, 3, seed, lambda line: print(f"seed {seed}: {line}"))
