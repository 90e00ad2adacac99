"""Frozen features + task rows -> scores and predictions of every task, variant and protocol."""

# D = features, W = windows of a recording

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from acula_model.evaluation import examples as rows_of
from acula_model.evaluation import floors
from acula_model.evaluation.assess import Names, assess, not_run
from acula_model.evaluation.examples import Examples, Features, NotRun
from acula_model.evaluation.protocols import Outcome, default
from acula_model.evaluation.score import Prediction, Score
from acula_model.evaluation.task import Task

PROTOCOLS = ("default", "published")
HEADS = ("linear", "mlp", "attentive")
Found = tuple[list[Score], list[Prediction]]


def run(
    features: Features,
    rows: Iterable[Mapping[str, Any]],
    tasks: Mapping[str, Task],
    protocols: Sequence[str] = PROTOCOLS,
    heads: Sequence[str] = ("linear",),
    name: str = "encoder",
    progress: Callable[[str], None] = lambda _: None,
) -> Found:
    """Score features on every task and variant that has rows.

    Args:
        features: recording id -> [D], or [W, D] of its windows or tokens; heads that do not
            attend read the mean over them.
        rows: ``TaskRow`` of any tasks and variants, in any order.
        tasks: task id -> task.
        protocols: ``default``, and ``published`` (linear head only).
        heads: ``linear``, ``mlp``, ``attentive``.
        name: Of these features, such as ``encoder`` or ``shortcut``.
        progress: Told a line per task and variant.

    Returns:
        A score per task, variant, protocol and head, in that order, and the predictions behind
        them. What cannot be scored has a reason in place of a number.

    Raises:
        ValueError: A protocol or a head that does not exist, or rows of an unknown task.
    """
    if unknown := {*protocols} - {*PROTOCOLS} | {*heads} - {*HEADS}:
        raise ValueError(
            f"no protocol or head is called {', '.join(sorted(unknown))}: protocols are "
            f"{', '.join(PROTOCOLS)}, heads {', '.join(HEADS)}"
        )
    ways = [(p, h) for p in protocols for h in heads if p == "default" or h == "linear"]
    return _over(features, rows, tasks, [(p, h, _way(p, h)) for p, h in ways], name, progress)


def run_floors(
    features: Features, rows: Iterable[Mapping[str, Any]], tasks: Mapping[str, Task]
) -> Found:
    """The predictors that hear nothing, in the form of any other score.

    Args:
        features: Only which recordings have some matters: floors stand on the same ones.
        rows: As for ``run``.
        tasks: As for ``run``.
    """
    ways = [
        ("floor", "majority", floors.majority),
        ("floor", "identity_lookup", floors.identity_lookup),
    ]
    return _over(features, rows, tasks, ways, "none", lambda _: None)


Way = Callable[[Examples], Outcome]


def _way(protocol: str, head: str) -> Way:
    """How one protocol and head go from examples to an outcome."""
    if protocol == "published":
        return _published
    if head == "linear":
        return default.run
    from acula_model.evaluation import heads  # torch only where it is needed

    return lambda examples: heads.run(examples, "mlp" if head == "mlp" else "attentive")


def _published(examples: Examples) -> Outcome:
    from acula_model.evaluation.protocols import published

    if examples.task.published is None:
        raise NotRun("the benchmark has no protocol for this task")
    return published.run(examples, examples.task.published)


def _over(
    features: Features,
    rows: Iterable[Mapping[str, Any]],
    tasks: Mapping[str, Task],
    ways: Sequence[tuple[str, str, Way]],
    name: str,
    progress: Callable[[str], None],
) -> Found:
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["task"], row["variant"]), []).append(row)
    if unknown := {task for task, _ in grouped} - set(tasks):
        raise ValueError(f"rows of tasks that are not described: {', '.join(sorted(unknown))}")
    scores: list[Score] = []
    predictions: list[Prediction] = []
    for (task_id, variant), own in sorted(grouped.items()):
        task = tasks[task_id]
        examples = None
        for protocol, head, way in ways:
            names = Names(variant=variant, protocol=protocol, head=head, features=name)
            try:
                if examples is None:
                    examples = rows_of.gather(task, own, features)
                rows_of.check_size(examples)
                score, said = assess(examples, way(examples), names)
            except NotRun as reason:
                score = not_run(examples, task_id, task.metric, names, str(reason))
                said = []
            scores.append(score)
            predictions += said
        progress(f"{task_id} {variant}: scored by {len(ways)} heads")
    return scores, predictions
