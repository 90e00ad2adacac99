"""Frozen text models that read the reports; found by name, loaded when asked for."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class Report(NamedTuple):
    """What a teacher may read: the text, and the terms of the findings that it states.

    ``hash`` covers both: equal hashes are the same report.
    """

    hash: str
    text: str
    terms: tuple[str, ...]


Text = str | Report


class Teacher(Protocol):
    """A frozen text model.

    Attributes:
        model: Name, or Hub id.
        revision: Commit or hash of its weights, and the settings that decide its numbers. Equal
            (model, revision, layer, pooling) give equal vectors, so vectors are cached under
            these and the report's hash.
        layer: Index of the hidden state that is pooled, 0 for the input embeddings; a tuple of
            several where they were asked for.
        pooling: How the vectors of the tokens become the vector of a text.
    """

    model: str
    revision: str
    pooling: str

    @property
    def layer(self) -> int | tuple[int, ...]:
        """See above; a plain attribute will do."""
        ...

    def embed(self, texts: Sequence[Text]) -> npt.NDArray[np.float32]:
        """Vectors of texts.

        Returns:
            float32 [number of texts, width], or [number of texts, layers, width] of several
            layers; a text's row does not depend on the others.

        Raises:
            ValueError: A text with nothing to read in it.
        """
        ...


# name -> module:function(fit_on, **config); imported only when used. The module has VERSION, and
# ``load(path)`` if its teachers are fitted and write their state with ``save(path)``.
TEACHERS = {
    "lsa": "acula_model.teachers.lsa:build",
    "hugging_face": "acula_model.teachers.hugging_face:build",
    "sentence": "acula_model.teachers.sentence:build",
    "random_text": "acula_model.teachers.controls:random_text",
    "bag_of_words": "acula_model.teachers.controls:bag_of_words",
}


def module_of(name: str) -> ModuleType:
    """The module that holds a teacher; its options and caches depend on this source.

    Raises:
        ValueError: The name is unknown; lists the known ones.
    """
    if name not in TEACHERS:
        raise ValueError(f"no teacher {name!r}; known: {', '.join(TEACHERS)}")
    return import_module(TEACHERS[name].partition(":")[0])


def build(name: str, fit_on: Sequence[Report], **config: Any) -> Teacher:
    """The teacher of that name.

    Args:
        name: Key of ``TEACHERS``.
        fit_on: Reports of the alignment set, for teachers that learn their vocabulary;
            pretrained teachers ignore them.
        config: Options of the teacher.

    Raises:
        ValueError: The name is unknown; lists the known ones.
    """
    module = module_of(name)
    return getattr(module, TEACHERS[name].partition(":")[2])(fit_on, **config)


def reopen(name: str, state: Path | None, **config: Any) -> Teacher:
    """The teacher that a checkpoint was trained with, to read new texts.

    Args:
        name: Key of ``TEACHERS``.
        state: What the teacher's ``save`` wrote; None for a pretrained one.
        config: Options of a pretrained teacher.

    Raises:
        ValueError: The teacher was fitted to the training reports and its state was not kept.
    """
    load = getattr(module_of(name), "load", None)
    if load is None:
        return build(name, [], **config)
    if state is None:
        raise ValueError(
            f"the teacher {name!r} was fitted to the training reports and this checkpoint does "
            "not hold its state; pass teacher="
        )
    return load(state)


def layers(teacher: Teacher) -> tuple[int, ...]:
    """The layers that it reads, L of them; 1 for most teachers."""
    return teacher.layer if isinstance(teacher.layer, tuple) else (teacher.layer,)


def identity(teacher: Teacher, layer: int | None = None) -> str:
    """Everything that decides a teacher's vectors, in one line.

    Args:
        layer: One of its layers; all of them if not given.
    """
    read = "+".join(str(n) for n in (layers(teacher) if layer is None else (layer,)))
    return f"{teacher.model}@{teacher.revision}/layer={read}/{teacher.pooling}"


def facts(teacher: Teacher) -> dict[str, Any]:
    """The same as JSON values."""
    found = {name: getattr(teacher, name) for name in ("model", "revision", "layer", "pooling")}
    return found | ({"layer": list(teacher.layer)} if isinstance(teacher.layer, tuple) else {})


def named(facts: Mapping[str, Any]) -> str:
    """A teacher's ``facts`` in one line, equal to its ``identity``."""
    layer = facts.get("layer")
    read = "+".join(str(n) for n in (layer if isinstance(layer, list | tuple) else [layer]))
    model, revision, pooling = (facts.get(n) for n in ("model", "revision", "pooling"))
    return f"{model}@{revision}/layer={read}/{pooling}"


def as_reports(texts: Sequence[Text]) -> list[Report]:
    """Plain texts as reports without terms."""
    return [t if isinstance(t, Report) else Report(hash_of(t), t, ()) for t in texts]


def hash_of(text: str, terms: Sequence[str] = ()) -> str:
    """What identifies a report: 16 hex digits of its text and terms."""
    said = json.dumps([text, list(terms)], ensure_ascii=False)
    return hashlib.sha256(said.encode()).hexdigest()[:16]
