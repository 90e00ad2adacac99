"""`acula trace`: from a pair, recording, file or shard to its bytes, and back."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.lineage import Chain, Subject, Tables

app = typer.Typer()
_WORDS = {
    "recorded": "recorded",
    "verified": "[green]verified[/green]",
    "missing": "[red]MISSING[/red]",
    "altered": "[red]ALTERED[/red]",
}
_LISTED = 50


@app.command()
def trace(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="pair id, recording id, path of a sound, shard.tar:key, name in the quarantine; "
            "backwards person:ID, template:VERSION, report:HASH, file:MEMBER; with --every a "
            "dataset",
        ),
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="derive every link again from the bytes and rules")
    ] = False,
    every: Annotated[
        bool,
        typer.Option(
            "--every", help="all recordings of a dataset; shows and writes those that are broken"
        ),
    ] = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="also write for programs")] = None,
    html: Annotated[Path | None, typer.Option(help="also write a page to read or print")] = None,
) -> None:
    """Trace a pair to its bytes. Exit code 1: a link is missing or altered; 2: bad input."""
    from pipeline import lineage
    from pipeline.cli_datasets import load_settings

    root, subjects = load_settings().data_root, []
    try:
        tar, colon, key = what.rpartition(":")
        if colon and tar.endswith(".tar") and lineage.is_file(tar) and not _of_corpus(root, tar):
            chains = [lineage.trace_shard(Path(tar), key, verify=verify)]
            _show(chains[0])
        elif every:
            chains = _every(lineage.Tables(root), what, verify)
        else:
            subjects, chains = _found(lineage.Tables(root), what, verify)
    except lineage.LineageError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if as_json:
        from pipeline.steps import store

        facts = {"chains": [c.facts() for c in chains], "subjects": [asdict(s) for s in subjects]}
        store.write_json(as_json, facts)
    if html and chains:
        from pipeline.lineage import page

        page.write(html, chains)
        typer.echo(f"page: {html.resolve().as_uri()}")
    elif html:
        typer.echo("no page: no chain is broken" if every else "no page: trace one recording")
    raise typer.Exit(0 if all(c.sound for c in chains) else 1)


def _of_corpus(root: Path, tar: str) -> bool:
    from pipeline.steps.layout import Corpus

    return Path(tar).resolve().is_relative_to(Corpus(root).shards.resolve())


def _found(tables: "Tables", what: str, verify: bool) -> "tuple[list[Subject], list[Chain]]":
    """What is named, and its chain, shown whole; several subjects are listed."""
    from pipeline import lineage

    subjects = lineage.find(tables, what)
    if len(subjects) > 1:
        _list(subjects)
        return subjects, []
    derived = None
    if verify:
        from pipeline.lineage.derived import Derived

        derived = Derived()
    chain = lineage.chain(tables, subjects[0], derived)
    from pipeline.defs import events

    chain = events.extended(chain, subjects[0].dataset, tables)
    _show(chain)
    return subjects, [chain]


def _every(tables: "Tables", dataset: str, verify: bool) -> "list[Chain]":
    """Those chains of a dataset that have a broken link, and counts of all."""
    from collections import Counter

    from rich.progress import track

    from pipeline import lineage
    from pipeline.lineage.derived import Derived

    found = lineage.every(tables, dataset, Derived() if verify else None)
    counts: Counter[tuple[str, str]] = Counter()
    broken: list[Chain] = []
    total = lineage.size(tables, dataset)
    for chain in track(found, dataset, total):
        counts.update((link.name, link.state) for link in chain.links)
        if not chain.sound:
            broken.append(chain)
        for link in chain.broken:
            typer.echo(f"{chain.subject}  {link.name} {link.state}: {link.note}")
    for (name, state), number in counts.items():
        typer.echo(f"{name:15}{state:10}{number:8}")
    typer.echo(f"{dataset}: {total - len(broken)} of {total} chains are sound")
    return broken


def _list(subjects: "list[Subject]") -> None:
    from pipeline.records import pair_id

    for subject in subjects[:_LISTED]:
        key = pair_id(subject.name) if subject.kind == "pair" else subject.kind
        typer.echo(f"{key:17} {subject.name}")
    if len(subjects) > _LISTED:
        typer.echo(f"... and {len(subjects) - _LISTED} more; --json writes all")
    typer.echo(f"{len(subjects)} recordings; trace one of them for its chain")


def _show(chain: "Chain") -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{chain.kind} {escape(chain.subject)}[/bold]")
    for link in chain.links:
        console.print(f"\n[bold]{link.title}[/bold]  {_WORDS[link.state]}")
        if link.note:
            console.print(f"  {link.note}", markup=False)
        for name, value in link.facts.items():
            _line(console, name, value)


def _line(console: "Console", name: str, value: Any) -> None:
    if value is None or value == []:
        return
    if isinstance(value, list) and isinstance(value[0], dict):
        console.print(f"  {name}", markup=False)
        for entry in value:
            console.print("    " + "  ".join(_said(v) for v in entry.values()), markup=False)
        return
    console.print(f"  {name:22}{_said(value)}", markup=False)


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items() if v is not None)
    return str(value)
