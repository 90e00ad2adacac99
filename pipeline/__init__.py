"""Raw archives in, audited report-audio pairs and scores out."""

from pathlib import Path

_PACKAGE = Path(__file__).parent
# In a checkout the data files lie beside the package; a wheel carries them inside it.
RESOURCES = (
    _PACKAGE.parent
    if (_PACKAGE.parent / "datasets_manifest").is_dir()
    else (_PACKAGE / "_resources")
)
