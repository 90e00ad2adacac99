"""`acula compare`: runs side by side, task by task, with paired differences."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from acula_model.evaluation.intervals import Difference
    from acula_model.evaluation.score import Score
    from pipeline.steps.run_comparison import Comparison

app = typer.Typer()
_WIDTH = 200


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN ...",
            help="a run's folder, its name under the data root, or its recipe (the last such run); "
            "the others are held against the first",
        ),
    ],
    as_json: Annotated[Path | None, typer.Option("--json", help="also write for programs")] = None,
    variant: Annotated[str, typer.Option(help="of the split")] = "subject_clean",
    protocol: Annotated[str, typer.Option(help="`default` or `published`")] = "default",
    head: Annotated[
        str, typer.Option(help="`linear`, `mlp`, `attentive` or `finetune`")
    ] = "linear",
) -> None:
    """Compare runs: scores, and differences from the first run paired over the same persons."""
    from pipeline.cli_datasets import load_settings
    from pipeline.manifest import load_all
    from pipeline.steps import run_comparison, store

    root = load_settings().data_root
    tasks = {f"{d}/{n}": m.evaluation_task(n) for d, m in load_all().items() for n in m.tasks}
    way = run_comparison.Way(variant=variant, protocol=protocol, head=head)
    try:
        found = run_comparison.compare([run_comparison.load(root, r) for r in runs], tasks, way)
    except run_comparison.ComparisonError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    _show(found)
    if as_json:
        store.write_json(as_json, found.facts())


def _show(found: "Comparison") -> None:
    from rich.console import Console
    from rich.table import Table

    # Into a file or a pipe whole lines, or the names of tasks would be cut.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    first, *others = [r.name for r in found.runs]
    for run in found.runs:
        console.print(f"{run.name}: {run.folder}", markup=False)
    way = found.way
    console.print(f"{way.variant}, {way.protocol} protocol, {way.head} head; 95 % over persons")
    table = Table("task", "metric", first, *others, *(f"{o} - {first}" for o in others))
    for line in found.lines:
        gaps = [_gap(*d) if d else "-" for d in line.differences]
        table.add_row(line.task, line.metric, *map(_score, line.scores), *gaps)
    means = [_gap(m[1]) if m else "-" for m in found.means]
    tasks = max((m[0] for m in found.means if m), default=0)
    table.add_section()
    table.add_row(f"mean of {tasks}", "auroc", *[""] * len(found.runs), *means)
    console.print(table, markup=False)
    console.print("* p < 0.05 after Holm's correction over tasks; for mae, below zero is better")


def _score(score: "Score | None") -> str:
    if score is None or score.value is None:
        return "-"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def _gap(gap: "Difference", holm: float | None = None) -> str:
    star = " *" if holm is not None and holm < 0.05 else ""
    return f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] p={gap.p:.3f}{star}"
