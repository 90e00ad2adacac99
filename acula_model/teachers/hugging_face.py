"""Any Hugging Face text model: hidden states of one layer, averaged over the real tokens.

The published release averages over the padding too, so that its vector of a report depends
on the padded length (method notes B8); the mask is applied here.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acula_model.teachers import Report

# Raise by one when the same reports would get other vectors: old ones are then not reused.
VERSION = 1


def _folder_digest(folder: Path) -> str:
    """Names, sizes and times of a local model's files: other weights are another revision."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    stats = [(p.relative_to(folder).as_posix(), p.stat()) for p in files]
    said = repr([(name, s.st_size, s.st_mtime_ns) for name, s in stats])
    return hashlib.sha256(said.encode()).hexdigest()[:12]


class HuggingFace:
    """A frozen transformer, encoder or decoder, from a hub id or a local folder.

    Args:
        model: Hub id or folder.
        revision: Branch, tag or commit on the hub; the commit found is recorded.
        layer: Index into ``hidden_states`` (0 is the embedding layer, -1 the last).
        max_tokens: Longer reports are cut, with a count in ``truncated``.
        batch_size: Reports per forward pass.
        dtype: Of the weights: float32, bfloat16 or float16.
        device: ``auto`` takes a GPU when there is one.
    """

    def __init__(
        self,
        model: str,
        revision: str | None,
        layer: int,
        max_tokens: int,
        batch_size: int,
        dtype: str,
        device: str,
    ):
        import torch
        from transformers import AutoModel, AutoTokenizer

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._device, self._layer = device, layer
        self._max_tokens, self._batch_size = max_tokens, batch_size
        load: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
        self._tokenizer = AutoTokenizer.from_pretrained(model, **load)
        # On the left, as some decoders have it, padding would shift learned positions.
        self._tokenizer.padding_side = "right"
        if self._tokenizer.pad_token is None:  # decoders often have none; padding is masked
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = AutoModel.from_pretrained(model, dtype=getattr(torch, dtype), **load)
        self._model.to(device).eval().requires_grad_(False)
        layers = self._model.config.get_text_config().num_hidden_layers
        if not -(layers + 1) <= layer <= layers:
            raise ValueError(f"{model} has hidden states 0..{layers}, not {layer}")
        known = _folder_digest(Path(model)) if Path(model).is_dir() else None
        commit = known or getattr(self._model.config, "_commit_hash", None) or revision
        how = f"layer={layer}/mean/max={max_tokens}/{dtype}/v{VERSION}"
        self.revision = f"{model}@{commit}/{how}"
        self.truncated = 0

    def embed(self, reports: Sequence[Report]) -> npt.NDArray[np.float32]:
        """float32 [reports, width]; the width is the model's own."""
        import torch

        # Equal lengths side by side: least padding. The order is restored at the end.
        order = sorted(range(len(reports)), key=lambda i: len(reports[i].text))
        vectors: list[npt.NDArray[np.float32]] = []
        for start in range(0, len(order), self._batch_size):
            texts = [reports[i].text for i in order[start : start + self._batch_size]]
            lengths = [len(ids) for ids in self._tokenizer(texts)["input_ids"]]
            self.truncated += sum(n > self._max_tokens for n in lengths)
            tokens = self._tokenizer(
                texts,
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            ).to(self._device)
            with torch.inference_mode():
                states = self._model(**tokens, output_hidden_states=True).hidden_states
            hidden_BLD = states[self._layer].float()
            mask_BL1 = tokens["attention_mask"].unsqueeze(-1).float()
            mean_BD = (hidden_BLD * mask_BL1).sum(1) / mask_BL1.sum(1)
            vectors.append(mean_BD.cpu().numpy())
        found = np.concatenate(vectors)
        result = np.empty_like(found)
        result[order] = found
        return result


def build(
    fit_on: Sequence[Report],
    model: str,
    revision: str | None = None,
    layer: int = -1,
    max_tokens: int = 256,
    batch_size: int = 32,
    dtype: str = "float32",
    device: str = "auto",
) -> HuggingFace:
    """A pretrained teacher; ``fit_on`` is not used."""
    return HuggingFace(model, revision, layer, max_tokens, batch_size, dtype, device)
