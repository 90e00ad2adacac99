"""Certificates -> one self-contained page for a human to read or print."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.doctor import drift, duplicates
from pipeline.doctor.certificate import Certificate
from pipeline.doctor.power import ASSUMED
from pipeline.steps import pages, store

TEMPLATE = "split_page.html.j2"


def write(path: Path, certificates: Sequence[Certificate]) -> None:
    """Write the page, all or nothing."""
    environment = pages.environment()
    environment.filters["signed"] = lambda value: f"{value:+.2f}".replace("-", "\u2212")
    content = (
        environment.get_template(TEMPLATE)
        .render(
            certificates=certificates,
            meaning=duplicates.MEANING,
            assumed=ASSUMED,
            notable=drift.NOTABLE,
        )
        .lstrip()
    )
    with store.finished(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
