"""Teachers: one contract for all, the built-in one, and Hugging Face models made on the spot."""

import inspect
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import text_models
from text_models import LAYERS, MURMUR, SITE

from acula_model import teachers
from acula_model.recipes import SAMPLE
from acula_model.teachers import Report, cache, vectors
from pipeline.settings import Settings
from pipeline.steps import embeddings, layout, store

MODELS = ("bert", "gpt", "llama", "t5", "gemma3")


def report(murmur: str, site: str, phrasing: int, number: int = 0) -> Report:
    text = f"{SITE[site][phrasing % 2]} {MURMUR[murmur][phrasing // 2]} Case {number}."
    key = f"{murmur}{site}{phrasing}{number}"
    return Report(key, text, (f"site={site}", f"murmur={murmur}"))


REPORTS = [report(m, s, p, n) for n in range(3) for m in MURMUR for s in SITE for p in range(4)]
LONG = Report("long", " ".join(r.text for r in REPORTS[:6]), ())
SAID = [REPORTS[0], LONG, *REPORTS[1:6], Report("short", "No murmur", ())]
Build = Callable[[Sequence[Report]], teachers.Teacher]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each kind."""
    made = {name: tmp_path_factory.mktemp(name) for name in (*MODELS, "sentence")}
    return {name: getattr(text_models, name)(folder) for name, folder in made.items()}


def options(name: str, models: dict[str, Path]) -> dict[str, Any]:
    """What a teacher needs beyond the reports: a tiny model, if it takes one."""
    _, function = teachers.TEACHERS[name].split(":")
    takes = inspect.signature(getattr(teachers.module_of(name), function)).parameters
    return {"model": str(models["sentence"]), "device": "cpu"} if "model" in takes else {}


@pytest.fixture(params=[*teachers.TEACHERS, *(f"hugging_face {m}" for m in MODELS)])
def build(request: pytest.FixtureRequest, models: dict[str, Path]) -> Build:
    """Each teacher that can be named; a new one is tested by being in the table."""
    name, _, kind = request.param.partition(" ")
    config = options(name, models) | ({"model": str(models[kind])} if kind else {})
    return lambda fit_on: teachers.build(name, fit_on, **config)


def test_contract(build: Build) -> None:
    teacher = build(REPORTS)
    vectors = teacher.embed(REPORTS)
    assert vectors.dtype == np.float32 and vectors.shape[0] == len(REPORTS) and vectors.shape[1] > 1
    assert np.isfinite(vectors).all() and np.ptp(vectors, axis=0).max() > 1e-3
    again = build(REPORTS)
    assert teachers.identity(again) == teachers.identity(teacher)
    said = teachers.identity(teacher)
    assert str(teacher.layer) in said and teacher.pooling in said and os.sep + "tmp" not in said
    assert np.allclose(again.embed(REPORTS), vectors, atol=1e-6)
    # Plain texts will do.
    plain = teacher.embed([r.text for r in REPORTS[:2]])
    assert plain.shape == (2, vectors.shape[1])
    # A vector belongs to its report: company and order do not matter, nor the order of learning.
    order = np.random.default_rng(0).permutation(len(REPORTS))
    turned = build([REPORTS[i] for i in order])
    assert teachers.identity(turned) == teachers.identity(teacher)
    assert np.allclose(turned.embed([REPORTS[i] for i in order]), vectors[order], atol=1e-5)
    for i in (0, 17, 40):
        assert np.allclose(teacher.embed([REPORTS[i]]), vectors[i], atol=1e-5)


@pytest.mark.parametrize("name", teachers.TEACHERS)
def test_a_changed_algorithm_is_another_revision(
    name: str, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors are kept by revision, so a teacher that computes otherwise must say so."""
    config = options(name, models)
    before = teachers.build(name, REPORTS, **config).revision
    monkeypatch.setattr(teachers.module_of(name), "VERSION", 99)
    assert teachers.build(name, REPORTS, **config).revision != before


@pytest.mark.parametrize("name", teachers.TEACHERS)
def test_a_teacher_is_reopened_from_what_it_left(
    name: str, models: dict[str, Path], tmp_path: Path
) -> None:
    """A checkpoint reads new texts with the very teacher that it was trained with."""
    config = options(name, models)
    teacher: Any = teachers.build(name, REPORTS, **config)
    state = None
    if hasattr(teacher, "save"):
        with pytest.raises(ValueError, match="does not hold its state"):
            teachers.reopen(name, None, **config)
        teacher.save(state := tmp_path / "teacher.npz")
        assert [p.name for p in tmp_path.iterdir()] == ["teacher.npz"]
    again = teachers.reopen(name, state, **config)
    assert teachers.identity(again) == teachers.identity(teacher)
    assert np.array_equal(again.embed(SAID), teacher.embed(SAID))


