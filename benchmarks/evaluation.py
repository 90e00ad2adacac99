"""Scoring 18 tasks of real sizes from cached vectors of five encoders, by both protocols.

Vectors are made up; sizes, class shares and persons are those of the public benchmark's tasks.
Prints minutes by task, protocol and in total, and seconds of one interval.

    OMP_NUM_THREADS=2 python -m benchmarks.evaluation [--encoders 5]
"""

import argparse
import time
from typing import Any

import numpy as np

from acula_model.evaluation import intervals
from acula_model.evaluation.intervals import Scored
from acula_model.evaluation.run import run
from acula_model.evaluation.task import Published, Task
from benchmarks import rows as lines

WIDTHS = (384, 768, 1280, 768, 512)
# name: (train, val, test) by class, recordings of a person, published settings
BINARY: dict[str, tuple[list[tuple[int, int]], int, Published]] = {
    "uk/exhalation": ([(652, 348), (327, 173), (681, 319)], 1, Published(batch_size=64)),
    "uk/cough": ([(634, 366), (296, 204), (686, 314)], 1, Published(batch_size=64)),
    "coughvid/covid": ([(2501, 248), (826, 93), (2301, 206)], 1, Published(batch_size=64)),
    "coughvid/sex": ([(2154, 1064), (717, 373), (1924, 1031)], 1, Published(batch_size=64)),
    "icbhi/copd": ([(18, 444), (0, 0), (17, 349)], 8, Published(val_share=0.2)),
    "coswara/smoker": ([(689, 158), (0, 0), (58, 43)], 1, Published(val_share=0.2)),
    "coswara/sex": ([(1259, 585), (0, 0), (478, 174)], 1, Published(val_share=0.2)),
    "kauh/obstructive": (
        [(75, 87), (0, 0), (30, 42)], 3, Published(epochs=50, validate_every=5, val_share=0.1)
    ),
    "circor/murmur": ([(1390, 358), (460, 120), (460, 120)], 4, Published()),
    "zchsound/symptomatic": ([(420, 340), (140, 110), (133, 116)], 1, Published()),
}  # fmt: skip
SEVERITY = [(48, 36, 60, 48, 120), (12, 12, 12, 12, 36), (12, 12, 12, 24, 48)]
SPIROMETRY = Published(batch_size=64, patience=5, val_share=0.11)
BREATHING = Published(batch_size=64, val_share=0.2)


def world() -> tuple[dict[str, Task], list[dict[str, Any]]]:
    """Tasks and rows of all 18."""
    tasks: dict[str, Task] = {}
    rows: list[dict[str, Any]] = []

    def add(task: Task, fold: str, label: float, person: int, take: int) -> None:
        tasks[task.id] = task
        name = f"{task.id}/{fold}/{label:g}/{person}/{take}"
        rows.append(
            {"task": task.id, "variant": "subject_clean", "recording_id": name, "case_id": name,
             "person_id": f"{task.id}/{fold}/{'' if task.kind == 'regression' else label}/{person}",
             "fold": fold, "label": label}
        )  # fmt: skip

    for name, (sizes, each, settings) in BINARY.items():
        task = Task(id=name, title=name, published=settings)
        for fold, counts in zip(("train", "val", "test"), sizes, strict=True):
            for label, count in enumerate(counts):
                for n in range(count):
                    add(task, fold, label, n // each, n % each)
    names = ("0", "1", "2", "3", "4")
    task = Task(
        id="tr/severity", title="", kind="multiclass", classes=names,
        published=Published(),
    )  # fmt: skip
    for fold, counts in zip(("train", "val", "test"), SEVERITY, strict=True):
        for label, count in enumerate(counts):
            for n in range(count):
                add(task, fold, label, n // 6, n % 6)
    rng = np.random.default_rng(0)
    lung = [f"mmlung/{sound}_{what}" for sound in ("breath", "o") for what in ("fvc", "fev1", "r")]
    for name, persons, each, settings in [
        *[(n, 40, 1, SPIROMETRY) for n in lung], ("nosemic/rate", 16, 20, BREATHING),
    ]:  # fmt: skip
        task = Task(
            id=name, title=name, kind="regression", scheme="leave_one_person_out",
            published=settings,
        )  # fmt: skip
        for person in range(persons):
            for take in range(each):
                add(task, "each", float(rng.normal(3, 0.7)), person, take)
    return tasks, rows


def main() -> None:
    """Every task by every encoder, then one interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoders", type=int, default=len(WIDTHS))
    chosen = WIDTHS[: parser.parse_args().encoders]
    tasks, rows = world()
    total: dict[str, float] = {}
    for number, width in enumerate(chosen):
        rng = np.random.default_rng(number)
        mixed = rng.standard_normal((width, width)) * np.exp(-np.arange(width) / 60)[:, None]
        made = (rng.standard_normal((len(rows), width)) @ mixed).astype(np.float32)
        made += 0.03 * np.outer([r["label"] for r in rows], rng.standard_normal(width))
        features = {r["recording_id"]: vector for r, vector in zip(rows, made, strict=True)}
        for protocol in ("default", "published"):
            start, cpu = time.perf_counter(), time.process_time()
            scores, _ = run(features, rows, tasks, (protocol,))
            took, cpu = time.perf_counter() - start, time.process_time() - cpu
            total[protocol] = total.get(protocol, 0) + took
            assert all(s.reason is None for s in scores), [s.reason for s in scores]
            said = f"width {width}, {protocol}: {took:.1f} s, {cpu:.1f} s of processor time"
            print(said, flush=True)  # noqa: T201
    seconds = sum(total.values())
    lines.add(
        f"{len(tasks)} tasks x {len(chosen)} encoders x 2 protocols, vectors cached",
        f"{seconds / 60:.1f} minutes",
        goal="10 minutes",
    )
    rng = np.random.default_rng(0)
    scored = Scored(
        outputs=rng.random(2500), labels=(rng.random(2500) < 0.1).astype(np.float64),
        persons=[str(n) for n in range(2500)],
    )  # fmt: skip
    other = Scored(outputs=rng.random(2500), labels=scored.labels, persons=scored.persons)
    for what, work in (
        ("interval", lambda: intervals.interval([scored])),
        ("paired difference", lambda: intervals.difference(scored, other)),
    ):
        start = time.perf_counter()
        work()
        took = time.perf_counter() - start
        lines.add(f"{what} of 2,500 clips, 2,000 draws", f"{took:.2f} s", goal="1 s")


if __name__ == "__main__":
    main()
