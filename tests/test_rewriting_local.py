"""Rewriting by a model on this computer: pinned, greedy, and refused where it babbles."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import text_models
from test_rewriting import row, rows, run

from pipeline import settings as configuration
from pipeline.rewriter_address import LocalAddress
from pipeline.rewriting import RewriteError, answers_in, build, form, local
from pipeline.rewriting.cache import Cache
from pipeline.rewriting.prompt import load
from pipeline.rewriting.rewrite import rewrite_all


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(answers_in(tmp_path))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model of a few kilobytes whose weights are random."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny"
    words = text_models.tokenizer(folder, pad_token="[PAD]", eos_token="[END]")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=words, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32, max_position_embeddings=1024,
        pad_token_id=1, eos_token_id=2, bos_token_id=2, initializer_range=0.5,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    # Chat models are published with sampling switched on.
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.7, top_k=5, top_p=0.8, eos_token_id=[2]
    )
    model.save_pretrained(folder)
    return folder


def test_a_model_on_this_computer(
    tiny: Path, cache: Cache, settings: Callable[..., configuration.Settings]
) -> None:
    writer = build(settings(rewriter=f"local:{tiny}"))
    assert isinstance(writer, local.LocalModel) and writer.name == "tiny"
    gibberish, counts = run(rows(3), writer, cache)
    assert [m["full_text"] for m in gibberish] == [r["full_text"] for r in rows(3)]
    assert counts.asked == 6 and counts.refused.total() == 6
    assert str(tiny) not in json.dumps(gibberish)
    assert gibberish[0]["full_rewrite_revision"] == writer.revision


def test_its_answers_are_greedy_whatever_stands_beside_them(tiny: Path) -> None:
    prompts = ["No murmur was heard. " * n for n in (1, 5, 2, 9)]

    def answers(batch: int) -> list[str]:
        model = local.LocalModel("tiny", tiny, "r", batch, max_new_tokens=12)
        found = {index: answer for index, answer in model.rewrite(prompts)}
        assert {a.finish for a in found.values()} <= {"stop", "length"}
        return [found[i].text for i in range(len(prompts))]

    together = answers(4)
    assert together == answers(1) == answers(4) and any(together)


def test_an_accepted_local_answer_becomes_the_text(
    tiny: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "refusal", lambda *_: None)
    writer = local.LocalModel("tiny", tiny, "r", max_new_tokens=12)
    (after,), counts = rewrite_all(
        rows(1), {"heart/0": {}}, writer, lambda *_: None, cache, load(), lambda _: None
    )
    assert after["full_text"] != row(0)["full_text"] and counts.rewritten == 2


def test_a_chat_template_is_used(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chat"
    shutil.copytree(tiny, folder)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}Case {{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %} heard{% endif %}"
    )
    model = local.LocalModel("chat", folder, "r", max_new_tokens=4)
    _, tokenizer = model._load()
    ids = model._tokens(tokenizer, ["No murmur"])["input_ids"][0].tolist()
    assert tokenizer.decode(ids) == "Case No murmur heard"
    assert len(list(model.rewrite(["No murmur", "No"]))) == 2


def test_another_content_is_another_revision(tiny: Path) -> None:
    found = local.build(LocalAddress(str(tiny)))
    assert local.build(LocalAddress(str(tiny), found.revision)).revision == found.revision
    with pytest.raises(RewriteError, match=f"another model.*{found.revision}"):
        local.build(LocalAddress(str(tiny), "0123"))