def test_an_unknown_teacher_is_named() -> None:
    with pytest.raises(ValueError, match=r"no teacher 'bret'; known: lsa, hugging_face, sentence"):
        teachers.build("bret", REPORTS)


class Counting:
    """A teacher that notes what it reads, and is killed at the third batch if told so."""

    model, revision, layer, pooling = "counting", "1", 0, "length"

    def __init__(self, killed: bool = False) -> None:
        self.killed, self.read = killed, list[str]()

    def embed(self, texts: Sequence[teachers.Text]) -> np.ndarray[Any, Any]:
        if self.killed and len(self.read) >= 4:
            raise KeyboardInterrupt
        reports = [r.text for r in teachers.as_reports(texts)]
        self.read += reports
        return np.array([[len(text), 1] for text in reports], np.float32)


def test_the_step_reads_no_report_of_a_test_person_and_resumes(
    tiny_settings: Settings, materialise: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    materialise("pairs")
    monkeypatch.setattr(embeddings, "BATCH", 2)

    def run(teacher: Counting) -> store.Outcome:
        monkeypatch.setattr(teachers, "build", lambda *_, **__: teacher)
        return embeddings.embed(tiny_settings, SAMPLE, lambda _: None)

    killed, resumed = Counting(killed=True), Counting()
    with pytest.raises(KeyboardInterrupt):
        run(killed)
    assert len(killed.read) == 4
    with pytest.raises(FileNotFoundError):  # half a table is not taken for a finished step
        store.version_at(embeddings.folder(tiny_settings, SAMPLE) / "stamp.json")
    outcome = run(resumed)
    assert resumed.read and not set(resumed.read) & set(killed.read)
    assert run(Counting(killed=True)).skipped
    pairs = store.read_table(layout.Corpus(tiny_settings.data_root).table("pairs")).to_pylist()
    hidden = {r["full_text"] for r in pairs if r["split"] == "test"}
    shown = {r["full_hash"]: r["full_text"] for r in pairs if r["align"]}
    assert hidden and not hidden & {*killed.read, *resumed.read}
    kept = vectors.read(embeddings.table(tiny_settings, SAMPLE))[0]
    assert len(kept) == outcome.facts["reports"]
    assert all(kept[key][0] == len(text) for key, text in shown.items())

    # Another teacher's table put in its place is noticed before a run is started on it.
    assert embeddings.teacher(tiny_settings, SAMPLE) == teachers.facts(resumed)
    other = teachers.facts(resumed) | {"model": "another"}
    vectors.write(embeddings.table(tiny_settings, SAMPLE), kept, other)
    with pytest.raises(ValueError, match=r"of the teacher another@.*asks for those of .*delete"):
        embeddings.teacher(tiny_settings, SAMPLE)


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


def test_lsa_tells_a_finding_from_its_denial_by_words_alone() -> None:
    """Reports that people bring have no terms; some say the same words and mean the opposite."""
    ways = {True: ["{} is heard.", "There is {}."], False: ["No {} was heard.", "Without {}."]}
    order = list(itertools.product((True, False), (True, False), (0, 1), (0, 1)))
    said = {
        key: f"{ways[key[0]][key[2]].format('murmur')} {ways[key[1]][key[3]].format('wheezes')}"
        for key in order
    }
    teacher = teachers.build("lsa", teachers.as_reports([*said.values()] * 2))
    alike = cosine(teacher.embed(list(said.values())))
    shared = np.array([[(a[0] == b[0]) + (a[1] == b[1]) for b in order] for a in order])
    both, one, none = (alike[shared == n] for n in (2, 1, 0))
    assert both.mean() > one.mean() + 0.2 > none.mean() + 0.4
    assert both.min() > none.max()
    asserted, denied = said[True, True, 0, 0], said[False, False, 0, 0]
    new = [
        "A murmur, but no wheezes.",
        "No murmur, but wheezes.",
        "No wheezes, crackles or murmur.",
    ]
    near = cosine(teacher.embed([asserted, denied, *new]))
    assert near[2, 3] < 0.5 and near[4, 1] > near[4, 0] + 0.4


def test_lsa_of_another_version_is_not_read_as_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = teachers.module_of("lsa")
    monkeypatch.setattr(module, "VERSION", 1)
    teacher: Any = teachers.build("lsa", REPORTS)
    teacher.save(tmp_path / "teacher.npz")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"version 1 .* make the report embeddings again"):
        teachers.reopen("lsa", tmp_path / "teacher.npz")


def test_lsa_says_when_there_is_too_little_to_learn_from() -> None:
    with pytest.raises(ValueError, match="at least two reports to learn from, got 1"):
        teachers.build("lsa", REPORTS[:1])


