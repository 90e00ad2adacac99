"""Where every artefact lies under the data root; the only place that names these paths."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Dataset:
    """Files of one dataset."""

    data_root: Path
    id: str

    @property
    def folder(self) -> Path:
        return self.data_root / self.id

    @property
    def archive(self) -> Path:
        """Unpacked archive, when the pipeline made it."""
        return self.folder / "archive"

    @property
    def downloads(self) -> Path:
        """Packed files as the publisher ships them."""
        return self.folder / "downloads"

    @property
    def published(self) -> Path:
        """Lists and splits of a published benchmark."""
        return self.folder / "published"

    @property
    def sources(self) -> Path:
        """Where each packed file came from, when, and its checksum."""
        return self.folder / "archive.sources.json"

    @property
    def sums(self) -> Path:
        """sha256 of every unpacked file, as ``sha256sum -c`` reads it."""
        return self.folder / "archive.sha256"

    @property
    def archive_stamp(self) -> Path:
        return self.folder / "archive.json"

    @property
    def parts(self) -> Path:
        """Normalised audio: ``<key>.tar`` with FLAC files and ``<key>.parquet``."""
        return self.folder / "parts"

    @property
    def fingerprints(self) -> Path:
        """What near-duplicate sounds are found by; one table per part."""
        return self.folder / "fingerprints"

    @property
    def split_checks(self) -> Path:
        """Recordings that are one sound, and a certificate of each task's splits."""
        return self.folder / "split_checks.json"

    @property
    def recordings(self) -> Path:
        return self.folder / "recordings.parquet"

    @property
    def quarantine(self) -> Path:
        return self.folder / "quarantine.parquet"

    @property
    def recordings_stamp(self) -> Path:
        return self.folder / "recordings.json"

    @property
    def recordings_shown(self) -> Path:
        """What Dagster shows of the recordings, as it was drawn."""
        return self.folder / "recordings.shown.json"

    @property
    def reports(self) -> Path:
        return self.folder / "reports.parquet"

    @property
    def reports_page(self) -> Path:
        """Twenty reports beside their metadata."""
        return self.folder / "reports.html"

    @property
    def reports_stamp(self) -> Path:
        return self.folder / "reports.json"


@dataclass(frozen=True)
class Corpus:
    """Files about all datasets together."""

    data_root: Path

    def dataset(self, name: str) -> Dataset:
        return Dataset(self.data_root, name)

    def table(self, name: str) -> Path:
        """``subjects``, ``task_rows``, ``task_notes`` or ``pairs``."""
        return self.data_root / f"{name}.parquet"

    def stamp(self, name: str) -> Path:
        return self.data_root / f"{name}.json"

    @property
    def pairs_shown(self) -> Path:
        """What Dagster shows of the pairs, as it was drawn."""
        return self.data_root / "pairs.shown.json"

    @property
    def absent_lists(self) -> Path:
        """Published lists that could not be fetched, why, and when that was."""
        return self.data_root / "published_absent.json"

    @property
    def shards(self) -> Path:
        return self.data_root / "shards"

    @property
    def shard_index(self) -> Path:
        return self.data_root / "shards.parquet"

    @property
    def mels(self) -> Path:
        return self.data_root / "mels"

    @property
    def recording_embeddings(self) -> Path:
        """Vectors of probed recordings, by encoder."""
        return self.data_root / "recording_embeddings"

    @property
    def teachers(self) -> Path:
        return self.data_root / "report_embeddings"

    @property
    def measured_texts(self) -> Path:
        """Vectors of test persons' reports and of prompts, apart from what training reads."""
        return self.data_root / "measured_text_embeddings"

    @property
    def label_leak(self) -> Path:
        """Probe scores of what the reports' words give away."""
        return self.data_root / "label_leak"

    @property
    def baselines(self) -> Path:
        return self.data_root / "baseline_scores"

    @property
    def runs(self) -> Path:
        return self.data_root / "runs"

    @property
    def page(self) -> Path:
        return self.data_root / "results_page" / "index.html"
