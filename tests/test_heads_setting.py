"""Further probe heads are a setting: through embeddings, scores, floors, verdicts and the page."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import evaluation_world
import numpy as np
import pyarrow.parquet as pq
import pytest
import training_world
from evaluation_world import BINARY
from page_world import MANIFESTS, RECIPE, world
from training_world import silent

from acula_model import mels
from acula_model.evaluation import finetune, heads
from acula_model.evaluation.assess import Names, not_run
from acula_model.evaluation.score import Score
from acula_model.front_end import MelFrontEnd
from acula_model.spectra import Several, Source
from pipeline.settings import Settings
from pipeline.steps import finetuning, score_files, store, training


def of_heads(place: Path) -> dict[str, list[Score]]:
    found: dict[str, list[Score]] = {}
    for score in score_files.scores(place / "encoder"):
        found.setdefault(score.head, []).append(score)
    return found


def test_heads_through_baseline_comparison_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("EPOCHS", 4), ("SEEDS", (0,)), ("SHUFFLES", 2)):
        monkeypatch.setattr(heads, name, value)
    here = world(tmp_path, heads=("linear", "mlp"))

    def baseline(*names: str, say: Any = silent) -> store.Outcome:
        own = Settings.model_validate(dict(here.settings) | {"heads": names})
        return training.baseline(own, RECIPE, MANIFESTS, say)

    made_up = (here.corpus.recording_embeddings / here.floor.name).glob("*.npz")
    for path in [here.floor / "stamp.json", *made_up]:
        path.unlink()  # the small world did not make these by this step
    first = baseline("mlp")
    assert not first.skipped and baseline("linear", "mlp").skipped
    with monkeypatch.context() as patch:  # an encoder of other code finds none of its embeddings
        patch.setattr(training, "weights_code", lambda: "other")
        other = training.baseline_folder(here.settings, RECIPE)
    assert other.parent == here.floor.parent and other != here.floor
    told = of_heads(here.floor)
    assert {*told} == {"linear", "mlp"} and first.facts["further_heads"]["mlp"]

    here.make()
    rows = pq.read_table(here.run / "results.parquet").to_pylist()
    scored = {(r["task"], r["variant"], r["head"]): r for r in rows if r["mark"] != "none"}
    further = {key: r for key, r in scored.items() if key[2] == "mlp"}
    assert {key[:2] for key in further} == {key[:2] for key in scored if key[2] == "linear"}
    for (task, variant, _), row in further.items():
        plain = scored[task, variant, "linear"]
        for floor in ("chance", "shortcut", "identity_lookup"):
            assert row[f"floor_{floor}"] == plain[f"floor_{floor}"] is not None
        assert row["floor_shuffled"] not in (None, plain["floor_shuffled"])
        assert row["after_low"] < row["after_value"] < row["after_high"]
        assert row["difference_value"] is not None and row["verdict"]
    page = here.corpus.page.read_text()
    choices = re.search(r'<select name="head">(.*?)</select>', page)
    assert choices and re.findall("<option>(.*?)</option>", choices[1]) == ["linear", "mlp"]
    assert page.count('data-head="mlp"') == sum(r["head"] == "mlp" for r in rows)

    # The head that attends reads windows; it changes nothing that the others read or say.
    other = baseline("attentive")
    assert not other.skipped and other.version != first.version
    now = of_heads(here.floor)
    assert {*now} == {"linear", "attentive"} and now["linear"] == told["linear"]
    kept = sorted(here.corpus.recording_embeddings.rglob("*-windows.npz"))
    assert len(kept) == 2
    for path in kept:
        with np.load(path) as windows, np.load(str(path).replace("-windows", "")) as means:
            own = np.split(windows["vectors"], np.cumsum(windows["counts"])[:-1])
            assert windows["ids"].tolist() == means["ids"].tolist()
            np.testing.assert_allclose(
                [w.mean(0) for w in own], means["vectors"], rtol=1e-5, atol=1e-6
            )
    assert not baseline("linear").skipped and {*of_heads(here.floor)} == {"linear"}

    # Fine-tuning reads spectra; what is done of it is kept where a run was killed.
    quick = partial(finetune.Settings, epochs=1, seeds=(0,))
    monkeypatch.setattr(finetune, "Settings", quick)
    lines: list[str] = []
    assert not baseline("finetune", say=lines.append).skipped
    now = of_heads(here.floor)
    assert now["linear"] == told["linear"]
    asked = {(s.task, s.variant) for s in now["linear"] if s.protocol == "default"}
    assert {(s.task, s.variant) for s in now["finetune"]} == asked
    scored = [s for s in now["finetune"] if s.value is not None]
    assert scored and all(s.low is not None and s.shuffled is None for s in scored)
    assert any("fine-tuning 1 of" in n and "epoch 1 of 1" in n for n in lines)
    (here.floor / "stamp.json").unlink()
    monkeypatch.setattr(finetune, "run", None)
    baseline("finetune")
    assert of_heads(here.floor) == now


def test_what_was_tuned_is_kept_until_what_it_was_made_of_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = {BINARY.id: BINARY}
    rows = evaluation_world.world(persons=4, each=1)[1]
    rows += [r | {"variant": "as_published"} for r in rows]
    now = {"code": "one", "recordings": "one", "limit": 9}
    done: list[str] = []

    def tune(_encoder: Any, _source: Any, _pairs: Any, own: Any, task: Any, **_: Any) -> Any:
        if len(done) >= now["limit"]:
            raise InterruptedError
        done.append(own[0]["variant"])
        names = Names(variant=done[-1], protocol="default", head="finetune", features="encoder")
        return not_run(None, task.id, "auroc", names, f"made {len(done)}"), []

    def asked() -> list[str]:
        """Variants that are tuned now, and not taken from what was kept."""
        done.clear()
        ear: Any = SimpleNamespace(front_end=None, to=lambda _: None)
        here = Settings.model_validate({"data_root": tmp_path})
        found, _ = finetuning.run(here, rows, tasks, ear, tmp_path / "kept", str(now["code"]))
        assert [s.variant for s in found] == ["as_published", "subject_clean"]
        return list(done)

    monkeypatch.setattr(finetune, "run", tune)
    nothing = SimpleNamespace(front_end=SimpleNamespace(key=""), meta={})
    monkeypatch.setattr(finetuning.recording_spectra, "sources", lambda *_: [nothing])
    monkeypatch.setattr(finetuning.store, "version_at", lambda _: now["recordings"])
    now["limit"] = 1
    with pytest.raises(InterruptedError):
        asked()
    now["limit"] = 9
    assert asked() == ["subject_clean"] and asked() == []
    both = ["as_published", "subject_clean"]
    for name in ("code", "recordings"):
        now[name] = "two"
        assert asked() == both and asked() == []
    monkeypatch.setattr(finetune, "Settings", partial(finetune.Settings, epochs=6))
    assert asked() == both
    tasks[BINARY.id] = replace(BINARY, aggregate="case")
    assert asked() == both
    rows[0] = rows[0] | {"label": 1.0}
    assert asked() == ["subject_clean"] and asked() == []
    for path in tmp_path.glob("kept/*as_published*/predictions.parquet"):
        path.unlink()  # killed between its two files
    assert asked() == ["as_published"]


class Some:
    """A source with some of another one's pairs."""

    def __init__(self, whole: Source, ids: list[str]):
        self.front_end, self.meta = whole.front_end, {i: whole.meta[i] for i in ids}
        self.crops, self.grid = whole.crops, whole.grid


def test_several_sources_are_as_one(tmp_path: Path) -> None:
    training_world.write(tmp_path, count=16)
    whole = mels.load(tmp_path, tmp_path / "mels", MelFrontEnd(), lambda _: None)
    ids = sorted(whole.meta)
    several = Several([Some(whole, ids[:5]), Some(whole, ids[3:])])
    assert several.meta == whole.meta
    mixed = ids[::-3] + ids[1::3]
    seed_B = np.arange(len(mixed))
    (one, owner), (other, owned) = (s.grid(mixed) for s in (whole, several))
    assert owner.tolist() == owned.tolist()
    for a, b in ((one, other), (whole.crops(mixed, seed_B), several.crops(mixed, seed_B))):
        for name in ("level_BTM", "top_B", "step_B"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
