"""Teachers: one contract for all, the built-in one, and Hugging Face models made on the spot."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acula_model import teachers
from acula_model.recipes import DEMO
from acula_model.teachers import Report
from pipeline.settings import Settings
from pipeline.steps import embeddings, layout, store

MURMUR = {
    "P": ["A systolic murmur is heard.", "There is a murmur in systole."],
    "N": ["No murmur was heard.", "Heart sounds without a murmur."],
}
SITE = {
    "AV": ["Recorded over the aortic area.", "Aortic valve point."],
    "MV": ["Recorded over the mitral area.", "Mitral valve point."],
    "TV": ["Recorded over the tricuspid area.", "Tricuspid valve point."],
}


def report(murmur: str, site: str, phrasing: int, number: int = 0) -> Report:
    text = f"{SITE[site][phrasing % 2]} {MURMUR[murmur][phrasing // 2]} Case {number}."
    key = f"{murmur}{site}{phrasing}{number}"
    return Report(key, text, (f"site={site}", f"murmur={murmur}"))


REPORTS = [report(m, s, p, n) for n in range(3) for m in MURMUR for s in SITE for p in range(4)]
Build = Callable[[Sequence[Report]], teachers.Teacher]


def words_tokenizer(padding_side: str = "right", **special: str) -> Any:
    """A tokenizer of whole words over the words of ``REPORTS``."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.Whitespace()
    words = {w for r in REPORTS for w, _ in split.pre_tokenize_str(r.text)}
    names = ["[UNK]", *special.values(), *sorted(words)]
    model = models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = split
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", padding_side=padding_side,
        model_input_names=["input_ids", "attention_mask"], **special,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with three layers and random weights."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    tokenizer = words_tokenizer(pad_token="[PAD]")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=256, pad_token_id=1,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder whose tokenizer has no padding token and, like Gemma's, pads on the left."""
    import torch
    from transformers import GPT2Config, GPT2Model

    folder = tmp_path_factory.mktemp("gpt")
    tokenizer = words_tokenizer(eos_token="[END]", padding_side="left")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=256,
        bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    GPT2Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(params=[*teachers.TEACHERS, "hugging_face decoder"])
def build(request: pytest.FixtureRequest) -> Build:
    """Each teacher that can be named; a new one is tested by being in the table."""
    name, _, kind = request.param.partition(" ")
    model = request.getfixturevalue("gpt" if kind else "bert") if name == "hugging_face" else None
    config = {} if model is None else {"model": str(model), "device": "cpu"}
    return lambda fit_on: teachers.build(name, fit_on, **config)


def test_contract(build: Build) -> None:
    teacher = build(REPORTS)
    vectors = teacher.embed(REPORTS)
    assert vectors.dtype == np.float32 and vectors.shape[0] == len(REPORTS) and vectors.shape[1] > 1
    assert np.isfinite(vectors).all() and np.ptp(vectors, axis=0).max() > 1e-3
    again = build(REPORTS)
    assert again.revision == teacher.revision
    assert np.allclose(again.embed(REPORTS), vectors, atol=1e-6)
    # A vector belongs to its report: company and order do not matter, nor the order of learning.
    order = np.random.default_rng(0).permutation(len(REPORTS))
    turned = build([REPORTS[i] for i in order])
    assert turned.revision == teacher.revision
    assert np.allclose(turned.embed([REPORTS[i] for i in order]), vectors[order], atol=1e-5)
    for i in (0, 17, 40):
        assert np.allclose(teacher.embed([REPORTS[i]]), vectors[i], atol=1e-5)


