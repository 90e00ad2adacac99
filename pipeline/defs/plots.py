"""Training history and scores -> small tables and an inline plot for the Dagster UI."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import dagster as dg


def score_rows(place: Path) -> list[dict[str, Any]]:
    """Task, variant, AUROC and interval as text."""
    import pandas as pd

    rows = []
    for s in pd.read_parquet(place / "scores.parquet").itertuples():
        scored = f"{s.auroc:.3f} [{s.low:.3f}, {s.high:.3f}]" if s.reason is None else s.reason
        rows.append(
            {
                "task": s.task,
                "variant": s.variant,
                "auroc": scored,
                "shared_persons": s.shared_persons,
            }
        )
    return rows


def curves(history: Path) -> dg.MarkdownMetadataValue:
    """Losses and held-out alignment per epoch."""
    from matplotlib.figure import Figure

    lines = json.loads(history.read_text())
    epochs = [line["epoch"] for line in lines]
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [line["masked_loss"] for line in lines], label="masked")
    left.plot(epochs, [line["alignment_loss"] for line in lines], label="alignment")
    left.set(xlabel="epoch", title="training loss")
    left.legend()
    right.plot(epochs, [line["held_out_cka"] for line in lines])
    right.set(xlabel="epoch", title="held-out debiased CKA")
    png = io.BytesIO()
    figure.savefig(png, dpi=80)
    data = base64.b64encode(png.getvalue()).decode()
    return dg.MetadataValue.md(f"![losses and held-out alignment](data:image/png;base64,{data})")
