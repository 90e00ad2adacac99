"""results.json by the contract, from the scores that stand in two folders."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from acula_model.evaluation import intervals, subgroups
from acula_model.evaluation.score import Prediction, Score
from pipeline.steps import score_files, store

Key = tuple[str, str, str, str]


def load(place: Path) -> tuple[dict[Key, Score], dict[Key, list[Prediction]]]:
    """Scores and predictions by task, variant, protocol and head."""
    said: dict[Key, list[Prediction]] = {}
    for row in store.read_table(place / "predictions.parquet").to_pylist():
        one = Prediction(**row)
        said.setdefault((one.task, one.variant, one.protocol, one.head), []).append(one)
    return {(s.task, s.variant, s.protocol, s.head): s for s in score_files.scores(place)}, said


def make(
    floor: Path, run: Path, manifests: Mapping[str, Any], aligned: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """What ``comparison`` would write; verdicts by the rules of the contract.

    Args:
        floor: Folder with ``encoder`` and ``shortcut``.
        run: Folder with ``scores``.
        manifests: By dataset.
        aligned: task -> tested persons who were in alignment training.
    """
    before, before_said = load(floor / "encoder")
    after, after_said = load(run / "scores")
    shortcut, _ = load(floor / "shortcut")
    rows, ours, other = [], {}, {}
    for key, score in after.items():
        dataset, _, name = score.task.partition("/")
        task = manifests[dataset].tasks[name]
        old = before.get(key)
        row = _row(score, old, shortcut.get((*key[:2], "default", key[3])), task)
        row["leakage"]["aligned_persons"] = (aligned or {}).get(score.task, 0)
        if score.value is not None and old is not None and old.value is not None:
            pair = [subgroups.scored(s[key], task.kind) for s in (after_said, before_said)]
            row["difference"] = _difference(*pair)
            if key[1:3] == ("subject_clean", "default") and score.metric == "auroc":
                ours[score.task], other[score.task] = [pair[0]], [pair[1]]
        row["verdict"] = verdict(row)
        rows.append(row)
    mean = intervals.mean_difference(ours, other) if ours else None
    return {
        "schema": 1,
        "run": {"name": run.name, "recipe": "demo", "regime": "disjoint", "encoder": "small",
                "teacher": "lsa", "best_epoch": 3, "made_up": True, "weights": "random weights",
                "draws": 2000},
        "summary": {
            "variant": "subject_clean", "protocol": "default", "metric": "auroc",
            "tasks": len(ours), "before": 0.5, "after": 0.6,
            "difference": {n: getattr(mean, n) for n in ("value", "low", "high", "p")}
            if mean else None,
        },
        "rows": rows,
    }  # fmt: skip


def _row(score: Score, old: Score | None, deaf: Score | None, task: Any) -> dict[str, Any]:
    return {
        **{n: getattr(score, n) for n in ("task", "variant", "protocol", "head", "metric")},
        "title": task.title,
        "dataset": score.task.partition("/")[0],
        "kind": task.kind,
        "unit": "l" if task.kind == "regression" else None,
        "regime": "disjoint",
        "before": _side(old),
        "after": _side(score),
        "difference": None,
        "floors": {
            "chance": score.floor,
            "majority": score.details.get("majority"),
            "shortcut": _estimate(deaf.value, deaf.low, deaf.high) if deaf else None,
            "identity_lookup": score.identity_lookup,
            "shuffled": _estimate(score.shuffled, score.shuffled_low, score.shuffled_high),
            "label_leak": {"full": 0.97, "strict": 0.61} if task.kind == "binary" else None,
        },
        "units": {f: n if isinstance(n, int) else sum(n) for f, n in score.units.items()},
        "persons": dict(score.persons),
        "classes": dict(score.classes),
        "class_names": list(task.codes),
        "leakage": {"shared_persons": score.shared_persons, "aligned_persons": 0,
                    "heard_persons": 0, "near_duplicates": None, "pretraining": "random weights"},
        "flags": list(score.flags),
        "reason": score.reason,
        "details": {"before": dict(old.details) if old else {}, "after": dict(score.details)},
        "subgroups": [],
        "certificate": None,
    }  # fmt: skip


def _side(score: Score | None) -> dict[str, Any] | None:
    if score is None or score.value is None:
        return None
    return {n: asdict(score)[n] for n in ("value", "low", "high", "sd_over_seeds")}


def _estimate(value: Any, low: Any, high: Any) -> dict[str, Any] | None:
    return None if value is None else {"value": value, "low": low, "high": high}


def _difference(ours: intervals.Scored, other: intervals.Scored) -> dict[str, Any]:
    found = intervals.difference(ours, other)
    return {
        **{n: getattr(found, n) for n in ("value", "low", "high", "p")},
        "p_holm": min(1.0, 2 * found.p),
        "minimum_detectable": found.detectable,
    }


def verdict(row: Mapping[str, Any]) -> dict[str, str]:
    """The rules of the contract, in order."""
    leakage, floors, change = row["leakage"], row["floors"], row["difference"]
    if row["after"] is None:
        return {"mark": "none", "words": row["reason"]}
    if leakage["aligned_persons"]:
        return {"mark": "bad", "words": "test persons were in alignment training"}
    if leakage["shared_persons"]:
        return {"mark": "bad", "words": "test persons are also in the probe's training"}
    if "constant_features" in row["flags"]:
        return {"mark": "bad", "words": "the embedding does not vary"}
    if "below_chance" in row["flags"]:
        return {"mark": "bad", "words": "below chance: look for swapped labels"}
    if floors["shortcut"] and row["metric"] == "auroc":
        best = max(floors["shortcut"]["value"], floors["identity_lookup"] or 0)
        if best >= row["after"]["value"]:
            return {"mark": "warn", "words": "no better than metadata that hear no sound"}
    if change is None or change["low"] <= 0 <= change["high"]:
        return {"mark": "warn", "words": "no difference shown"}
    return {"mark": "ok", "words": "nothing found against it"}
