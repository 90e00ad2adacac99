"""Command-line verbs of the model library; mounted by the project's `acula` command."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Use aligned encoders.")


@app.command()
def embed(
    checkpoint: Annotated[Path, typer.Argument(help="folder of a checkpoint", exists=True)],
    audio: Annotated[list[Path], typer.Argument(help="sound files at the encoder's rate")],
    out: Annotated[Path, typer.Option(help="npz file: one vector per file")] = Path("vectors.npz"),
) -> None:
    """Embed sound files with an aligned encoder."""
    import numpy as np
    import soundfile
    import torch
    from rich.progress import track

    from acula_model import checkpoint as checkpoints

    encoder = checkpoints.load(checkpoint).encoder.eval()
    rate = encoder.front_end.sample_rate
    vectors = {}
    for path in track(audio, description="embedding"):
        wave, native = soundfile.read(path, dtype="float32", always_2d=True)
        if native != rate:
            raise typer.BadParameter(f"{path} has {native} Hz; resample it to {rate} Hz first")
        with torch.inference_mode():
            windows = encoder.front_end.windows(wave.mean(axis=1))
            vectors[str(path)] = encoder.embed(windows).mean(0).numpy()
    np.savez(out, **vectors)
    typer.echo(f"{len(vectors)} vectors of width {encoder.width} in {out}")
