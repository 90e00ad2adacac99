"""`acula trace`: from a pair, recording, file or shard to its bytes, and back."""

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
        bool, typer.Option("--every", help="all recordings of a dataset; prints what is broken")
    ] = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="also write for programs")] = None,
    html: Annotated[Path | None, typer.Option(help="also write a page to read or print")] = None,
) -> None:
    """Trace a pair to its bytes. Exit code 1: a link is missing or altered; 2: bad input."""
    from pipeline import lineage
    from pipeline.cli_datasets import load_settings

    root = load_settings().data_root
    try:
        tar, colon, key = what.rpartition(":")
        if colon and tar.endswith(".tar") and Path(tar).is_file() and not _of_corpus(root, tar):
            chains = [lineage.trace_shard(Path(tar), key, verify=verify)]
        elif every:
            chains = _every(lineage.Tables(root), what, verify)
        else:
            chains = _found(lineage.Tables(root), what, verify)
    except lineage.LineageError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if as_json:
        from pipeline.steps import store

        store.write_json(as_json, {"chains": [c.facts() for c in chains]})
    if html and chains:
        from pipeline.lineage import page

        page.write(html, chains)
        typer.echo(f"page: {html.resolve().as_uri()}")
    raise typer.Exit(0 if all(c.sound for c in chains) else 1)


def _of_corpus(root: Path, tar: str) -> bool:
    from pipeline.steps.layout import Corpus

    return Path(tar).resolve().is_relative_to(Corpus(root).shards.resolve())


def _found(tables: "Tables", what: str, verify: bool) -> "list[Chain]":
    """One chain, shown whole; several subjects are listed."""
    from pipeline import lineage

    subjects = lineage.find(tables, what)
    if len(subjects) > 1:
        _list(subjects)
        return []
    derived = None
    if verify:
        from pipeline.lineage.derived import Derived

        derived = Derived()
    chain = lineage.chain(tables, subjects[0], derived)
    from pipeline.defs import events

    chain = events.extended(chain, subjects[0].dataset, tables)
    _show(chain)
    return [chain]


def _every(tables: "Tables", dataset: str, verify: bool) -> "list[Chain]":
    """All chains of a dataset; those with a broken link are shown."""
    from collections import Counter

    from rich.progress import track

    from pipeline import lineage
    from pipeline.lineage.derived import Derived

    total = len(tables.column("recordings", "recording_id", dataset)) if (
        dataset in tables.datasets) else None  # fmt: skip
    counts: Counter[tuple[str, str]] = Counter()
    chains: list[Chain] = []
    for chain in track(
        lineage.every(tables, dataset, Derived() if verify else None), dataset, total=total
    ):
        counts.update((link.name, link.state) for link in chain.links)
        chains.append(chain)
        for link in chain.broken:
            typer.echo(f"{chain.subject}  {link.name} {link.state}: {link.note}")
    for (name, state), number in counts.items():
        typer.echo(f"{name:15}{state:10}{number:8}")
    typer.echo(f"{dataset}: {sum(c.sound for c in chains)} of {len(chains)} chains are sound")
    return chains


def _list(subjects: "list[Subject]") -> None:
    from pipeline.records import pair_id

    for subject in subjects[:_LISTED]:
        key = pair_id(subject.name) if subject.kind == "pair" else subject.kind
        typer.echo(f"{key:17} {subject.name}")
    if len(subjects) > _LISTED:
        typer.echo(f"... and {len(subjects) - _LISTED} more; --every and --json write all")
    typer.echo(f"{len(subjects)} recordings; trace one of them for its chain")


def _show(chain: "Chain") -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{chain.kind} {chain.subject}[/bold]")
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
