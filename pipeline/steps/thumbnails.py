"""tables and sound -> small pictures in Markdown, whose words cannot be anything but words.

Names and metadata come from archives that nobody here wrote: whatever Markdown or HTML would read
as a link, a picture or a tag is escaped.
"""

import base64
import io
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from acula_model.front_end import FrontEnd
from pipeline.records import unit_hash
from pipeline.steps import layout, page_examples, parts

COLOURS, GREYS = 24, 8  # of a spectrogram and its words: enough for the eye, a third of the bytes
LETTERS = 400
_ESCAPED = str.maketrans({c: f"\\{c}" for c in string.punctuation if c not in ",.;:'%"})
Row = Mapping[str, Any]


def plain(text: object, letters: int = LETTERS) -> str:
    """Text of any origin as Markdown that shows just that text, on one line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    line = line if len(line) <= letters else f"{line[:letters]} ..."
    # An autolink begins with a colon, a dot or an at sign after a word.
    return line.translate(_ESCAPED).replace("://", ":\\/\\/").replace("www.", "www\\.")


def bars(panels: Mapping[str, Sequence[tuple[str, int]]]) -> str:
    """Bar charts side by side: title -> names and counts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(panels), 2.6), layout="constrained")
    for axes, (title, rows) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        drawn = axes.bar(range(len(rows)), [count for _, count in rows], color="#3b6ea5")
        axes.bar_label(drawn, fontsize=7)
        axes.set_xticks(range(len(rows)), [name for name, _ in rows], rotation=35, ha="right")
        axes.tick_params(labelsize=7)
        axes.margins(y=0.15)
        axes.set_yticks([])  # the bars carry their numbers
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_title(title, fontsize=9)
    return image("histograms", figure)


def image(name: str, figure: Any, cmap: str | None = None) -> str:
    """A matplotlib figure as Markdown that carries it, in the colours of a map and some greys."""
    import matplotlib
    import numpy as np
    from PIL import Image

    png = io.BytesIO()
    figure.savefig(png, dpi=80)
    drawn = Image.open(png).convert("RGB")
    if cmap:
        shades = matplotlib.colormaps[cmap](np.linspace(0, 1, COLOURS))[:, :3]
        greys = np.linspace(0, 1, GREYS)[:, None].repeat(3, 1)
        palette = Image.new("P", (1, 1))
        palette.putpalette((np.vstack([shades, greys]) * 255).round().astype("uint8").tobytes())
        drawn = drawn.quantize(palette=palette, dither=Image.Dither.NONE)
    else:
        drawn = drawn.quantize(16)
    small = io.BytesIO()
    drawn.save(small, "png", optimize=True)
    data = base64.b64encode(small.getvalue()).decode()
    return f"![{plain(name)}](data:image/png;base64,{data})"


def refusals(rows: Iterable[Row], dataset: str) -> str:
    """What was not used, as a list: how often, what the reason means, one example."""
    lines = [
        f"- **{plain(r['reason'])}** ({r['count']}): {plain(r['meaning'])}. "
        f"For example {plain(r['example'], 200)}"
        for r in rows
    ]
    return "\n".join([*lines, "", f"All of them: `{dataset}/quarantine.parquet` in the data root."])


def choose(pairs: pa.Table, tested: Iterable[str], count: int = 3) -> list[int]:
    """Row numbers of a few pairs by a hash, of different datasets as far as there are.

    Args:
        pairs: Columns pair_id, dataset, split and person_id.
        tested: Persons in any task's test: never shown.
        count: How many.
    """
    out, names = set(tested), ("pair_id", "dataset", "split", "person_id")
    rows = zip(*(pairs[n].to_pylist() for n in names), strict=True)
    free = [
        (unit_hash(f"thumbnail:{pair}"), dataset, place)
        for place, (pair, dataset, split, person) in enumerate(rows)
        if split != "test" and person not in out
    ]
    turns: dict[str, int] = {}
    ordered: list[tuple[int, float, int]] = []
    for key, dataset, place in sorted(free):
        turns[dataset] = turns.get(dataset, -1) + 1
        ordered.append((turns[dataset], key, place))
    return [place for *_, place in sorted(ordered)[:count]]


def examples(rows: Iterable[Row], corpus: layout.Corpus, front_end: FrontEnd) -> str:
    """Pairs as Markdown: what the encoder hears, above what the report says.

    Args:
        rows: Of the pairs table.
        corpus: Where their sound lies.
        front_end: What the pictures show.
    """
    return "\n\n".join(_example(row, corpus, front_end) for row in rows)


def _example(row: Row, corpus: layout.Corpus, front_end: FrontEnd) -> str:
    folder = corpus.dataset(row["dataset"]).parts
    flac = parts.read_flac(folder, row["part"], row["offset"], row["size"])
    _, wave = page_examples.cut(flac)
    title = f"**{plain(row['recording_id'], 80)}** ({row['split']}, {row['duration_s']:.1f} s)"
    return "\n\n".join(
        [
            title,
            spectrogram(wave, front_end),
            f"> {plain(row['full_text'])}",
            f"`acula trace {row['pair_id']} --verify`",
        ]
    )


def spectrogram(wave: Any, front_end: FrontEnd) -> str:
    """The log-mel of the first seconds, with axes."""
    from matplotlib.figure import Figure

    seconds, hertz = page_examples.ticks(len(wave), front_end)
    figure = Figure(figsize=(7.2, 1.9), layout="constrained")
    axes = figure.subplots()
    axes.imshow(
        front_end.log_mel(wave).numpy().T,
        aspect="auto",
        cmap="magma",
        extent=(0, 1, 0, 1),
        interpolation="nearest",
        origin="lower",
    )
    axes.set_xticks([at for at, _ in seconds], [name for _, name in seconds])
    axes.set_yticks([at for at, _ in hertz], [name for _, name in hertz])
    axes.set_xlabel("seconds", fontsize=8)
    axes.set_ylabel("hertz", fontsize=8)
    axes.tick_params(labelsize=7)
    return image("log-mel spectrogram", figure, "magma")
