"""Text models of a few kilobytes with random weights, and the words that they know."""

import json
from pathlib import Path
from typing import Any

import torch

MURMUR = {
    "P": ["A systolic murmur is heard.", "There is a murmur in systole."],
    "N": ["No murmur was heard.", "Heart sounds without a murmur."],
}
SITE = {
    "AV": ["Recorded over the aortic area.", "Aortic valve point."],
    "MV": ["Recorded over the mitral area.", "Mitral valve point."],
    "TV": ["Recorded over the tricuspid area.", "Tricuspid valve point."],
}
SENTENCES = [s for said in (*MURMUR.values(), *SITE.values()) for s in said] + ["Case 0 1 2 9."]
LAYERS = 3


def tokenizer(folder: Path, padding_side: str = "right", added: bool = False, **special: str):
    """A tokenizer of whole words; ``added`` puts CLS and SEP around a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Whitespace()
    words = {w for s in SENTENCES for w, _ in split.pre_tokenize_str(s)}
    names = ["[UNK]", *special.values(), *sorted(words)]
    vocabulary = {w: i for i, w in enumerate(names)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = split
    if added:
        ends = [(t, vocabulary[t]) for t in ("[CLS]", "[SEP]")]
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=ends
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", padding_side=padding_side,
        model_input_names=["input_ids", "attention_mask"], **special,
    )  # fmt: skip
    fast.save_pretrained(folder)
    return len(names)


def bert(folder: Path) -> Path:
    """An encoder that marks beginning and end."""
    from transformers import BertConfig, BertModel

    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    words = tokenizer(folder, added=True, **special)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=words, hidden_size=16, num_hidden_layers=LAYERS, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=256, pad_token_id=1,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def gpt(folder: Path) -> Path:
    """A decoder whose tokenizer has no padding token and, like Gemma's, pads on the left."""
    from transformers import GPT2Config, GPT2Model

    words = tokenizer(folder, eos_token="[END]", padding_side="left")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=words, n_embd=16, n_layer=LAYERS, n_head=2, n_positions=256,
        bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    GPT2Model(config).save_pretrained(folder)
    return folder


def llama(folder: Path) -> Path:
    """A decoder with rotary positions."""
    from transformers import LlamaConfig, LlamaModel

    words = tokenizer(folder, pad_token="[PAD]", eos_token="[END]")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=words, hidden_size=16, num_hidden_layers=LAYERS, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=32, max_position_embeddings=256, pad_token_id=1,
    )  # fmt: skip
    LlamaModel(config).save_pretrained(folder)
    return folder


def t5(folder: Path) -> Path:
    """An encoder with a decoder."""
    from transformers import T5Config, T5Model

    words = tokenizer(folder, pad_token="[PAD]", eos_token="[END]")
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=words, d_model=16, d_kv=8, d_ff=32, num_layers=LAYERS, num_heads=2,
        pad_token_id=1, decoder_start_token_id=1,
    )  # fmt: skip
    T5Model(config).save_pretrained(folder)
    return folder


def gemma3(folder: Path) -> Path:
    """A decoder that also sees pictures, in MedGemma's classes."""
    from transformers import Gemma3Config, Gemma3Model

    special = {"pad_token": "[PAD]", "eos_token": "[END]"}
    words = tokenizer(folder, padding_side="left", **special)
    torch.manual_seed(0)
    text: dict[str, Any] = {
        "vocab_size": words, "hidden_size": 16, "num_hidden_layers": LAYERS, "head_dim": 8,
        "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 32,
        "max_position_embeddings": 256, "sliding_window": 8, "pad_token_id": 1,
    }  # fmt: skip
    vision = {
        "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 1, "image_size": 32, "patch_size": 16,
    }  # fmt: skip
    Gemma3Model(
        Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    ).save_pretrained(folder)
    return folder


def sentence(folder: Path, pooling: str = "mean", dense: bool = False) -> Path:
    """A sentence encoder, unit vectors, in the layout of the sentence-transformers library."""
    from safetensors.torch import save_file

    bert(folder)
    prefix = "sentence_transformers.models."
    parts = [("Transformer", ""), ("Pooling", "1_Pooling")]
    if dense:
        parts.append(("Dense", "2_Dense"))
        (folder / "2_Dense").mkdir()
        weights = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
        save_file({"linear.weight": weights}, folder / "2_Dense" / "model.safetensors")
        stated = {"in_features": 16, "out_features": 4, "bias": False}
        stated["activation_function"] = "torch.nn.modules.activation.Tanh"
        (folder / "2_Dense" / "config.json").write_text(json.dumps(stated))
    parts.append(("Normalize", "3_Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": place, "type": prefix + kind}
        for i, (kind, place) in enumerate(parts)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    modes = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
    flags: dict[str, Any] = {f"pooling_mode_{m}": k == pooling for k, m in modes.items()}
    flags["word_embedding_dimension"] = 16
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    limits = {"max_seq_length": 128, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(limits))
    return folder
