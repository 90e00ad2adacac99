"""Metadata that hear no sound: they read what the metadata tell, and nothing they must not see."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import real_metadata
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from worlds import SHARED, needs

from acula_model.evaluation import run as evaluate
from pipeline.manifest import load_all
from pipeline.readers import reader
from pipeline.records import Recording
from pipeline.steps import shortcuts

Row = dict[str, Any]


def recording(number: int, **said: Any) -> Row:
    return {
        "recording_id": f"icbhi/{number}", "dataset": "icbhi", "findings": json.dumps(said),
        "native_rate": 4000, "native_format": "WAV", "duration_s": 20.0, "rms_dbfs": -20.0,
        "peak": 0.5, "clipped_fraction": 0.0,
    }  # fmt: skip


def test_what_a_shortcut_may_read() -> None:
    known = load_all()
    assert shortcuts.allowed(known["icbhi"], "copd") == [
        "age", "bmi", "device", "height", "location", "mode", "sex", "weight",
    ]  # fmt: skip
    of_covid, of_sex = (shortcuts.allowed(known["coughvid"], n) for n in ("covid", "sex"))
    # The sex is context of another task and no feature of its own; the status is never context.
    assert "sex" in of_covid and "day" in of_covid and "status" not in of_covid
    assert "sex" not in of_sex and "status" not in of_sex
    for dataset, manifest in known.items():
        for name, task in manifest.tasks.items():
            names = shortcuts.allowed(manifest, name)
            assert not {task.label, *task.masks} & {*names}, dataset
            assert not any(manifest.findings[n].heard for n in names), dataset


def test_own_label_and_what_was_heard_change_nothing() -> None:
    manifest = load_all()["icbhi"]
    plain = [recording(n, age=40.0 + n, device="Meditron") for n in range(6)]
    more = [
        recording(n, age=40.0 + n, device="Meditron", wheeze_cycles=n, diagnosis="COPD")
        for n in range(6)
    ]
    one, other = (shortcuts.features(rows, manifest, "copd") for rows in (plain, more))
    assert all((one[k] == other[k]).all() for k in one)


@pytest.mark.parametrize("tells", [True, False])
def test_a_device_that_goes_with_the_label_is_read(tells: bool) -> None:
    draw = np.random.default_rng(4)
    rows, table = [], []
    for n in range(300):
        label = int(draw.integers(2))
        by = label if tells else int(draw.integers(2))
        recorded = recording(n, device=("Meditron", "AKGC417L")[by], age=float(draw.integers(90)))
        table.append(recorded)
        rows.append(
            {"task": "icbhi/copd", "variant": "subject_clean", "recording_id": f"icbhi/{n}",
             "case_id": f"{n}", "person_id": f"{n}", "label": label,
             "fold": ("train", "train", "val", "test")[n % 4]}
        )  # fmt: skip
    manifest = load_all()["icbhi"]
    found = shortcuts.features(table, manifest, "copd")
    task = manifest.evaluation_task("copd")
    (score,), _ = evaluate.run(found, rows, {task.id: task}, ("default",))
    assert score.value is not None and score.low is not None and score.high is not None
    assert (score.low > 0.95) if tells else (score.low < 0.5 < score.high)


def test_a_day_becomes_a_weekday_and_a_month() -> None:
    manifest = load_all()["coughvid"]
    rows = [recording(n, day=n) | {"dataset": "coughvid"} for n in range(28)]
    found = np.stack([*shortcuts.features(rows, manifest, "covid").values()])
    assert found.shape == (28, found.shape[1]) and np.isfinite(found).all()
    weekly = [c for c in found.T if (c[:21] == c[7:28]).all() and c.sum() == 4]
    assert len(weekly) == 7


@given(st.lists(st.one_of(st.none(), st.integers(-5, 5), st.floats(-1e6, 1e6)), max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_numbers_give_ranks_and_one_tenth_each(values: list[float | None]) -> None:
    given_N = np.array([np.nan if v is None else v for v in values], float)
    table = shortcuts.spread(given_N)
    known = np.isfinite(given_N)
    assert np.isfinite(table).all() and len(table) == len(values)
    assert not table[~known].any()
    if known.any():
        assert (table[known, 2:].sum(1) == 1).all()
        expected = (rankdata(given_N[known]) - 0.5) / known.sum()
        assert table[known, 1] == pytest.approx(expected, abs=1e-6)


@needs(SHARED / "real/icbhi")
def test_on_the_real_metadata_of_icbhi_no_sound_is_needed(tmp_path: Path) -> None:
    """Published split: the device alone scores 0.987 on COPD, age alone 1.000."""
    (tmp_path / "ICBHI_final_database").mkdir()
    real_metadata.icbhi(tmp_path)
    manifest = load_all()["icbhi"]
    task = manifest.evaluation_task("copd")
    table, rows = [], []
    for one in reader("icbhi").read(tmp_path):
        if not isinstance(one, Recording):
            continue
        label = manifest.tasks["copd"].label_of(one.findings.get("diagnosis"))
        if label is None:
            continue
        key = f"icbhi/{one.native_id}"
        table.append(recording(0, **one.findings) | {"recording_id": key})
        rows.append(
            {"task": task.id, "variant": "as_published", "recording_id": key,
             "case_id": one.case_id, "person_id": str(one.person), "label": label,
             "fold": one.official_split}
        )  # fmt: skip
    assert len(rows) == 828
    found = shortcuts.features(table, manifest, "copd")
    (score,), _ = evaluate.run(found, rows, {task.id: task}, ("default",))
    assert score.value is not None and score.value > 0.98
    only = {}
    for row in table:
        said = json.loads(row["findings"])
        only[row["recording_id"]] = np.array([said["device"] == "Meditron"], float)
    (device,), _ = evaluate.run(only, rows, {task.id: task}, ("default",))
    assert device.value == pytest.approx(0.987, abs=0.001)
