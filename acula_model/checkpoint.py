"""encoder and heads <-> a folder that rebuilds them, and published weights -> an encoder.

A checkpoint is ``weights.safetensors`` (keys ``encoder.*`` and ``heads.<name>.*``),
``config.json`` (name, sizes and front end of the encoder, what the caller adds, and the hash of
the weights), a model card, and ``teacher.npz`` where the teacher was fitted to the reports. It
lies in a folder or in a repository of the Hugging Face Hub.
"""

import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from acula_model import encoders, hub, model_card
from acula_model.encoders.base import AudioEncoder, Weights
from acula_model.weights import CheckpointError, load_state, load_strictly, sha256

WEIGHTS, CONFIG, TEACHER = "weights.safetensors", "config.json", "teacher.npz"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Which weights were read.

    Attributes:
        source: Path or Hub id, as given.
        revision: Commit of the Hub's repository; None for a path.
        sha256: Of the file that holds the weights; None where the commit says it.
    """

    source: str
    revision: str | None
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a folder held.

    Attributes:
        encoder: Rebuilt, in eval mode, on the CPU.
        heads: State dict of each head by name; ``heads.rebuild`` makes the head of one.
        meta: What was saved with it.
        origin: Which weights these are.
        teacher: State of a teacher that was fitted to the reports, if it was saved.
    """

    encoder: AudioEncoder
    heads: dict[str, dict[str, Tensor]]
    meta: dict[str, Any]
    origin: Origin
    teacher: Path | None


