"""The environment of all HTML pages: strict, escaped, one style."""

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


def version(template: str) -> str:
    """Hash of a page's template and of the style."""
    sources = [(FOLDER / name).read_bytes() for name in (template, "style.css")]
    return hashlib.sha256(b"\0".join(sources)).hexdigest()[:16]
