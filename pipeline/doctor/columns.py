"""Which column means what: names guessed from the header, ids made comparable, sides named."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

ROLES: Mapping[str, tuple[str, ...]] = {
    "side": ("split", "splits", "side", "fold", "set", "subset", "partition", "train_test"),
    "label": ("label", "target", "class", "diagnosis", "disease", "status", "outcome"),
    "person": (
        "person", "person_id", "patient", "patient_id", "patient_num", "patient_number", "subject",
        "subject_id", "participant", "participant_id", "participant_identifier", "speaker",
        "speaker_id", "user_id", "child_id",
    ),
    "id": (
        "recording_id", "record_id", "uuid", "file_id", "clip_id", "sample_id", "native_id",
        "recording", "id",
    ),
    "path": (
        "path", "file_path", "filepath", "audio_path", "file_name", "filename", "file",
        "audio_file", "wav", "audio",
    ),
    "device": ("device", "equipment", "stethoscope", "microphone", "recorder", "phone"),
    "site": (
        "site", "location", "auscultation_site", "auscultation_location", "chest_location",
    ),
    "age": ("age", "age_years"),
    "sex": ("sex", "gender"),
    "date": ("date", "datetime", "day", "record_date", "recording_date", "submission_date"),
    "raw": ("raw_sha256", "file_sha256", "sha256", "md5"),
    "sound": ("audio_sha256", "pcm_sha256"),
}  # fmt: skip
PLACE = (("latitude", "lat"), ("longitude", "lon", "long", "lng"))
_SIDES = {
    "train": ("train", "training", "trn", "tr"),
    "val": ("val", "valid", "validation", "dev", "devel", "development"),
    "test": ("test", "testing", "tst", "evaluation"),
}
_SIDE_OF = {word: side for side, words in _SIDES.items() for word in words}
_MISSING = {"", "na", "n/a", "nan", "null", "<na>", "nat"}


class SplitError(ValueError):
    """A table that cannot be checked; one sentence on what is wrong and what to do."""


def plain(header: str) -> str:
    """``Patient ID``, ``patientId`` and ``PATIENT_ID`` are one name."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", header.strip().lstrip("\ufeff"))
    return re.sub(r"[^0-9a-z]+", "_", spaced.casefold()).strip("_")


def guess(header: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    """Role -> column: what the caller chose, then the first known name of each other role.

    Raises:
        SplitError: A chosen column does not exist.
    """
    for role, column in chosen.items():
        if column not in header:
            raise SplitError(f"no column {column!r} for {role}; the table has {', '.join(header)}")
    by_name = {plain(column): column for column in reversed(header)}
    taken = set(chosen.values())
    found = dict(chosen)
    for role, names in ROLES.items():
        free = [by_name[n] for n in names if n in by_name and by_name[n] not in taken]
        if role not in found and free:
            found[role] = free[0]
            taken.add(free[0])
    return found


def place(header: Sequence[str]) -> list[str]:
    """The columns of latitude and longitude, or none."""
    by_name = {plain(column): column for column in header}
    found = [next((by_name[n] for n in names if n in by_name), None) for names in PLACE]
    return [f for f in found if f] if all(found) else []


def missing(value: str) -> bool:
    """Whether a cell says nothing."""
    return value.strip().casefold() in _MISSING


def same(value: str) -> str:
    """An id as a spreadsheet or another hand may have written it: ``P01 ``, ``p01``; 7.0, 007."""
    text = " ".join(unicodedata.normalize("NFKC", value).casefold().split())
    if re.fullmatch(r"\d+(\.0+)?", text):
        return text.split(".")[0].lstrip("0") or "0"
    return text


def side(value: str) -> str:
    """train, val or test for the words that mean them; anything else is a side of its own."""
    text = value.strip().casefold()
    return _SIDE_OF.get(text, text)


def listed(values: Iterable[str], limit: int = 5) -> str:
    """The first values, and how many more there are."""
    all_values = [str(v) for v in values]
    more = f" and {len(all_values) - limit} more" if len(all_values) > limit else ""
    return ", ".join(all_values[:limit]) + more
