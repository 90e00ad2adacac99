"""A row of results -> whether its number can be believed. The first rule that applies decides."""

from acula_model.evaluation.score import FLAGS as OF_SCORES
from pipeline.steps.results_schema import Mark, Measured, Verdict

FLAGS = OF_SCORES | {
    "aligned_persons": "persons of validation or test were in alignment training",
    "heard_persons": "test persons were heard in training, without their reports",
    "near_duplicates": "tested sounds are nearly equal to sounds that were learned from",
    "no_better_than_shortcut": "metadata that hear no sound are as good, or nearly so",
    "not_certified": "no certificate of this split was made",
}
_SIGNIFICANT = 0.05


def flags(row: Measured) -> list[str]:
    """Flags of both scores, and of what was counted; sorted."""
    leakage = row.leakage
    found = {
        "aligned_persons": leakage.aligned_persons > 0,
        "heard_persons": leakage.heard_persons > 0,
        "shares_persons": leakage.shared_persons > 0,
        "near_duplicates": bool(leakage.near_duplicates),
        "no_better_than_shortcut": _against_shortcut(row) is not None,
        "not_certified": row.reason is None and row.certificate is None,
    }
    return sorted({*row.flags, *(name for name, true in found.items() if true)})


def decide(row: Measured) -> Verdict:
    """The mark and the sentence of a row whose flags are set."""
    mark, words = _decide(row)
    return Verdict(mark=mark, words=words)


def _decide(row: Measured) -> tuple[Mark, str]:
    leakage, after = row.leakage, row.after
    if row.reason is not None or after is None:
        return "none", f"not run: {row.reason or 'the aligned encoder has no score'}"
    if leakage.aligned_persons:
        return "bad", f"test persons were in alignment training ({leakage.aligned_persons})"
    if leakage.heard_persons:
        heard = leakage.heard_persons
        return "warn", f"transductive: {heard} test persons were heard in training, without reports"
    if leakage.shared_persons or leakage.near_duplicates:
        return "bad", _shared(leakage.shared_persons, leakage.near_duplicates or 0)
    if "constant_features" in row.flags:
        return "bad", FLAGS["constant_features"]
    if "below_chance" in row.flags:  # which happens by chance where few are tested
        return "warn" if "few_persons" in row.flags else "bad", FLAGS["below_chance"]
    if "worse_than_mean" in row.flags:
        return "warn", FLAGS["worse_than_mean"]
    if words := _against_shortcut(row):
        return "warn", words
    if "includes_chance" in row.flags:
        return "warn", "not shown to be better than " + (
            "always saying the training mean" if row.metric == "mae" else "chance"
        )
    for flag in ("lone_person", "few_persons"):
        if flag in row.flags:
            return "warn", FLAGS[flag]
    if row.difference is None:
        return "warn", "no score before alignment to compare with"
    return _gain(row)


def _shared(persons: int, sounds: int) -> str:
    said: list[str] = []
    if persons:
        who = "test person is" if persons == 1 else "test persons are"
        said.append(f"{persons} {who} also in train or validation")
    if sounds:
        what = "tested sound is" if sounds == 1 else "tested sounds are"
        said.append(f"{sounds} {what} nearly equal to sounds that were learned from")
    return "; ".join(said)


def _against_shortcut(row: Measured) -> str | None:
    """Words where what hears no sound is as good, or where the encoder is not shown to be better.

    A point beside a point would be an accident of few persons, so the paired difference decides.
    """
    if row.after is None:
        return None
    sign = -1 if row.metric == "mae" else 1
    shortcut, known = row.floors.shortcut, row.floors.identity_lookup
    if shortcut is not None and sign * (row.after.value - shortcut.value) <= 0:
        return "no better than metadata that hear no sound"
    # At chance the lookup knows nobody: then it is no floor of its own.
    chance = row.floors.chance
    if (
        known is not None
        and chance is not None
        and sign * (known - chance) > 1e-9
        and sign * (row.after.value - known) <= 0
    ):
        return "no better than looking the person up"
    gap = row.beyond_shortcut
    if gap is not None:
        worst = gap.high if row.metric == "mae" else gap.low
        if worst is None or sign * worst <= 0:
            return "not shown to be better than metadata that hear no sound"
    return None


def _gain(row: Measured) -> tuple[Mark, str]:
    gap = row.difference
    if gap is None or gap.low is None or gap.high is None or gap.low <= 0 <= gap.high:
        return "warn", "no difference from before alignment is shown"
    if (gap.value < 0) != (row.metric == "mae"):
        return "warn", "worse than before alignment"
    if gap.p_holm >= _SIGNIFICANT:
        return "warn", "better than before alignment, but not if all tasks are counted (Holm)"
    return "ok", "better than before alignment"
