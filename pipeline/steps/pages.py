"""The environment of all HTML pages: strict, escaped, one style."""

import base64
import hashlib

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline import RESOURCES

FOLDER = RESOURCES / "templates"


def environment() -> Environment:
    """Loads pages and the style that they include; an undefined variable is an error."""
    return Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def version(template: str, folder: str | None = None) -> str:
    """Hash of a page's template, of the style, and of the files of a folder that it includes."""
    names = [FOLDER / template, FOLDER / "style.css"]
    names += sorted((FOLDER / folder).iterdir()) if folder else []
    sources = [p.read_bytes() for p in names]
    return hashlib.sha256(b"\0".join(sources)).hexdigest()[:16]


def permission(script: str) -> str:
    """What a content security policy calls an inline script that it lets run, and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
