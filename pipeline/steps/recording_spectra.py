"""a dataset's recordings -> their spectra: of shards, which training reads, then of parts."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from acula_model import mels
from acula_model.front_end import FrontEnd
from pipeline.records import pair_id
from pipeline.settings import Settings
from pipeline.steps import layout, remote, store


def sources(
    settings: Settings,
    dataset: str,
    ids: Sequence[str],
    front_end: FrontEnd,
    progress: Callable[[str], None] = print,
) -> Iterator[mels.Mels]:
    """Memory-mapped caches that together have the recordings, each made where it is missing.

    Args:
        settings: Where shards and parts lie.
        dataset: Of the recordings.
        ids: Recording ids.
        front_end: Whose spectra are wanted.
        progress: Called with a line now and then.
    """
    corpus = layout.Corpus(settings.data_root)
    left = {pair_id(i) for i in ids}
    if dataset in settings.alignment:
        remote.need(corpus.shards, say=progress)
        source = mels.load(corpus.shards, corpus.mels, front_end, progress)
        left -= source.meta.keys()
        yield source
    if left:
        here = corpus.dataset(dataset)
        columns = ["recording_id", "part", "audio_sha256"]
        tars: dict[Path, list[tuple[str, str]]] = {}
        for row in store.read_rows(here.recordings, columns):
            if (pair := pair_id(row["recording_id"])) in left:
                tar = here.parts / f"{row['part']}.tar"
                tars.setdefault(tar, []).append((pair, row["audio_sha256"]))
        remote.need(*tars, say=progress)
        yield mels.of_tars(tars, corpus.mels, front_end, progress)
