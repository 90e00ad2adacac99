"""Further probe heads are a setting: through embeddings, scores, floors, verdicts and the page."""

import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from page_world import MANIFESTS, RECIPE, world

from acula_model.evaluation import heads
from acula_model.evaluation.score import Score
from pipeline.settings import Settings
from pipeline.steps import score_files, store, training


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

    def baseline(*names: str) -> store.Outcome:
        own = Settings(**dict(here.settings) | {"heads": names})
        return training.baseline(own, RECIPE, MANIFESTS, lambda line: None)

    made_up = (here.corpus.recording_embeddings / here.floor.name).glob("*.npz")
    for path in [here.floor / "stamp.json", *made_up]:
        path.unlink()  # the small world did not make these by this step
    first = baseline("mlp")
    assert not first.skipped and baseline("linear", "mlp").skipped
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
