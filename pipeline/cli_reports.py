"""`acula reports`: hold reports that somebody wrote against the metadata they are about."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Reports: audit texts against metadata.", no_args_is_help=True)


@app.callback()
def _verbs() -> None:
    """Reports: audit texts against metadata."""


@app.command()
def audit(
    table: Annotated[
        Path, typer.Option("--csv", help="csv with a text column and metadata", exists=True)
    ],
    dataset: Annotated[str, typer.Option(help="whose manifest has the words")],
    text_column: Annotated[str, typer.Option(help="the column with the text")] = "Gen_Report",
    join: Annotated[
        Path | None,
        typer.Option(help="csv with the metadata, joined by patient or recording id", exists=True),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Count contradictions, inventions, unsupported certainty and duplicates, with examples."""
    from pipeline.audit import outside
    from pipeline.manifest import load_all

    if dataset not in load_all():
        raise typer.BadParameter(f"no dataset {dataset!r}; valid ids: {', '.join(load_all())}")
    manifest = load_all()[dataset]
    try:
        summary = outside.audit(manifest, outside.read(manifest, table, text_column, join))
    except outside.OutsideError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if as_json:
        facts = summary.facts() | {"examples": [asdict(e) for e in summary.examples]}
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    from pipeline.audit.check import KINDS

    shown = Table("defect", "texts", "times", "what it means", "for example", show_lines=True)
    for kind, meaning in KINDS.items():
        if summary.flagged[kind]:
            examples = [e for e in summary.examples if e.kind == kind][:2]
            cited = "\n".join(f"{e.recording_id}: {e.text}" for e in examples)
            counts = (str(summary.flagged[kind]), str(summary.defects[kind]))
            shown.add_row(kind, *counts, meaning, cited)
    console = Console()
    console.print(shown, markup=False)
    console.print(
        f"{summary.reports} texts, {summary.distinct} distinct, {summary.words_min} to "
        f"{summary.words_max} words (mean {summary.words_mean:.1f}), {len(summary.vocabulary)} "
        "different words. What the reader cannot parse it does not flag."
    )


@app.command()
def page(dataset: Annotated[str, typer.Argument(metavar="ID", help="dataset id")]) -> None:
    """Write a page of twenty reports beside their metadata, and print where it is."""
    from pipeline.cli_datasets import load_settings
    from pipeline.manifest import load_all
    from pipeline.steps import layout, reports_page

    if dataset not in load_all():
        raise typer.BadParameter(f"no dataset {dataset!r}; valid ids: {', '.join(load_all())}")
    settings = load_settings()
    try:
        reports_page.make(load_all()[dataset], settings)
    except FileNotFoundError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    place = layout.Dataset(settings.data_root, dataset).reports_page.resolve()
    typer.echo(f"reports: {place.as_uri()}")
