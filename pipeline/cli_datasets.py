"""`acula datasets`: what is here and what is missing, get archives, check a folder."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline import settings as configuration
from pipeline.manifest import Manifest, load_all

app = typer.Typer(help="Datasets: list, get, check.", invoke_without_command=True)


def load_settings() -> configuration.Settings:
    """The settings in force, or one sentence on what is wrong with them."""
    try:
        return configuration.load()
    except configuration.SettingsError as error:
        raise typer.BadParameter(str(error)) from error


@app.callback()
def listing(context: typer.Context) -> None:
    """List every dataset: size, licence, what is here, what is missing, what a person must do."""
    if context.invoked_subcommand:
        return
    from rich.console import Console
    from rich.table import Table

    from pipeline.steps import inspection

    settings = load_settings()
    table = Table("id", "packed size", "licence", "here", "missing", "what you must do")
    for manifest in load_all().values():
        line = inspection.state(manifest, settings)
        table.add_row(*(v for v in vars(line).values()))
    console = Console(soft_wrap=False)
    console.print(table)
    free = inspection.room(settings.data_root)
    console.print(f"archives: {settings.archives}; free at {settings.data_root}: {free}")


@app.command()
def show(name: Annotated[str, typer.Argument(metavar="ID", help="dataset id")]) -> None:
    """Everything about one dataset: licence, how to get it, what to cite."""
    from rich.console import Console
    from rich.markdown import Markdown

    from pipeline.steps import inspection

    Console().print(Markdown(inspection.page(_manifest(name))))


@app.command()
def get(ids: Annotated[list[str], typer.Argument(help="dataset ids")]) -> None:
    """Download, verify and unpack; goes on where an earlier run stopped."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from pipeline.fetch.meter import Meter
    from pipeline.steps import archive

    settings = load_settings()
    chosen = settings.model_copy(update={"archives": "download"})
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    for name in ids:
        with Progress(*columns) as bars:
            rows: dict[str, TaskID] = {}

            def show(meter: Meter, bars: Progress = bars, rows: dict[str, TaskID] = rows) -> None:
                if meter.name not in rows:
                    rows[meter.name] = bars.add_task(meter.name, total=meter.total)
                bars.update(rows[meter.name], completed=meter.done, total=meter.total)

            def say(line: str, bars: Progress = bars) -> None:
                bars.console.print(line, soft_wrap=True, markup=False, highlight=False)

            try:
                outcome = archive.obtain(_manifest(name), chosen, say, show, here=True)
            except ValueError as error:
                bars.stop()
                typer.echo(str(error), err=True)
                raise typer.Exit(1) from error
        facts = outcome.facts
        typer.echo(f"{name}: {facts['files']} files in {facts['root']}")
        if settings.archive_of(name) != "download":
            typer.echo(
                f"To use it: ACULA_ARCHIVES=download, or {settings.archives},{name}=download"
            )


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="ID", help="dataset id")],
    folder: Annotated[
        Path | None, typer.Argument(help="default: where the settings have the archive")
    ] = None,
) -> None:
    """Hold an unpacked folder against its manifest: names, counts, checksums."""
    from rich.console import Console
    from rich.table import Table

    from pipeline.steps import inspection, layout

    settings = load_settings()
    manifest = _manifest(name).edition(settings.edition_of(name))
    here = layout.Dataset(settings.data_root, name)
    own = settings.archive_of(name) in ("sample", "download")
    root = folder or (here.archive if own else Path(settings.archive_of(name)))
    if not root.is_dir():
        typer.echo(f"{root} is no folder. {manifest.instructions}", err=True)
        raise typer.Exit(1)
    noted = here.sums if root.resolve() == here.archive.resolve() else None
    table = Table("", "files", "expected", "found", "for example")
    lines = inspection.check(manifest, root, noted, lambda m: typer.echo(m.line, err=True))
    for line in lines:
        right = "[green]yes[/green]" if line.expected else ""
        mark = "[red]no[/red]" if line.wrong else right
        examples = "\n".join(line.examples)
        table.add_row(mark, line.what, line.expected, line.found, examples)
    Console().print(table)
    if wrong := [line.what for line in lines if line.wrong]:
        typer.echo(f"{root} differs from the manifest of {name}: {', '.join(wrong)}", err=True)
        raise typer.Exit(1)


def _manifest(name: str) -> Manifest:
    if name not in load_all():
        raise typer.BadParameter(f"no dataset {name!r}; valid ids: {', '.join(load_all())}")
    return load_all()[name]
