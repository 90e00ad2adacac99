"""Training history and scores -> small tables and an inline plot for the Dagster UI."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import dagster as dg

from pipeline.steps import page_history, score_files

# History key -> name of its line; a dotted one is a floor.
_PLOTS = {
    "training loss": {"alignment_loss": "alignment", "masked_loss": "the encoder's own"},
    "held-out debiased CKA": {"held_out_cka": "reports", "teacher_cka": "teacher"},
    "held-out report among five": {
        "report_recall_5": "recall",
        "report_recall_5_chance": "chance",
    },
}


def score_rows(place: Path) -> list[dict[str, Any]]:
    """Task, variant, protocol and score with its interval as text; the default protocol first."""
    rows: list[dict[str, Any]] = []
    for s in sorted(score_files.scores(place), key=lambda s: s.protocol != "default"):
        scored = s.reason or "no score"
        if s.value is not None:
            scored = f"{s.value:.3f}"
            scored += f" [{s.low:.3f}, {s.high:.3f}]" if s.low is not None and s.high else ""
        rows.append(
            {
                "task": s.task,
                "variant": s.variant,
                "protocol": f"{s.protocol}, {s.head}",
                "metric": s.metric,
                "score": scored,
                "floor": None if s.floor is None else round(s.floor, 3),
                "shared_persons": s.shared_persons,
                "flags": ", ".join(s.flags),
            }
        )
    return rows


def curves(history: Path) -> dg.MarkdownMetadataValue:
    """Losses, held-out alignment and held-out retrieval per epoch, with their floors."""
    from matplotlib.figure import Figure

    lines = json.loads(history.read_text())
    figure = Figure(figsize=(10, 2.6), layout="constrained")
    for axes, (title, keys) in zip(figure.subplots(1, len(_PLOTS)), _PLOTS.items(), strict=True):
        for key, name in keys.items():
            if known := page_history.measured(lines, key):
                style = ":" if name == "chance" else "-"
                axes.plot(list(known), list(known.values()), style, label=name)
                axes.legend()
        if "CKA" in title:
            axes.axhline(0, linestyle=":", color="grey")
        axes.set(xlabel="epoch", title=title)
    png = io.BytesIO()
    figure.savefig(png, dpi=80)
    data = base64.b64encode(png.getvalue()).decode()
    return dg.MetadataValue.md(f"![losses and held-out alignment](data:image/png;base64,{data})")
