"""Any text model of transformers, encoder or decoder: hidden states of a layer, pooled.

The published release averages over the padding too, so that its vector of a report depends
on the padded length (method notes B8); padding is left out here. On a GPU the documented choice
is ``google/medgemma-4b-pt`` (the release's): of a model with pictures only the text tower is kept.
"""

# N = texts, K = layers, B = texts in a batch, L = tokens, D = width

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from acula_model import hub
from acula_model.teachers import Report, Text, as_reports
from acula_model.teachers.pooling import Pooling, pool

# Raise by one when the same reports would get other vectors: old ones are then not reused.
VERSION = 1
MEDGEMMA = "google/medgemma-4b-pt"


class HuggingFace:
    """A frozen transformer from files on this computer.

    Args:
        model: What it is called.
        folder: Its files.
        commit: Of these files, or a hash of their content.
        layer: Index into ``hidden_states`` (0 is the embedding layer, -1 the last); several come
            from one pass.
        pooling: How the tokens' states become one vector; ``teachers.pooling`` has the choices.
        max_tokens: Longer texts are cut, with a count in ``truncated``.
        batch_size: Texts per forward pass; decides no numbers.
        dtype: Of the weights: float32, bfloat16, float16, or ``auto`` (bfloat16 on a GPU).
        device: ``auto`` takes a GPU when there is one.

    Raises:
        ValueError: The model has no such layer, or it is named twice, or the pooling is unknown.
    """

    def __init__(
        self,
        model: str,
        folder: Path,
        commit: str,
        layer: int | Sequence[int],
        pooling: Pooling,
        max_tokens: int,
        batch_size: int,
        dtype: str,
        device: str,
    ):
        import torch
        from transformers import AutoModel, AutoTokenizer

        if pooling not in get_args(Pooling):
            raise ValueError(f"no pooling {pooling!r}; known: {', '.join(get_args(Pooling))}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if dtype == "auto":
            dtype = "bfloat16" if device.startswith("cuda") else "float32"
        self._device, self._max_tokens, self._batch_size = device, max_tokens, batch_size
        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        whole = AutoModel.from_pretrained(
            folder, dtype=getattr(torch, dtype), trust_remote_code=False
        )
        self._model = _text_tower(whole).to(device).eval().requires_grad_(False)
        self.model: str = model
        self.pooling: Pooling = pooling
        asked = (layer,) if isinstance(layer, int) else tuple(layer)
        found = tuple(self._index(n) for n in asked)
        if not found or len(set(found)) < len(found):
            raise ValueError(f"layers {list(asked)}: name one or more, each once")
        self._read = found
        self.layer: int | tuple[int, ...] = found[0] if len(found) == 1 else found
        self.revision = f"{commit}/max={max_tokens}/{dtype}/v{VERSION}"
        self.truncated = 0

    def embed(self, texts: Sequence[Text]) -> npt.NDArray[np.float32]:
        """float32 [N, D] of one layer, [N, K, D] of several; the width is the model's own.

        Raises:
            ValueError: A text has no token to pool.
        """
        import torch

        reports = as_reports(texts)
        tokens, special = self._tokens(reports)
        # Equal lengths side by side: least padding. The order is restored at the end.
        order = sorted(range(len(reports)), key=lambda i: len(tokens[i]))
        found: list[npt.NDArray[np.float32]] = []
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            ids_BL = self._padded([tokens[i] for i in batch], self._tokenizer.pad_token_id or 0)
            real_BL = self._padded([[1] * len(tokens[i]) for i in batch], 0)
            special_BL = self._padded([special[i] for i in batch], 1).bool()
            with torch.inference_mode():
                states = self._model(
                    input_ids=ids_BL, attention_mask=real_BL, output_hidden_states=True
                ).hidden_states
                vectors_KBD = [
                    pool(self.pooling, states[layer].float(), real_BL, special_BL)
                    for layer in self._read
                ]
                found.append(torch.stack(vectors_KBD, 1).cpu().numpy())
        vectors_NKD = np.concatenate(found)[np.argsort(order)]
        return vectors_NKD if isinstance(self.layer, tuple) else vectors_NKD[:, 0]

    def _tokens(self, reports: Sequence[Report]) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of each text, and 1 where the tokenizer put a token that is no text."""
        texts = [r.text for r in reports]
        whole = self._tokenizer(texts, verbose=False)["input_ids"]
        self.truncated += sum(len(ids) > self._max_tokens for ids in whole)
        cut = self._tokenizer(
            texts,
            truncation=True,
            max_length=self._max_tokens,
            return_special_tokens_mask=True,
            verbose=False,
        )
        tokens, special = cut["input_ids"], cut["special_tokens_mask"]
        content = self.pooling == "mean_content"
        for report, ids, mask in zip(reports, tokens, special, strict=True):
            if not ids or (content and all(mask)):
                raise ValueError(f"report {report.hash} has no token to read: {report.text!r}")
        return tokens, special

    def _padded(self, rows: Sequence[Sequence[int]], fill: int) -> Any:
        """[B, L] on the device. Padding on the left would shift learned positions."""
        import torch

        longest = max(map(len, rows))
        filled = [[*row, *[fill] * (longest - len(row))] for row in rows]
        return torch.tensor(filled, device=self._device)

    def _index(self, layer: int) -> int:
        last: int = self._model.config.get_text_config().num_hidden_layers
        if not -(last + 1) <= layer <= last:
            raise ValueError(f"{self.model} has hidden states 0..{last}, not {layer}")
        return layer % (last + 1)


def build(
    fit_on: Sequence[Report],
    model: str = MEDGEMMA,
    revision: str | None = None,
    layer: int = -1,
    pooling: Pooling = "mean",
    max_tokens: int = 256,
    batch_size: int = 32,
    dtype: str = "auto",
    device: str = "auto",
    layers: Sequence[int] | None = None,
) -> HuggingFace:
    """A pretrained teacher from a Hub id or a folder; ``fit_on`` is not used.

    Args:
        revision: Branch, tag or commit on the Hub; the commit found is recorded.
        layers: Several from one pass, such as (-1, -8), in place of ``layer``.

    Raises:
        HubError: The Hub has no such model, guards it, or cannot be reached.
        ValueError: The model has no such layer, or the pooling is unknown.
    """
    local = hub.text_model(model, revision)
    commit = local.commit or content_hash(local.path)
    name = model if local.commit else local.path.resolve().name  # no machine's path in a key
    read = layer if layers is None else layers
    return HuggingFace(
        name, local.path, commit, read, pooling, max_tokens, batch_size, dtype, device
    )


def content_hash(folder: Path) -> str:
    """12 hex digits of a local model's files: other weights are another revision."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _text_tower(model: Any) -> Any:
    """The part that reads text: all of a text model, one tower of a model with pictures or sound.

    Of an encoder-decoder it is the encoder: the decoder needs something to answer.
    """
    if model.config.is_encoder_decoder:
        return model.get_encoder()
    if model.config.get_text_config() is model.config:
        return model
    for name in ("language_model", "text_model"):
        if hasattr(model, name):
            return getattr(model, name)
    raise ValueError(f"{type(model).__name__} has no text tower that we know")
