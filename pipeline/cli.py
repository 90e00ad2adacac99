"""The `acula` command: settings, datasets, results page, stuck runs, the model library's verbs."""

from typing import Annotated

import typer

from acula_model.cli import app as model_app
from pipeline import settings as configuration
from pipeline.cli_compare import app as compare_app
from pipeline.cli_datasets import app as datasets_app
from pipeline.cli_datasets import load_settings
from pipeline.cli_explore import app as explore_app
from pipeline.cli_reports import app as reports_app
from pipeline.cli_splits import app as splits_app
from pipeline.cli_trace import app as trace_app

app = typer.Typer(
    no_args_is_help=True,
    help="Audited report-audio pairs and the encoders they train.",
    pretty_exceptions_enable=False,
)
app.add_typer(datasets_app, name="datasets")
app.add_typer(reports_app, name="reports")
app.add_typer(splits_app, name="splits")
app.add_typer(compare_app)
app.add_typer(trace_app)
app.add_typer(explore_app)
app.add_typer(model_app)  # its verbs stand beside the project's own: acula embed, acula align


@app.command()
def settings() -> None:
    """Show every setting in force, with its environment variable and meaning."""
    from rich import print as show
    from rich.table import Table

    table = Table("variable", "value", "meaning")
    now = load_settings()
    for name, field in configuration.Settings.model_fields.items():
        value = now.store if now.store and name == "data_root" else getattr(now, name)
        text = ",".join(value) if isinstance(value, tuple) else str(value)
        table.add_row(f"ACULA_{name.upper()}", text, field.description)
    show(table)


@app.command()
def page() -> None:
    """Print where the results page is."""
    from pipeline.steps.layout import Corpus

    place = Corpus(load_settings().data_root).page.resolve()
    if not place.is_file():
        typer.echo(
            f"{place} is missing: run `dagster asset materialize --select '*results_page'`",
            err=True,
        )
        raise typer.Exit(1)
    typer.echo(f"results page: {place.as_uri()}")


@app.command()
def unlock(
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """End runs whose process was killed, so that the GPU slots they hold are free again."""
    from pipeline.defs import dead_runs

    with dead_runs.instance() as instance:
        runs = dead_runs.unfinished(instance)
        if not runs:
            typer.echo("no run is recorded as running")
            return
        for run in runs:
            typer.echo(f"{run.run_id}  {run.job_name}  {run.status.value}")
        if not yes:
            typer.confirm("Are the processes of these runs really gone?", abort=True)
        for run in runs:
            dead_runs.close(instance, run)
        typer.echo(f"closed {len(runs)} runs")


def main() -> None:
    """Entry point; a store that cannot be reached is one sentence."""
    from pipeline.steps.objects import StoreError

    try:
        app()
    except StoreError as error:
        raise SystemExit(str(error)) from error
