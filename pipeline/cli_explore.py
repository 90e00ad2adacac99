"""`acula explore`: a local page to search, hear and mark the corpus."""

from typing import Annotated

import typer

from pipeline.explorer import PORT

app = typer.Typer()


@app.command()
def explore(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one")] = PORT,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="open it in the browser")
    ] = False,
) -> None:
    """Serve a page over all pairs and recordings, on this computer only; Ctrl+C ends it."""
    from pipeline.cli_datasets import load_settings
    from pipeline.defs import events
    from pipeline.explorer.serving import serve
    from pipeline.lineage import LineageError

    def ready(address: str) -> None:
        typer.echo(f"explorer: {address}")
        if open_browser:
            typer.launch(address)

    typer.echo("reading the tables ...")
    try:
        serve(load_settings(), port, events.extended, ready)
    except LineageError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except OSError as error:
        typer.echo(f"port {port} cannot be used ({error.strerror}); try --port 0", err=True)
        raise typer.Exit(2) from error
