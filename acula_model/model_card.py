"""config.json of a checkpoint, and facts of the data it saw -> its model card, README.md.

The library knows no dataset: licences and scores come as plain values from whoever trained.
What was not handed over is said to be missing, never left out.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CARD = "README.md"
_SYNTHETIC = (
    "**The recordings were made up**, in the layout of the archives below: neither the model nor "
    "its scores say anything about patients.\n\n"
)
LIMITATIONS = (
    "Research software: not a medical device, and not evaluated for any clinical decision.",
    "Scores hold for the datasets, devices and persons they were measured on.",
    "An embedding can tell device, site and dataset apart; compare with the floors.",
    "Similarity to a text says which report is closest, not that the text is true.",
)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A dataset that training read, as its manifest states it.

    Attributes:
        commercial_use: None where the publisher does not say.
        licence_source: Where the licence is stated, and how sure that is.
        agreement: What a user of the data must agree to, if anything.
        pairs: Pairs of it in the alignment set.
    """

    title: str
    version: str
    homepage: str
    licence: str
    licence_url: str | None
    licence_source: str
    commercial_use: bool | None
    agreement: str | None
    attribution: str
    citation: Sequence[str]
    pairs: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """Score of one task on held-out persons, with its 95 % interval and what it stands beside.

    Attributes:
        before: The encoder before alignment.
        floor: A probe of metadata that hears no sound.
        reason: Why there is no score.
    """

    task: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    before: float | None = None
    floor: float | None = None
    reason: str | None = None


def write(
    folder: Path,
    corpora: Sequence[Corpus] | None = None,
    scores: Sequence[Result] | None = None,
    synthetic: bool = False,
) -> Path:
    """Write the card of a checkpoint's folder, in place of an earlier one.

    Args:
        folder: Holds ``config.json``.
        corpora: What the encoder was trained on; None when that is not known here.
        scores: Of this checkpoint; None when nothing was scored.
        synthetic: The recordings were made up, in the layout of those archives.

    Returns:
        The card.
    """
    config = json.loads((folder / "config.json").read_text())
    path = folder / CARD
    temporary = folder / f".{CARD}.new"
    temporary.write_text(render(config, corpora, scores, synthetic), encoding="utf-8")
    temporary.replace(path)
    return path


def render(
    config: dict[str, Any],
    corpora: Sequence[Corpus] | None,
    scores: Sequence[Result] | None,
    synthetic: bool = False,
) -> str:
    """The card as Markdown, with the header that the Hub reads."""
    recipe: dict[str, Any] = config["meta"].get("recipe", {})
    front_end = config["front_end"]
    input_ = f", {front_end['sample_rate']} Hz mono" if "sample_rate" in front_end else ""
    parts = [
        "---\nlibrary_name: acula\nlicense: other\nlicense_name: see-data-and-obligations\n"
        "tags: [audio, feature-extraction, heart-sounds, lung-sounds]\n---",
        f"# {config['encoder']} aligned with clinical reports",
        f"Audio encoder `{config['encoder']}`{input_}. SHA-256 of the weights: "
        f"`{config['sha256']}`.",
        '```python\nimport acula_model\n\nmodel = acula_model.load("<this folder or Hub id>")\n'
        'vectors = model.embed(["a.wav"])  # float32 [1, width]\n```',
        "## Data and obligations\n\n" + (_SYNTHETIC if synthetic else "") + _data(corpora),
        "## Weights it started from\n\n" + _start(config.get("started_from")),
        "## Recipe\n\n" + _recipe(recipe, config["meta"]),
        "## Scores\n\n" + _scores(scores),
        "## Limitations\n\n" + "\n".join(f"- {line}" for line in LIMITATIONS),
    ]
    return "\n\n".join(parts) + "\n"


def obligations(corpora: Sequence[Corpus]) -> list[str]:
    """What the licences ask of whoever uses or passes on the model, one sentence each."""
    found = ["Name every source below when you publish or pass on this model or its results."]
    forbidden = [c.title for c in corpora if c.commercial_use is False]
    unknown = [c.title for c in corpora if c.commercial_use is None]
    alike = [c.title for c in corpora if "-SA" in c.licence or "ShareAlike" in c.licence]
    if forbidden:
        found.append(f"No commercial use: {', '.join(forbidden)} forbids it.")
    if unknown:
        found.append(
            f"Commercial use is not cleared: {', '.join(unknown)} does not state terms for it."
        )
    if alike:
        found.append(f"Share alike: {', '.join(alike)} asks that derived works keep its licence.")
    found += [f"Agreement: {c.title}: {_line(c.agreement)}" for c in corpora if c.agreement]
    if not forbidden and not unknown:
        found.append("All sources allow commercial use.")
    return found


def _data(corpora: Sequence[Corpus] | None) -> str:
    if corpora is None:
        return "Not stated where this card was made: treat the obligations as unknown."
    rows = [
        (
            f"[{c.title}]({c.homepage}) {c.version}",
            str(c.pairs),
            f"[{c.licence}]({c.licence_url})" if c.licence_url else c.licence,
            c.licence_source,
            {True: "allowed", False: "forbidden", None: "not stated"}[c.commercial_use],
        )
        for c in corpora
    ]
    table = _table(("dataset", "pairs", "licence", "stated in", "commercial use"), rows)
    owed = "\n".join(f"- {line}" for line in obligations(corpora))
    credit = "\n".join(f"- {c.title}: {_line(c.attribution)}" for c in corpora)
    cited = "\n".join(f"- {_line(text)}" for c in corpora for text in c.citation)
    return f"{table}\n\n{owed}\n\nAttribution:\n\n{credit}\n\nTo cite:\n\n{cited}"


def _start(weights: dict[str, Any] | None) -> str:
    if weights is None:
        return "Not recorded."
    if weights["source"] == "random":
        return "None: trained from random weights."
    revision = f" at `{weights['revision']}`" if weights["revision"] else ""
    return (
        f"`{weights['source']}`{revision}. Licence: {weights['licence']}. Its terms and those of "
        "its training data bind this model too."
    )


def _recipe(recipe: dict[str, Any], meta: dict[str, Any]) -> str:
    if not recipe:
        return "Not recorded."
    rows = [(name, f"`{json.dumps(value)}`") for name, value in recipe.items()]
    rows += [
        (name, f"`{json.dumps(meta[name])}`")
        for name in ("best_epoch", "held_out_cka", "teacher")
        if name in meta
    ]
    return (
        _table(("setting", "value"), rows) + "\n\nThe teacher's own terms apply to "
        "running it; its weights are not part of this model."
    )


def _scores(scores: Sequence[Result] | None) -> str:
    if scores is None:
        return "Not scored where this card was made."
    rows = [
        (
            s.task,
            s.reason or "not run"
            if s.value is None
            else f"{s.metric} {s.value:.3f} [{_number(s.low)}, {_number(s.high)}]",
            _number(s.before),
            _number(s.floor),
        )
        for s in scores
    ]
    head = ("task", "score [95 % interval]", "before alignment", "metadata without sound")
    return (
        "Linear probe on frozen embeddings of persons that no training has seen; intervals over "
        "persons.\n\n" + _table(head, rows)
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what would end a cell is escaped."""
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(_line(c).replace("|", "\\|") for c in row) + " |" for row in cells
    )
