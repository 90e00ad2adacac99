"""What of a dataset is here, what is missing, and whether a folder is what its manifest says."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline import manifest as manifests
from pipeline.fetch import sums
from pipeline.fetch.download import git_blob
from pipeline.fetch.guard import junk
from pipeline.fetch.meter import Meter, size
from pipeline.manifest import Manifest
from pipeline.settings import Settings
from pipeline.steps import layout

SOME = 5  # names shown of a long list


@dataclass(frozen=True, kw_only=True)
class State:
    """One line of the list of datasets."""

    id: str
    size: str
    licence: str
    here: str
    missing: str
    to_do: str


def state(manifest: Manifest, settings: Settings) -> State:
    """What is here of a dataset as the settings would get it, and what a person must do."""
    source = settings.archive_of(manifest.id)
    here = layout.Dataset(settings.data_root, manifest.id)
    chosen = manifest.edition(settings.edition_of(manifest.id))
    to_do: list[str] = []
    missing = ""
    request = chosen.access == "request"
    if source == "sample":
        there = "built-in sample"
    elif source != "download":
        root = Path(source)
        there = f"{root} ({sum(1 for _ in _files(root)) if root.is_dir() else 0} files)"
        missing = "" if root.is_dir() and any(root.iterdir()) else "the folder"
        if missing:
            to_do.append(f"unpack the archive into {root}")
    else:
        there, missing = _downloaded(chosen, here, settings.edition_of(manifest.id))
        if request:
            to_do.append("ask for it")
        elif missing:
            to_do.append(f"acula datasets get {chosen.id}")
        if chosen.licence.agreement and chosen.id not in settings.agreed:
            to_do.insert(0, f"agree to the licence: ACULA_AGREED={chosen.id}")
    return State(
        id=chosen.id,
        size=_packed(chosen),
        licence=chosen.licence.name,
        here=there,
        missing=missing,
        to_do="; ".join(to_do) + (f" (acula datasets show {chosen.id})" if request else ""),
    )


def _packed(manifest: Manifest) -> str:
    """Packed size, as exactly as it is known."""
    known = [f.bytes for f in manifest.files if f.bytes]
    if known and len(known) == len(manifest.files) and not manifest.tree:
        return size(sum(known))
    about = max(manifest.about_bytes or 0, sum(known))
    return f"about {size(about)}" if about > 1_000_000 else "not known"


def _downloaded(manifest: Manifest, here: layout.Dataset, edition: str | None) -> tuple[str, str]:
    if here.archive_stamp.is_file() and here.archive.is_dir():
        stamp = json.loads(here.archive_stamp.read_text())
        facts = stamp["facts"]
        if facts["source"] == "download" and stamp["inputs"]["edition"] == edition:
            return f"{facts['files']} files, {size(facts['bytes'])}", ""
    names = [f.name for f in manifest.files]
    done = [n for n in names if (here.downloads / n).is_file()]
    begun = [n for n in names if (here.downloads / f"{n}.part").is_file()]
    there = f"{len(done)} of {len(names)} packed files" if done else "nothing"
    if begun:
        there += f", {len(begun)} begun"
    return there, ", ".join(n for n in names[:SOME] if n not in done) or "the unpacked archive"


def page(manifest: Manifest) -> str:
    """What a person has to know before using a dataset, as Markdown."""
    licence = manifest.licence
    lines = [f"# {manifest.title}", _plain(manifest.description), f"Home: {manifest.homepage}"]
    lines += ["## Licence", f"{licence.name}{f' ({licence.url})' if licence.url else ''}"]
    lines += [
        f"How that is known: {_plain(licence.source)}.",
        f"Attribution: {_plain(manifest.attribution)}",
    ]
    if licence.agreement:
        agreement = _plain(licence.agreement)
        lines.append(f"**You must agree:** {agreement} Then set `ACULA_AGREED={manifest.id}`.")
    lines.append("## How to get it")
    lines += [_plain(manifest.instructions)] if manifest.instructions else []
    if manifest.access == "open":
        lines.append(f"`acula datasets get {manifest.id}` ({_packed(manifest)} packed)")
    for name, edition in manifest.editions.items():
        lines.append(f"`ACULA_EDITIONS={manifest.id}={name}`: {edition.about}")
    lines.append(
        f"A folder of your own: `ACULA_ARCHIVES=<default>,{manifest.id}=<folder>`, checked by "
        f"`acula datasets check {manifest.id} <folder>`"
    )
    lines += ["## What it holds"] + [
        f"- {c.what}: {c.count if c.count is not None else 'some'}, `{c.path}`"
        for c in manifest.contents
    ]
    lines += ["## Cite", *(f"- {_plain(c)}" for c in manifest.citation)]
    return "\n\n".join(lines)


def _plain(text: str) -> str:
    """Text in which Markdown shall see no markup: ``<subject>_*.xls``."""
    return re.sub(r"([<_*`])", r"\\\1", text)


@dataclass(kw_only=True)
class Difference:
    """One way in which a folder is not what the manifest says.

    Attributes:
        what: Which files it is about.
        expected: As the manifest, a checksum list or the unpacking has it.
        found: In the folder.
        examples: Up to ``SOME`` names.
        wrong: It is an error, not just worth knowing.
    """

    what: str
    expected: str
    found: str
    examples: list[str] = field(default_factory=list[str])
    wrong: bool = True


def check(
    manifest: Manifest,
    root: Path,
    noted: Path | None = None,
    watch: Callable[[Meter], None] = lambda _: None,
) -> list[Difference]:
    """Compare an unpacked folder with its manifest: names by grammar, counts, checksums.

    Args:
        manifest: The dataset in the chosen edition.
        root: The folder.
        noted: List of checksums that a download left, if this folder came from one.
        watch: Hears of the progress of hashing.

    Returns:
        One line for each kind of files, wrong or not; then strangers and bad checksums.
    """
    files = {p.relative_to(root).as_posix(): p for p in _files(root)}
    lines: list[Difference] = []
    claimed: set[str] = set()
    for kind in manifest.contents:
        pattern = re.compile(f"(?:{kind.path})$")
        found = {name for name in files if pattern.search(f"/{name}")}
        claimed |= found
        wrong = not found if kind.count is None else len(found) != kind.count
        expected = "some" if kind.count is None else f"{kind.count}"
        lines.append(
            Difference(what=kind.what, expected=expected, found=f"{len(found)}", wrong=wrong)
        )
    known = _known_sums(manifest, root, noted)
    strangers = sorted(set(files) - claimed - set(known))
    if strangers and manifest.contents:
        count, some = f"{len(strangers)}", strangers[:SOME]
        lines.append(
            Difference(what="other files", expected="", found=count, examples=some, wrong=False)
        )
    return lines + _checksums(files, known, manifest.id, watch)


def _known_sums(manifest: Manifest, root: Path, noted: Path | None) -> dict[str, str]:
    """Path in the folder -> checksum, from whoever states one; the publisher's word counts most."""
    known = sums.read(noted) if noted and noted.is_file() else {}
    tree = manifest.tree
    if tree is not None:
        places = (root / tree.sums, manifests.FOLDER / tree.sums)
        listing = next((p for p in places if p.is_file()), None)
        packed = [step.source for step in manifest.unpack]
        known |= {
            path: value
            for path, value in (sums.read(listing) if listing else {}).items()
            if any(fnmatchcase(path, k) for k in tree.keep)
            and not any(fnmatchcase(path, k) for k in packed)
        }
    packed = [step.source for step in manifest.unpack]
    for file in manifest.files:
        if file.sha256 and not any(fnmatchcase(file.name, k) for k in packed):
            known[file.name] = file.sha256
    return known


