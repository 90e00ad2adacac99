"""NoseMic: `audio/<user>_<x>_<y>_<rate>.wav`; the breathing rate is the end of the name.

There is no table. Nothing is published about the two middle fields, so they are kept as they stand
and no visit is made of them: each recording is its own. A rate such as `14.5` has a dot of its own.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.records import Recording, Rejected

_NAME = re.compile(
    r"(?P<user>\d+)_(?P<x>[^_]+)_(?P<y>[^_]+)_(?P<respiratory_rate>\d+(?:\.\d+)?)\.wav"
)


def read(archive: Path) -> Iterator[Recording | Rejected]:
    folder = archive / "audio"
    if not folder.is_dir():
        raise FileNotFoundError("NoseMic needs audio/: copy the folder of that name from the drive")
    for path in sorted(folder.iterdir()):
        member = path.relative_to(archive).as_posix()
        match = _NAME.fullmatch(path.name)
        if not match or not path.is_file():
            yield Rejected(name=member, reason="bad_name")
            continue
        rate = float(match["respiratory_rate"])
        if not rate:
            yield Rejected(name=member, reason="bad_metadata", detail="a breathing rate of zero")
            continue
        native_id = path.name.removesuffix(".wav")
        yield Recording(
            native_id=native_id,
            member=member,
            modality="breath",
            case_id=native_id,
            person=str(int(match["user"])),
            findings={"respiratory_rate": rate},
            row=match.groupdict(),
        )