@pytest.mark.parametrize("name", teachers.TEACHERS)
def test_a_changed_algorithm_is_another_revision(
    name: str, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors are kept by revision, so a teacher that computes otherwise must say so."""
    config = {"model": str(bert), "device": "cpu"} if name == "hugging_face" else {}
    before = teachers.build(name, REPORTS, **config).revision
    monkeypatch.setattr(teachers.module_of(name), "VERSION", 99)
    assert teachers.build(name, REPORTS, **config).revision != before


def test_an_unknown_teacher_is_named() -> None:
    with pytest.raises(ValueError, match=r"no teacher 'bret'; known: lsa, hugging_face"):
        teachers.build("bret", REPORTS)


class Counting:
    """A teacher that notes what it reads, and is killed at the third batch if told so."""

    revision = "counting"

    def __init__(self, killed: bool = False) -> None:
        self.killed, self.read = killed, list[str]()

    def embed(self, reports: Sequence[Report]) -> np.ndarray[Any, Any]:
        if self.killed and len(self.read) >= 4:
            raise KeyboardInterrupt
        self.read += [r.text for r in reports]
        return np.array([[len(r.text), 1] for r in reports], np.float32)


def test_the_step_reads_no_report_of_a_test_person_and_resumes(
    tiny_settings: Settings, materialise: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    materialise("pairs")
    monkeypatch.setattr(embeddings, "BATCH", 2)

    def run(teacher: Counting) -> store.Outcome:
        monkeypatch.setattr(teachers, "build", lambda *_, **__: teacher)
        return embeddings.embed(tiny_settings, DEMO, lambda _: None)

    killed, resumed = Counting(killed=True), Counting()
    with pytest.raises(KeyboardInterrupt):
        run(killed)
    assert len(killed.read) == 4
    with pytest.raises(FileNotFoundError):  # half a table is not taken for a finished step
        store.version_at(embeddings.folder(tiny_settings, DEMO) / "stamp.json")
    outcome = run(resumed)
    assert resumed.read and not set(resumed.read) & set(killed.read)
    assert run(Counting(killed=True)).skipped
    pairs = store.read_table(layout.Corpus(tiny_settings.data_root).table("pairs")).to_pylist()
    hidden = {r["full_text"] for r in pairs if r["split"] == "test"}
    shown = {r["full_hash"]: r["full_text"] for r in pairs if r["align"]}
    assert hidden and not hidden & {*killed.read, *resumed.read}
    vectors = embeddings.load(tiny_settings, DEMO)
    assert len(vectors) == outcome.facts["reports"]
    assert all(vectors[key][0] == len(text) for key, text in shown.items())


def cosine(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def test_lsa_hears_findings_more_than_phrasing() -> None:
    teacher = teachers.build("lsa", REPORTS)
    said = [report(m, s, p, 9) for m in MURMUR for s in SITE for p in range(4)]
    alike = cosine(teacher.embed(said))
    same = np.array([[a.terms == b.terms for b in said] for a in said])
    other = ~same
    assert alike[same].min() > alike[other].max()


def test_lsa_learns_from_the_given_reports_alone() -> None:
    """Words and findings that only a test report has leave no trace; other reports do."""
    teacher = teachers.build("lsa", REPORTS)
    known = REPORTS[0]
    strange = known._replace(
        hash="x", text=known.text + " Dextrocardia.", terms=(*known.terms, "situs=inversus")
    )
    assert np.allclose(teacher.embed([known]), teacher.embed([strange]), atol=1e-6)
    more = [*REPORTS, strange, strange._replace(hash="y")]
    taught = teachers.build("lsa", more)
    assert taught.revision != teacher.revision
    assert not np.allclose(taught.embed([known]), taught.embed([strange]), atol=1e-3)


def test_lsa_says_when_there_is_too_little_to_learn_from() -> None:
    with pytest.raises(ValueError, match="at least two reports to learn from, got 1"):
        teachers.build("lsa", REPORTS[:1])


@pytest.mark.parametrize("kind", ["bert", "gpt"])
@pytest.mark.parametrize("layer", [0, 1, -1])
def test_a_vector_is_the_mean_of_the_real_tokens(
    kind: str, layer: int, request: pytest.FixtureRequest
) -> None:
    """By hand, one report at a time and so without padding; in batches with much of it."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    assert os.environ["HF_HUB_OFFLINE"] == "1"
    folder = str(request.getfixturevalue(kind))
    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    long = Report("long", " ".join(r.text for r in REPORTS[:6]), ())
    said = [REPORTS[0], long, *REPORTS[1:6], Report("short", "No murmur", ())]
    expected: list[np.ndarray[Any, Any]] = []
    for one in said:
        tokens = tokenizer([one.text], return_tensors="pt")
        with torch.no_grad():
            states = model(**tokens, output_hidden_states=True).hidden_states
        expected.append(states[layer][0].mean(0).numpy())
    for batch_size in (1, 3, 100):
        teacher = teachers.build(
            "hugging_face", [], model=folder, layer=layer, batch_size=batch_size, device="cpu"
        )
        assert np.allclose(teacher.embed(said), np.stack(expected), atol=1e-5)


def test_hugging_face_revision_says_what_decides_the_numbers(bert: Path) -> None:
    def build(**more: Any) -> Any:
        return teachers.build("hugging_face", [], model=str(bert), device="cpu", **more)

    names = [build(**m).revision for m in ({}, {"layer": 1}, {"max_tokens": 5})]
    assert len(set(names)) == 3 and build(batch_size=3).revision == names[0]


def test_long_reports_are_cut_and_counted(bert: Path) -> None:
    teacher: Any = teachers.build(
        "hugging_face", [], model=str(bert), max_tokens=4, batch_size=2, device="cpu"
    )
    short = Report("short", "No murmur", ())
    longer = [Report(f"{n}", "No murmur was heard " + more, ()) for n, more in enumerate("., ")]
    vectors = teacher.embed([short, *longer])
    assert teacher.truncated == 2
    assert np.allclose(vectors[1], vectors[2], atol=1e-6)


def test_a_missing_layer_is_an_error(bert: Path) -> None:
    for layer in (4, -5):
        with pytest.raises(ValueError, match=rf"has hidden states 0\.\.3, not {layer}"):
            teachers.build("hugging_face", [], model=str(bert), layer=layer, device="cpu")