def _checksums(
    files: dict[str, Path], known: dict[str, str], name: str, watch: Callable[[Meter], None]
) -> list[Difference]:
    if not known:
        return []
    absent = sorted(set(known) - set(files))
    present = sorted(set(known) & set(files))
    meter = Meter(f"{name}, checking", sum(files[p].stat().st_size for p in present), watch)
    differ = [p for p in present if not _agrees(files[p], known[p], meter)]
    right = len(present) - len(differ)
    what, wrong = "files with a known checksum", right < len(known)
    lines = [Difference(what=what, expected=f"{len(known)}", found=f"{right} right", wrong=wrong)]
    for what, names in (("missing", absent), ("other bytes", differ)):
        if names:
            lines.append(
                Difference(what=what, expected="0", found=f"{len(names)}", examples=names[:SOME])
            )
    return lines


def _agrees(path: Path, expected: str, meter: Meter) -> bool:
    if len(expected) == 40:
        return git_blob(path) == expected
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
            meter.add(len(block))
    return hasher.hexdigest() == expected


def _files(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        if path.is_file() and not junk(path.relative_to(root).as_posix()):
            yield path


def room(folder: Path) -> str:
    """Free space where data go."""
    while not folder.exists():
        folder = folder.resolve().parent
    return size(shutil.disk_usage(folder).free)
