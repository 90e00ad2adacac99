"""pairs and shards -> pictures and players that a page can carry inside itself.

Spectrograms are what the encoder gets, by the same front end.
"""

import base64
import io
import json
from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model.front_end import FrontEnd
from pipeline.manifest import Manifest
from pipeline.records import unit_hash

EXAMPLES = 10
SECONDS = 8  # of each example; keeps the page below 6 MB
_TICKS_HZ = (100, 500, 1000, 2000, 4000)
PairRow = Mapping[str, Any]
Tick = tuple[float, str]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A log-mel spectrogram as a data URI, and where its ticks are; 0 is left and bottom."""

    uri: str
    seconds: list[Tick]
    hertz: list[Tick]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One pair to look at and to listen to."""

    pair: PairRow
    shard: str
    audio: str  # data URI
    heard_s: float
    picture: Picture
    full: list[tuple[str, list[str]]]  # sentence, labels of the findings it states
    strict: list[tuple[str, list[str]]]
    masked: set[str]  # labels of findings that the strict report leaves out


def choose(pairs: Iterable[PairRow], tested: set[str]) -> list[PairRow]:
    """Up to ten pairs of train and validation by a hash, in turn from each dataset and split.

    Args:
        pairs: With pair_id, dataset, split and person_id; few are held at a time.
        tested: Persons in any task's test, in any variant: never shown.
    """
    queues: dict[str, dict[str, list[tuple[float, PairRow]]]] = {}
    for row in pairs:
        if row["split"] in ("train", "val") and row["person_id"] not in tested:
            queue = queues.setdefault(row["dataset"], {}).setdefault(row["split"], [])
            insort(queue, (unit_hash(f"page:{row['pair_id']}"), row), key=lambda drawn: drawn[0])
            del queue[EXAMPLES:]
    turns: list[tuple[int, str, PairRow]] = []
    for dataset, sides in sorted(queues.items()):
        for order, split in enumerate(("train", "val")):
            own = sides.get(split, [])
            turns += [(2 * i + order, dataset, r) for i, (_, r) in enumerate(own)]
    turns.sort(key=lambda t: t[:2])
    return sorted((t[2] for t in turns[:EXAMPLES]), key=lambda r: (r["dataset"], r["split"]))


def example(
    row: PairRow, manifest: Manifest, shards: Path, place: Mapping[str, Any], front_end: FrontEnd
) -> Example:
    """Cut, draw and encode one pair.

    Args:
        row: Of the pairs table.
        manifest: Of its dataset.
        shards: Folder of the shards.
        place: Its row of the shard index.
        front_end: What the picture shows.
    """
    with (shards / place["shard"]).open("rb") as file:
        file.seek(place["shard_offset"])
        flac, wave = cut(file.read(place["shard_size"]))

    def sentences(regime: str) -> list[tuple[str, list[str]]]:
        return [
            (s["text"], [manifest.findings[n].label for n in s["findings"]])
            for s in json.loads(row[f"{regime}_sentences"])
        ]

    return Example(
        pair=row,
        shard=place["shard"],
        audio=_uri("audio/flac", flac),
        heard_s=round(len(wave) / front_end.sample_rate, 3),
        picture=picture(wave, front_end),
        full=sentences("full"),
        strict=sentences("strict"),
        masked={manifest.findings[n].label for n in manifest.strict_masks},
    )


def cut(flac: bytes) -> tuple[bytes, npt.NDArray[np.float32]]:
    """The first seconds of a FLAC file, encoded and as samples."""
    import soundfile

    pcm, rate = soundfile.read(io.BytesIO(flac), dtype="int16")
    pcm = pcm[: SECONDS * rate]
    encoded = io.BytesIO()
    soundfile.write(encoded, pcm, rate, format="FLAC", subtype="PCM_16")
    return encoded.getvalue(), (pcm / 32768).astype(np.float32)


def picture(wave: npt.NDArray[np.float32], front_end: FrontEnd) -> Picture:
    """Log-mel of a wave."""
    import matplotlib
    from matplotlib.image import imsave

    mel_TM = front_end.log_mel(wave).numpy()
    png = io.BytesIO()
    imsave(png, mel_TM.T, cmap=matplotlib.colormaps["magma"], origin="lower", format="png")
    seconds, hertz = ticks(len(wave), front_end)
    return Picture(uri=_uri("image/png", png.getvalue()), seconds=seconds, hertz=hertz)


def ticks(samples: int, front_end: FrontEnd) -> tuple[list[Tick], list[Tick]]:
    """Marks of time and of frequency on a spectrogram, as shares of its width and height."""
    length = samples / front_end.sample_rate
    step = 1 if length > 2 else 0.2
    marks = np.arange(0, length + 1e-6, step)
    heights = front_end.heights(_TICKS_HZ)
    return (
        [(round(float(s) / length, 4), f"{s:g}") for s in marks],
        [(round(float(h), 4), str(f)) for f, h in zip(_TICKS_HZ, heights, strict=True)],
    )


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
