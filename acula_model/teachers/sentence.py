"""Sentence encoders: a transformer, a pooling and perhaps a projection, as their files say.

Reads the layout of the sentence-transformers library (``modules.json``) without needing it and
gives its vectors.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model import hub
from acula_model.teachers import Report, Text, as_reports
from acula_model.teachers.hugging_face import HuggingFace, content_hash
from acula_model.teachers.pooling import Pooling

# Raise by one when the same reports would get other vectors: old ones are then not reused.
VERSION = 1
_POOLINGS: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
# The same in the older layout, which has a flag for each.
_FLAGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}


class Sentence:
    """A sentence encoder; see ``build``."""

    def __init__(self, inner: HuggingFace, prompt: str, lower: bool, steps: Sequence[Any]):
        self._inner, self._prompt, self._lower, self._steps = inner, prompt, lower, steps
        self.model, self.layer = inner.model, inner.layer
        self.pooling = "+".join([inner.pooling, *(step.name for step in steps)])
        self.revision = f"{inner.revision}/sentence-v{VERSION}"

    @property
    def truncated(self) -> int:
        """Texts that were longer than the model reads."""
        return self._inner.truncated

    def embed(self, texts: Sequence[Text]) -> npt.NDArray[np.float32]:
        """float32 [texts, width]. See ``Teacher``."""
        read = [
            r._replace(text=self._prompt + (r.text.lower() if self._lower else r.text))
            for r in as_reports(texts)
        ]
        vectors_ND = self._inner.embed(read)
        for step in self._steps:
            vectors_ND = step(vectors_ND)
        return vectors_ND.astype(np.float32)


class Normalise:
    """Unit length."""

    name = "unit"

    def __call__(self, vectors_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        norm_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        return vectors_ND / np.maximum(norm_N1, 1e-12)


class Dense:
    """A linear map and its activation, from the module's folder."""

    def __init__(self, folder: Path):
        from safetensors.numpy import load_file

        tensors = load_file(folder / "model.safetensors")
        self._weight, self._bias = tensors["linear.weight"], tensors.get("linear.bias")
        stated = json.loads((folder / "config.json").read_text()).get("activation_function", "")
        self._activation = stated.rpartition(".")[2]
        if self._activation not in ("Tanh", "Identity"):
            raise ValueError(f"{folder}: an activation {stated!r} is not read here")
        self.name = f"dense{len(self._weight)}"

    def __call__(self, vectors_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        mapped_NE = vectors_ND @ self._weight.T
        if self._bias is not None:
            mapped_NE = mapped_NE + self._bias
        return np.tanh(mapped_NE) if self._activation == "Tanh" else mapped_NE


def build(
    fit_on: Sequence[Report],
    model: str,
    revision: str | None = None,
    batch_size: int = 32,
    dtype: str = "auto",
    device: str = "auto",
) -> Sentence:
    """A pretrained sentence encoder from a Hub id or a folder; ``fit_on`` is not used.

    Raises:
        HubError: The Hub has no such model, guards it, or cannot be reached.
        ValueError: The model is no sentence encoder, or has parts that are not read here.
    """
    local = hub.text_model(model, revision)
    folder = local.path
    if not (folder / "modules.json").is_file():
        raise ValueError(
            f"{model} is no sentence encoder (no modules.json): use the teacher hugging_face"
        )
    modules = json.loads((folder / "modules.json").read_text())
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - {"Dense", "Normalize"}:
        raise ValueError(f"{model} has the parts {', '.join(kinds)}, which are not read here")
    places = [folder / module["path"] for module in modules]
    settings = _json(places[0] / "sentence_bert_config.json")
    inner = HuggingFace(
        model if local.commit else folder.resolve().name,
        places[0],
        local.commit or content_hash(folder),
        layer=-1,
        pooling=_pooling(_json(places[1] / "config.json"), model),
        max_tokens=settings.get("max_seq_length") or 512,
        batch_size=batch_size,
        dtype=dtype,
        device=device,
    )
    told = _json(folder / "config_sentence_transformers.json")
    prompt = (told.get("prompts") or {}).get(told.get("default_prompt_name"), "")
    steps = [
        Normalise() if kind == "Normalize" else Dense(place)
        for kind, place in zip(kinds[2:], places[2:], strict=True)
    ]
    return Sentence(inner, prompt, bool(settings.get("do_lower_case")), steps)


def _pooling(config: dict[str, Any], model: str) -> Pooling:
    said = config.get("pooling_mode")
    names = [said] if isinstance(said, str) else [k for k, v in config.items() if v is True]
    known: dict[str, Pooling] = {**_POOLINGS, **_FLAGS}
    found: list[Pooling] = [known[name] for name in names if name in known]
    others = [n for n in names if n.startswith("pooling_mode_") and n not in known]
    if len(found) != 1 or others:
        raise ValueError(f"{model} pools by {', '.join(names)}, which is not read here")
    return found[0]


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}
