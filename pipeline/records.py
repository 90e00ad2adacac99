"""Row types that flow between steps: what a reader yields and what it refuses.

Keys: ``recording_id`` = ``<dataset>/<native id>``; ``pair_id`` = first 16 hex digits of its
sha256, so it stays when audio or text change. A *case* is one visit or submission of one
person; labels and aggregation live there. A *person* is decided once, in ``steps.subjects``.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Literal

# A finding's raw value: a code word, a number, a flag, or several codes.
Value = str | int | float | bool | tuple[str, ...]
Split = Literal["train", "val", "test"]
Modality = Literal["heart", "lung", "cough", "breath", "voice"]

# Why something was not used. The key is what tables and counts show.
REASONS = {
    "no_audio_file": "the metadata name a recording whose file is not in the archive",
    "no_metadata": "the archive holds audio that no metadata row describes",
    "bad_name": "the file name does not follow the dataset's grammar",
    "bad_metadata": "the metadata row cannot be read",
    "unknown_code": "a code has no word in the manifest",
    "excluded": "the dataset's own quality rule leaves the recording out",
    "empty_file": "the file has no bytes",
    "header_only": "the file has a header and no samples",
    "undecodable": "no decoder can read the file",
    "truncated": "the file ends before the length its header states",
    "silent": "every sample is (nearly) zero",
    "too_short": "less than 0.5 s of sound",
    "conflicting_duplicate": "the same audio appears with another label",
}


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One audio file of an archive and what the metadata say about it.

    Attributes:
        native_id: The dataset's own name of the recording, unique in the dataset; no slash.
        member: Path of the audio file inside the archive, POSIX style.
        modality: What was listened to.
        case_id: One visit or submission of one person, unique in the dataset.
        person: The dataset's own id of the person, or None where it has none.
        linked: Further native person ids that the dataset says are the same person.
        proxy: Where ids are missing, a stated stand-in (HFLung: the date); equal proxies
            are treated as one person.
        official_split: The side on which the publisher put this recording, if any.
        findings: Facts from the metadata as code words or numbers, by the names that the
            manifest declares. An absent name means "not recorded". Nothing is derived
            from the audio.
        row: The metadata as they stood in the raw files, for lineage.
    """

    native_id: str
    member: str
    modality: Modality
    case_id: str
    person: str | None
    linked: tuple[str, ...] = ()
    proxy: str | None = None
    official_split: Split | None = None
    findings: dict[str, Value] = field(default_factory=dict[str, Value])
    row: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class Event:
    """A stretch of a recording that somebody annotated.

    Attributes:
        start_s, end_s: Seconds from the recording's start.
        label: In words.
        track: Events of one kind, which are drawn in one row: cycle, phase, sound.
    """

    start_s: float
    end_s: float
    label: str
    track: Literal["cycle", "phase", "sound"]


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """Something in an archive that cannot become a recording, with a reason from REASONS."""

    name: str
    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"unknown reason {self.reason!r}; known: {', '.join(REASONS)}")


def recording_id(dataset: str, native_id: str) -> str:
    """``<dataset>/<native id>``."""
    return f"{dataset}/{native_id}"


def pair_id(recording: str) -> str:
    """First 16 hex digits of the sha256 of a recording id (no dots: WebDataset keys)."""
    return hashlib.sha256(recording.encode()).hexdigest()[:16]


def unit_hash(text: str) -> float:
    """A number in [0, 1) that depends on ``text`` alone; decides splits and phrasings."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
