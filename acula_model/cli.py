"""Command-line verbs of the model library; mounted by the project's `acula` command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Use and train aligned encoders.")


@contextmanager
def _explained() -> Iterator[None]:
    """Print what the caller can mend as one line instead of a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"acula: {error}", err=True)
        raise typer.Exit(1) from error


@app.command()
def embed(
    audio: Annotated[list[Path], typer.Argument(help="sound files of any format, or folders")],
    checkpoint: Annotated[
        str, typer.Option(help="checkpoint folder, published file, or Hugging Face Hub id")
    ],
    encoder: Annotated[
        str | None, typer.Option(help="its name, where the checkpoint does not say it")
    ] = None,
    out: Annotated[Path, typer.Option(help="parquet file: a row per sound")] = Path(
        "embeddings.parquet"
    ),
    batch: Annotated[int, typer.Option(min=1, help="windows per pass")] = 16,
    workers: Annotated[
        int | None, typer.Option(min=1, help="threads that decode; default all cores")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Embed sound files: one vector each; a file that cannot be used is a row with its reason."""
    if out.suffix != ".parquet":
        raise typer.BadParameter(f"{out} is no .parquet file", param_hint="--out")
    with _explained():
        import json

        from rich.progress import track

        import acula_model
        from acula_model import decoding, embedding

        files = decoding.find(audio)
        model = acula_model.load(checkpoint, encoder, device=device)
        rows = track(model.stream(files, batch, workers), "embedding", len(files))
        about = {"acula": json.dumps(model.encoder.description)}
        good, bad = embedding.write_table(rows, model.width, out, about)
    typer.echo(f"{good} vectors of width {model.width} in {out}; {bad} files without one")
    if not good:
        raise typer.Exit(1)


@app.command()
def export(
    checkpoint: Annotated[str, typer.Argument(help="checkpoint folder or Hub id")],
    out: Annotated[Path, typer.Argument(help="the .pt file")] = Path("acula.pt"),
) -> None:
    """Write a checkpoint in the file layout of the AcuLa release."""
    with _explained():
        from acula_model import checkpoint as checkpoints
        from acula_model import heads, release

        found = checkpoints.load(checkpoint)
        names = [name for name in ("audio_head", "text_head") if name in found.heads]
        built = {name: heads.rebuild(found.heads[name]) for name in names}
        release.export(out, found.encoder, built, found.meta.get("best_epoch", 0))
    typer.echo(f"{out} has the layout of the AcuLa release")


@app.command()
def align(
    csv: Annotated[
        Path | None, typer.Option("--csv", "--csv_path", help="columns audio_path, Gen_Report")
    ] = None,
    shards: Annotated[
        Path | None, typer.Option(help="instead of a csv: folder of tars made by the pipeline")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="for --shards: named run, such as sample or paper+strict")
    ] = "paper",
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="for --shards: decode sounds as they are needed")
    ] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, help="that train; default one per GPU, or one")
    ] = None,
    tracker: Annotated[
        list[str] | None, typer.Option(help="mlflow or wandb, if installed; may be repeated")
    ] = None,
    audio_ckpt: Annotated[
        str | None,
        typer.Option("--audio-ckpt", "--audio_ckpt", help="weights to start from, or a Hub id"),
    ] = None,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "--output_dir", help="gets everything that is made")
    ] = Path("checkpoints"),
    audio_backbone: Annotated[
        str, typer.Option("--audio-backbone", "--audio_backbone", help="encoder")
    ] = "operaGT",
    teacher: Annotated[str, typer.Option(help="hugging_face, sentence, or lsa")] = "hugging_face",
    llm_type: Annotated[
        str, typer.Option("--llm-type", "--llm_type", help="the teacher's Hub id or folder")
    ] = "google/medgemma-4b-pt",
    alignment_layer: Annotated[
        int, typer.Option("--alignment-layer", "--alignment_layer", help="of the teacher")
    ] = -1,
    epochs: Annotated[int, typer.Option(min=1)] = 50,
    batch_size: Annotated[int, typer.Option("--batch-size", "--batch_size", min=1)] = 24,
    grad_accum_steps: Annotated[
        int,
        typer.Option("--grad-accum-steps", "--grad_accum_steps", min=1, help="enlarges the batch"),
    ] = 2,
    lr: Annotated[float, typer.Option(help="peak learning rate")] = 1e-5,
    weight_decay: Annotated[float, typer.Option("--weight-decay", "--weight_decay")] = 1e-2,
    warmup_steps: Annotated[int, typer.Option("--warmup-steps", "--warmup_steps", min=0)] = 400,
    lambda_align: Annotated[float, typer.Option("--lambda-align", "--lambda_align")] = 1.0,
    lambda_mam: Annotated[float, typer.Option("--lambda-mam", "--lambda_mam")] = 1.0,
    max_text_length: Annotated[
        int, typer.Option("--max-text-length", "--max_text_length", help="tokens of a report")
    ] = 128,
    alignment_loss: Annotated[
        str,
        typer.Option("--alignment-loss", help="cka_debiased, cka, or the release's release_cov"),
    ] = "cka_debiased",
    seed: Annotated[int, typer.Option(help="of weights, order, windows and masks")] = 0,
) -> None:
    """Align an encoder with reports: of a csv, as the release's script does, or of shards."""
    if (csv is None) == (shards is None):
        raise typer.BadParameter("name either --csv or --shards")
    with _explained():
        from acula_model.training.trackers import known

        trackers = known(tracker or ())
        if shards is not None:
            from acula_model import recipes
            from acula_model.training import start

            chosen = recipes.named(recipe)
            pairs = start.described(shards, chosen.text)
            result = start.run(
                shards, pairs, chosen, output_dir, typer.echo, processes, trackers, not no_cache
            )
        else:
            from acula_model import align_csv

            assert csv is not None
            options = align_csv.recipe(
                audio_backbone=audio_backbone,
                audio_ckpt=audio_ckpt,
                teacher=teacher,
                llm_type=llm_type,
                alignment_layer=alignment_layer,
                max_text_length=max_text_length,
                epochs=epochs,
                batch_size=batch_size,
                grad_accum_steps=grad_accum_steps,
                lr=lr,
                weight_decay=weight_decay,
                lambda_align=lambda_align,
                lambda_mam=lambda_mam,
                alignment_loss=alignment_loss,
                seed=seed,
            )
            result = align_csv.align(
                csv, options, output_dir, warmup_steps, typer.echo, processes, trackers
            )
    typer.echo(f"checkpoint of epoch {result.best_epoch}: {result.folder}")
