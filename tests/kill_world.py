"""What two runs must have in common, whatever was killed in between."""

import json
from hashlib import sha256
from pathlib import Path


def content(root: Path) -> dict[str, str]:
    """Every file; of a stamp only the version, since the facts count what this run had to do."""

    def said(path: Path) -> bytes:
        stamp = path.suffix == ".json" and path.parent.name in ("icbhi", root.name)
        return json.loads(path.read_text())["version"].encode() if stamp else path.read_bytes()

    files = (p for p in sorted(root.rglob("*")) if p.is_file())
    return {p.relative_to(root).as_posix(): sha256(said(p)).hexdigest() for p in files}
