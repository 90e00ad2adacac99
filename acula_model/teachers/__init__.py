"""Frozen text models that read the reports; found by name, loaded when asked for."""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class Report(NamedTuple):
    """What a teacher may read: the text, and the terms of the findings that it states."""

    hash: str
    text: str
    terms: tuple[str, ...]


class Teacher(Protocol):
    """A frozen text model.

    Attributes:
        revision: Identifies weights, layer, pooling and length: equal revisions give equal
            vectors, so vectors are cached under (report hash, revision).
    """

    revision: str

    def embed(self, reports: Sequence[Report]) -> npt.NDArray[np.float32]:
        """float32 [number of reports, width]."""
        ...


# name -> module:function(fit_on, **config); imported only when used.
TEACHERS = {
    "lsa": "acula_model.teachers.lsa:build",
    "hugging_face": "acula_model.teachers.hugging_face:build",
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
