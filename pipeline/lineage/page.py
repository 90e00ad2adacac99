"""Chains -> one self-contained page: the links as boxes in a row of steps, each with its facts."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.lineage.chain import Chain
from pipeline.steps import pages, store

TEMPLATE = "trace_page.html.j2"
SHOWN = 100  # chains, the broken ones first


def write(path: Path, chains: Sequence[Chain]) -> None:
    """Write the page, all or nothing."""
    shown = sorted(chains, key=lambda chain: chain.sound)[:SHOWN]
    content = pages.environment().get_template(TEMPLATE).render(chains=shown, total=len(chains))
    with store.finished(path) as temporary:
        temporary.write_text(content.lstrip(), encoding="utf-8")