def by_hand(folder: Path, pooling: str, layers: Sequence[int]) -> dict[int, np.ndarray[Any, Any]]:
    """One report at a time and so without padding."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    assert os.environ["HF_HUB_OFFLINE"] == "1"
    model = AutoModel.from_pretrained(folder).eval()
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found: dict[int, list[np.ndarray[Any, Any]]] = {layer: [] for layer in layers}
    for one in SAID:
        tokens = tokenizer([one.text], return_tensors="pt", return_special_tokens_mask=True)
        added = tokens.pop("special_tokens_mask")[0].bool()
        with torch.no_grad():
            states = model(**tokens, output_hidden_states=True).hidden_states
        for layer in layers:
            state = states[layer][0]
            content = state[~added].mean(0)
            ways = {"mean": state.mean(0), "mean_content": content, "last": state[-1]}
            found[layer].append((ways | {"cls": state[0]})[pooling].numpy())
    return {layer: np.stack(rows) for layer, rows in found.items()}


@pytest.mark.parametrize("pooling", ["mean", "mean_content", "last", "cls"])
@pytest.mark.parametrize("kind", MODELS)
def test_vectors_are_those_of_each_text_alone(
    kind: str, pooling: str, models: dict[str, Path]
) -> None:
    """In batches with much padding, several layers at once."""
    layers = (0, 1, -1)
    expected = by_hand(models[kind], pooling, layers)
    for batch_size in (1, 3, 100):
        teacher: Any = teachers.build(
            "hugging_face", [], model=str(models[kind]), pooling=pooling, batch_size=batch_size,
            device="cpu", layers=layers,
        )  # fmt: skip
        found = teacher.embed(SAID)
        assert found.shape == (len(SAID), 3, found.shape[2]) and found.dtype == np.float32
        for n, layer in enumerate(layers):
            assert np.allclose(found[:, n], expected[layer], atol=1e-5), (layer, batch_size)


def test_one_pass_serves_several_layers_and_each_of_them_later(
    models: dict[str, Path], tmp_path: Path
) -> None:
    """A layer ablation costs no pass: each layer lies in the cache under its own key."""
    asked = (-1, 1)

    def teacher(**layers: Any) -> tuple[Any, list[int]]:
        made: Any = teachers.build(
            "hugging_face", [], model=str(models["bert"]), device="cpu", batch_size=50, **layers
        )
        passes: list[int] = []
        made._model.register_forward_hook(lambda *_: passes.append(1))
        return made, passes

    both, passes = teacher(layers=asked)
    assert both.layer == (LAYERS, 1) and teachers.layers(both) == (LAYERS, 1)
    assert teachers.facts(both)["layer"] == [LAYERS, 1]
    assert f"layer={LAYERS}+1/" in teachers.identity(both)
    found, read = cache.embed(both, SAID, tmp_path, lambda _: None)
    assert (read, len(passes)) == (len(SAID), 1)
    for n, layer in enumerate(asked):
        one, passes = teacher(layer=layer)
        alone = one.embed(SAID)
        assert len(passes) == 1 and alone.ndim == 2
        kept, read = cache.embed(one, SAID, tmp_path)
        assert read == 0 and len(passes) == 1
        for report, vector in zip(SAID, alone, strict=True):
            assert found[report.hash].shape == (2, len(vector))
            assert np.allclose(found[report.hash][n], vector, atol=1e-6)
            assert np.array_equal(kept[report.hash], found[report.hash][n])
    # A report that one layer lacks is read again, for all of them.
    other, _ = teacher(layer=2)
    cache.embed(other, SAID[:3], tmp_path, lambda _: None)
    three, passes = teacher(layers=(2, -1))
    vectors, read = cache.embed(three, SAID, tmp_path, lambda _: None)
    assert (read, len(passes)) == (len(SAID) - 3, 1)
    assert all(np.array_equal(vectors[r.hash][1], found[r.hash][0]) for r in SAID)
    assert teacher(layers=[-1])[0].layer == LAYERS
    for wrong in ((), (-1, LAYERS), (1, 1)):
        with pytest.raises(ValueError, match="name one or more, each once"):
            teacher(layers=wrong)


def test_the_pooling_options_differ_where_tokens_are_added(models: dict[str, Path]) -> None:
    ways = [by_hand(models["bert"], p, [-1])[-1] for p in ("mean", "mean_content", "last", "cls")]
    assert all(not np.allclose(a, b, atol=1e-3) for i, a in enumerate(ways) for b in ways[:i])


def test_a_model_with_pictures_keeps_its_text_tower_alone(models: dict[str, Path]) -> None:
    teacher: Any = teachers.build("hugging_face", [], model=str(models["gemma3"]), device="cpu")
    names = {name.split(".")[0] for name, _ in teacher._model.named_parameters()}
    assert names == {"embed_tokens", "layers", "norm"}


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_sentence_encoders_do_what_their_files_say(
    pooling: str, dense: bool, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    folder = text_models.sentence(tmp_path, pooling, dense)
    expected = by_hand(folder, pooling, [-1])[-1]
    if dense:
        weight = load_file(folder / "2_Dense" / "model.safetensors")["linear.weight"]
        expected = np.tanh(expected @ weight.T)
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    teacher = teachers.build("sentence", [], model=str(folder), batch_size=3, device="cpu")
    assert np.allclose(teacher.embed(SAID), expected, atol=1e-5)


def test_other_sentence_encoders_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no sentence encoder"):
        teachers.build("sentence", [], model=str(models["bert"]))
    with pytest.raises(ValueError, match="pools by pooling_mode_max_tokens"):
        teachers.build("sentence", [], model=str(text_models.sentence(tmp_path, "max")))


def test_hugging_face_identity_says_what_decides_the_numbers(
    models: dict[str, Path], tmp_path: Path
) -> None:
    def name(folder: Path, **more: Any) -> str:
        return teachers.identity(
            teachers.build("hugging_face", [], model=str(folder), device="cpu", **more)
        )

    bert = models["bert"]
    changes = ({"layer": 1}, {"max_tokens": 5}, {"pooling": "cls"}, {"dtype": "bfloat16"})
    names = [name(bert, **change) for change in ({}, *changes)]
    assert len(set(names)) == 5 and name(bert, batch_size=3, layer=LAYERS) == names[0]
    # The same files elsewhere are the same teacher; other weights are another.
    other = text_models.bert(tmp_path / bert.name)
    assert name(other) == names[0]
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    assert name(other) != names[0]


def test_long_reports_are_cut_and_counted(models: dict[str, Path]) -> None:
    teacher: Any = teachers.build(
        "hugging_face", [], model=str(models["gpt"]), max_tokens=4, batch_size=2, device="cpu"
    )
    short = Report("short", "No murmur", ())
    longer = [Report(f"{n}", "No murmur was heard " + more, ()) for n, more in enumerate("., ")]
    vectors = teacher.embed([short, *longer])
    assert teacher.truncated == 2
    assert np.allclose(vectors[1], vectors[2], atol=1e-6)


def test_what_cannot_be_asked_is_an_error(models: dict[str, Path]) -> None:
    def ask(text: str = "", **options: Any) -> None:
        teachers.build(
            "hugging_face", [], model=str(models["bert"]), device="cpu", **options
        ).embed([text])

    for layer in (4, -5):
        with pytest.raises(ValueError, match=rf"has hidden states 0\.\.3, not {layer}"):
            ask(layer=layer)
    with pytest.raises(ValueError, match=r"no pooling 'max'; known: mean, mean_content"):
        ask(pooling="max")
    with pytest.raises(ValueError, match="has no token to read"):
        ask(pooling="mean_content")


def test_the_cache_reads_each_report_once_and_keeps_teachers_apart(tmp_path: Path) -> None:
    """Parts survive a kill; another layer or pooling is another teacher."""
    killed, resumed = Counting(killed=True), Counting()
    said = [*REPORTS[:8], REPORTS[0]]
    with pytest.raises(KeyboardInterrupt):
        cache.embed(killed, said, tmp_path, lambda _: None, chunk=2)
    lines: list[str] = []
    vectors, read = cache.embed(resumed, said, tmp_path, lines.append, chunk=3)
    (line,) = lines
    assert read == 4 and line.startswith("teacher: 4 of 4 reports embedded in ")
    assert not set(resumed.read) & set(killed.read)
    assert {r.hash: float(len(r.text)) for r in said} == {k: v[0] for k, v in vectors.items()}
    again = Counting(killed=True)
    assert cache.embed(again, said, tmp_path)[1] == 0 and not again.read
    for name, value in (("model", "b"), ("revision", "2"), ("layer", 1), ("pooling", "last")):
        other = Counting()
        setattr(other, name, value)
        assert cache.embed(other, said[:1], tmp_path, lines.append)[1] == 1, name
    assert not [p for p in tmp_path.rglob(".*")]


def test_a_part_of_another_teacher_in_the_cache_is_refused(tmp_path: Path) -> None:
    """Same width, same reports: nothing but its name tells the two apart."""
    one, other = Counting(), Counting()
    other.revision = "2"
    for teacher in (one, other):
        cache.embed(teacher, SAID, tmp_path, lambda _: None)
    (part,) = cache.place(tmp_path, other).glob("part-*.npz")
    part.rename(cache.place(tmp_path, one) / "part-strange.npz")
    with pytest.raises(ValueError, match=r"teacher counting@2/layer=0/length, not of counting@1/"):
        cache.embed(one, SAID, tmp_path, lambda _: None)