def save(
    folder: Path,
    encoder: AudioEncoder,
    heads: Mapping[str, nn.Module],
    meta: Mapping[str, Any],
    teacher: Path | None = None,
) -> None:
    """Write a checkpoint under a temporary name, then rename it into place.

    A checkpoint of that name is replaced; it goes away only when the new one is complete.

    Args:
        folder: The checkpoint; its parent is made if needed.
        encoder: From ``encoders.build``.
        heads: Heads by name (no dots).
        meta: JSON values: recipe, epoch, provenance.
        teacher: State of a fitted teacher, copied so that the checkpoint can read new reports.

    Raises:
        ValueError: The name of a head has a dot.
    """
    if dotted := [name for name in heads if "." in name]:
        raise ValueError(f"names of heads have no dots: {', '.join(dotted)}")
    modules = {"encoder": encoder, **{f"heads.{name}": head for name, head in heads.items()}}
    tensors = {
        f"{prefix}.{key}": tensor.detach().cpu().contiguous().clone()
        for prefix, module in modules.items()
        for key, tensor in module.state_dict().items()
    }
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(tensors, temporary / WEIGHTS)
    if teacher is not None:
        shutil.copyfile(teacher, temporary / TEACHER)
    config = {
        "format": FORMAT,
        "encoder": encoder.name,
        "config": encoder.config,
        "front_end": asdict(encoder.front_end),
        "started_from": asdict(encoder.weights),
        "heads": sorted(heads),
        "teacher": teacher is not None,
        "sha256": sha256(temporary / WEIGHTS),
        "meta": dict(meta),
    }
    (temporary / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    model_card.write(temporary)
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load(source: str | Path, accept: Collection[str] = ()) -> Checkpoint:
    """Rebuild an encoder from what ``save`` wrote.

    Args:
        source: Folder, or Hub id (``owner/name``, ``owner/name@revision``).
        accept: Keys of the encoder that may be missing, unexpected or of another shape.

    Raises:
        FileNotFoundError: No checkpoint there.
        HubError: The Hub has no such model, guards it, or cannot be reached.
        CheckpointError: Another format, damaged weights, or keys that do not fit.
    """
    folder, commit = _open(source)
    config = json.loads((folder / CONFIG).read_text())
    if config.get("format") != FORMAT:
        raise CheckpointError(
            f"{source}: format {config.get('format')}, this version reads {FORMAT}"
        )
    fitted = config.get("teacher", False)
    if commit is not None and (known := hub.parse(str(source))):
        hub.locate(f"{known.repo}@{commit}", [WEIGHTS, *([TEACHER] if fitted else [])])
    digest = sha256(folder / WEIGHTS)
    if digest != config["sha256"]:
        raise CheckpointError(f"{folder / WEIGHTS} is not the file that {CONFIG} describes")
    tensors = load_file(folder / WEIGHTS)
    name, sizes = config["encoder"], config["config"]
    encoder = encoders.build(name, front_end=config["front_end"], **sizes)
    load_strictly(encoder, encoder.own_keys(_below(tensors, "encoder.")), accept)
    origin = Origin(source=str(source), revision=commit, sha256=digest)
    _label(encoder, origin, "see the model card beside the weights")
    return Checkpoint(
        encoder=encoder.eval(),
        heads={head: _below(tensors, f"heads.{head}.") for head in config["heads"]},
        meta=config["meta"],
        origin=origin,
        teacher=folder / TEACHER if fitted else None,
    )


def restore(encoder: AudioEncoder, source: str | Path, accept: Collection[str] = ()) -> Origin:
    """Put weights into an encoder: from a folder of ``save``, or as others published them.

    Args:
        encoder: Gets the weights.
        source: By path or Hub id: what ``save`` wrote; a file of a layout that ``load_state``
            knows, with our keys or published ones (on the Hub ``hf://owner/name/file``); or a
            model of transformers, for encoders that are published as one.
        accept: Our keys that may be missing, unexpected or of another shape; those keep what
            the encoder had. A published file without its decoder needs the ``decoder.*`` ones.

    Returns:
        Which weights these are.

    Raises:
        FileNotFoundError: Nothing there.
        HubError: The Hub has no such model, guards it, or cannot be reached.
        CheckpointError: Keys that do not fit, or a file that cannot be read.
    """
    if is_ours(source):
        found = load(source)
        load_strictly(encoder, encoder.own_keys(found.encoder.state_dict()), accept)
        encoder.weights = found.encoder.weights
        return found.origin
    if is_folder(source):
        known = None if Path(source).exists() else hub.parse(str(source))
        encoder.load_pretrained(known.repo if known else str(source), known and known.revision)
        revision = encoder.weights.revision or ""
        by_hash = revision.startswith("sha256:")
        return Origin(
            source=str(source),
            revision=None if by_hash else revision,
            sha256=revision.removeprefix("sha256:") if by_hash else None,
        )
    local = hub.locate(source, [])
    load_strictly(encoder, encoder.own_keys(load_state(local.path)), accept)
    origin = Origin(source=str(source), revision=local.commit, sha256=sha256(local.path))
    published = encoder.published
    _label(encoder, origin, published.licence if published else "not stated")
    return origin


def is_folder(source: str | Path) -> bool:
    """Whether a source is a folder or a repository, not a single file."""
    if Path(source).exists():
        return Path(source).is_dir()
    known = hub.parse(str(source))
    return known is not None and known.file is None


def is_ours(source: str | Path) -> bool:
    """Whether a source is what ``save`` writes; downloads its description to see.

    Raises:
        FileNotFoundError: A folder or repository without a description.
        HubError: The Hub has no such model, guards it, or cannot be reached.
    """
    return is_folder(source) and "format" in json.loads((_open(source)[0] / CONFIG).read_text())


def _open(source: str | Path) -> tuple[Path, str | None]:
    """A folder that holds ``config.json``, and the commit if it is of the Hub."""
    local = hub.locate(source, [CONFIG])
    if not (local.path / CONFIG).is_file():
        raise FileNotFoundError(f"{source} is no checkpoint: it has no {CONFIG}")
    return local.path, local.commit


def _label(encoder: AudioEncoder, origin: Origin, licence: str) -> None:
    revision = origin.revision or f"sha256:{origin.sha256}"
    encoder.weights = Weights(source=origin.source, revision=revision, licence=licence)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
