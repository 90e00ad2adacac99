"""A language model of transformers on this computer: pinned files, no code of theirs, greedy."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from acula_model import hub
from acula_model.teachers.hugging_face import content_hash
from pipeline.rewriter_address import LocalAddress
from pipeline.rewriting import Answer, RewriteError

MAX_NEW_TOKENS = 256
BATCH = 8  # prompts in a forward pass
# Raise the version when the same prompt would get another answer. The weights keep the type
# of their files, so that the answers do not depend on the device's default.
OPTIONS = {"decoding": "greedy", "max_new_tokens": MAX_NEW_TOKENS, "version": 1}


class LocalModel:
    """A causal language model, loaded when it is first asked.

    Args:
        name: Hub id, or the folder's name.
        folder: Its files.
        revision: Commit, or a hash of the files.
        batch: Prompts in a forward pass.
        max_new_tokens: Of an answer.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        revision: str,
        batch: int = BATCH,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ):
        self.name, self.revision = name, revision
        self.options: Mapping[str, Any] = OPTIONS | {"max_new_tokens": max_new_tokens}
        self._folder, self._batch = folder, batch
        self._loaded: tuple[Any, Any] | None = None

    def rewrite(self, prompts: Sequence[str]) -> Iterator[tuple[int, Answer]]:
        """Answers of a batch at a time. See ``Rewriter``."""
        import torch
        from transformers import GenerationConfig

        model, tokenizer = self._load()
        ends = _ends(model, tokenizer)
        decoding = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=self.options["max_new_tokens"],
            eos_token_id=ends or None,
            pad_token_id=tokenizer.pad_token_id,
        )
        # Equal lengths side by side: least padding.
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        for start in range(0, len(order), self._batch):
            batch = order[start : start + self._batch]
            tokens = self._tokens(tokenizer, [prompts[i] for i in batch]).to(model.device)
            with torch.inference_mode():
                whole = model.generate(**tokens, generation_config=decoding)
            new = whole[:, tokens["input_ids"].shape[1] :].tolist()
            for index, ids in zip(batch, new, strict=True):
                finish = "stop" if set(ids) & set(ends) else "length"
                text = tokenizer.decode(ids, skip_special_tokens=True)
                yield index, Answer(text=text, revision=self.revision, finish=finish)

    def _tokens(self, tokenizer: Any, prompts: Sequence[str]) -> Any:
        chat = tokenizer.chat_template is not None
        if chat:
            prompts = [
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True
                )
                for p in prompts
            ]
        # A chat template has written the marks of beginning and end itself.
        return tokenizer(
            list(prompts), return_tensors="pt", padding=True, add_special_tokens=not chat,
            return_token_type_ids=False,
        )  # fmt: skip

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer

            device = "cuda" if torch.cuda.is_available() else "cpu"
            # Answers follow what stands last, so padding goes to the left.
            tokenizer = AutoTokenizer.from_pretrained(
                self._folder, trust_remote_code=False, padding_side="left"
            )
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.eos_token
            model: Any = AutoModelForCausalLM.from_pretrained(
                self._folder, dtype="auto", trust_remote_code=False
            )
            self._loaded = model.to(device).eval().requires_grad_(False), tokenizer
        return self._loaded


def build(address: LocalAddress) -> LocalModel:
    """A rewriter from a folder or a pinned Hub id.

    Raises:
        HubError: The Hub has no such model, guards it, or cannot be reached.
        RewriteError: The folder's content is not that of the revision asked for.
    """
    folder = Path(address.model)
    if folder.is_dir():
        found = content_hash(folder)
        if address.revision not in (None, found):
            raise RewriteError("other_model", address.model, f"its content is {found}")
        return LocalModel(folder.resolve().name, folder, found)  # no machine's path in a key
    files = hub.text_model(address.model, address.revision)
    return LocalModel(address.model, files.path, files.commit or content_hash(files.path))


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: chat models have one of their own beside the tokenizer's."""
    stated = model.generation_config.eos_token_id
    stated = [stated] if isinstance(stated, int) else list(stated or [])
    own = tokenizer.eos_token_id
    return sorted({*stated, *([] if own is None else [own])})
