"""`acula splits`: certify who and what is on two sides of any split."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.doctor.certificate import Certificate
    from pipeline.doctor.table import Choices, Split

app = typer.Typer(help="Splits: persons, sounds and shortcuts on both sides.", no_args_is_help=True)

_COLUMNS = "Columns (guessed from the header)"
_PERSONS = "Who is who"
_MARKS = {
    "fail": "[red]FAIL[/red]",
    "warn": "[yellow]warn[/yellow]",
    "unknown": "[yellow]?[/yellow]",
    "pass": "[green]ok[/green]",
}
Column = Annotated[str | None, typer.Option(metavar="COLUMN", rich_help_panel=_COLUMNS)]


@app.callback()
def _verbs() -> None:
    """Splits: persons, sounds and shortcuts on both sides."""


@app.command()
def check(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="TABLE",
            help="csv, tsv or parquet; one per side as `train=a.csv test=b.csv`; or a task of this "
            "project such as icbhi/copd",
        ),
    ],
    as_json: Annotated[Path | None, typer.Option("--json", help="also write for programs")] = None,
    html: Annotated[Path | None, typer.Option(help="also write a page to read or print")] = None,
    strict: Annotated[
        bool, typer.Option(help="likely persons, similar sounds and unknown persons fail, too")
    ] = False,
    split: Column = None,
    label: Column = None,
    recording: Column = None,
    path: Column = None,
    device: Column = None,
    site: Column = None,
    age: Column = None,
    sex: Column = None,
    date: Column = None,
    also: Annotated[
        str, typer.Option(help="further columns, with commas", rich_help_panel=_COLUMNS)
    ] = "",
    side: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=COLUMN:VALUE",
            help="rows with this value are on this side; repeat it. A row may be on several",
            rich_help_panel=_COLUMNS,
        ),
    ] = None,
    person: Column = None,
    person_pattern: Annotated[
        str | None,
        typer.Option(
            help="regular expression whose first group in the path or id names the person",
            rich_help_panel=_PERSONS,
        ),
    ] = None,
    proxy: Annotated[
        str,
        typer.Option(
            help="columns that together stand in for a person, with commas; guessed where place, "
            "age and sex are there and no person is",
            rich_help_panel=_PERSONS,
        ),
    ] = "",
    decimals: Annotated[
        int, typer.Option(help="to which a proxy's numbers are rounded", rich_help_panel=_PERSONS)
    ] = 1,
    exact: Annotated[
        bool,
        typer.Option(help="`P01` and `p01 `, 7 and 007 are different", rich_help_panel=_PERSONS),
    ] = False,
    audio: Annotated[
        Path | None,
        typer.Option(help="folder of the paths: also compare the sounds", file_okay=False),
    ] = None,
    sounds: Annotated[bool, typer.Option(help="of a task: compare the sounds")] = True,
) -> None:
    """Certify a split. Exit code 1: a person or a recording is on two sides; 2: bad input."""
    from pipeline.doctor.columns import SplitError
    from pipeline.doctor.table import Choices

    roles = {
        "side": split, "label": label, "id": recording, "path": path, "device": device,
        "site": site, "age": age, "sex": sex, "date": date, "person": person,
    }  # fmt: skip
    try:
        choices = Choices(
            roles={r: c for r, c in roles.items() if c},
            person_pattern=person_pattern,
            proxy=_list(proxy),
            decimals=decimals,
            sides=[_side(s) for s in side or ()],
            also=_list(also),
            exact=exact,
        )
        certificates = _certificates(sources, choices, audio, sounds)
    except (SplitError, FileNotFoundError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    for certificate in certificates:
        _show(certificate)
    if as_json:
        from pipeline.steps import store

        store.write_json(as_json, {"certificates": [c.facts() for c in certificates]})
    if html:
        from pipeline.doctor import page

        page.write(html, certificates)
        typer.echo(f"page: {html.resolve().as_uri()}")
    good = [c.strictly_sound if strict else c.sound for c in certificates]
    raise typer.Exit(0 if all(good) else 1)


def _list(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _side(text: str) -> tuple[str, str, str]:
    from pipeline.doctor.columns import SplitError

    name, _, where = text.partition("=")
    column, colon, value = where.rpartition(":")
    if not (name and column and colon):
        raise SplitError(f"--side {text!r} is not written NAME=COLUMN:VALUE")
    return name, column, value


def _certificates(
    sources: Sequence[str], choices: "Choices", audio: Path | None, sounds: bool
) -> "list[Certificate]":
    from pipeline.doctor import own, reading
    from pipeline.doctor.certificate import certify
    from pipeline.doctor.sounds import near_duplicates_of

    if len(sources) == 1 and own.is_task(sources[0]) and not Path(sources[0]).exists():
        from pipeline.cli_datasets import load_settings

        settings = load_settings()
        splits = own.splits(settings, sources[0])
        if not sounds:
            return [certify(s) for s in splits]
        heard = near_duplicates_of(settings, [sources[0].partition("/")[0]])
        return [certify(s, heard.groups, heard.unheard) for s in splits]
    split = reading.load(sources, choices)
    return [_with_sounds(split, audio) if audio else certify(split)]


def _with_sounds(split: "Split", folder: Path) -> "Certificate":
    from pipeline.doctor import sounds
    from pipeline.doctor.certificate import certify

    return certify(*sounds.listen(split, folder))


def _show(certificate: "Certificate") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"\n[bold]{certificate.name}[/bold]")
    read = ", ".join(f"{role} = {column}" for role, column in certificate.sources.items() if column)
    console.print(f"columns: {read}", markup=False)
    table = Table("side", "recordings", "persons", "labels")
    for side in certificate.sides:
        labels = ", ".join(f"{name} {n}" for name, n in side.labels.items())
        persons = "" if side.persons is None else str(side.persons)
        table.add_row(side.name, str(side.recordings), persons, labels)
    console.print(table, markup=False)
    for power in certificate.power:
        if power.half_width is not None and power.detectable is not None:
            console.print(
                f"{power.positive} / {power.negative} tested {power.unit}: an AUROC of 0.8 is "
                f"known to \u00b1{power.half_width:.3f}, and a difference of "
                f"{power.detectable:.3f} shows"
            )
    for drift in certificate.drift:
        if abs(drift.difference) >= 0.1:
            console.print(
                f"{drift.column}: {drift.tested} tested, {drift.others} otherwise "
                f"(standardised difference {drift.difference:+.2f})", markup=False,
            )  # fmt: skip
    for note in certificate.notes:
        console.print(f"note: {note}", markup=False)
    for verdict in certificate.verdicts:
        console.print(_MARKS[verdict.level], end=" ")
        console.print(verdict.text, markup=False)
    if certificate.persons is None and certificate.likely is None:
        hint = "--person names a column, --person-pattern finds persons in a path or id"
        console.print(f"Who is who was not checked: {hint}.", markup=False)
