"""The library as its users meet it: train on a csv, load, embed, compare, export."""

import csv
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from costs import imported
from typer.testing import CliRunner

import acula_model
from acula_model import align_csv, checkpoint, decoding, release
from acula_model.model import Model
from acula_model.recipes import Recipe
from acula_model.training import loop
from pipeline.cli import app

torch.set_num_threads(1)  # steps this small are slower on two

README = Path(__file__).parents[1] / "README.md"
HEADING = "## Using the model library"
SAID = {
    True: ["Clicks are heard.", "There are clicks.", "Clicks over the whole recording."],
    False: ["A steady hum is heard.", "There is a hum.", "A hum over the whole recording."],
}


def sound(r: np.random.Generator, clicks: bool) -> npt.NDArray[np.float32]:
    """Two seconds at 16 kHz: clicks or none, under a hum and noise whose levels say nothing."""
    time = np.arange(32_000) / 16_000
    wave = r.uniform(0.005, 0.03) * r.standard_normal(32_000)
    wave += r.uniform(0.01, 0.05) * np.sin(2 * np.pi * r.uniform(100, 3000) * time)
    if clicks:
        wave[:: int(r.integers(2500, 4000))] += 0.9
    return wave.astype(np.float32)


@dataclass
class Trained:
    """What `acula align` left, and sounds that it never met."""

    root: Path
    output: str
    folder: Path
    held_out: list[tuple[npt.NDArray[np.float32], bool]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A csv in the release's form, with lines that cannot be used, trained by the command."""
    root = tmp_path_factory.mktemp("trained")
    (root / "recordings").mkdir()
    r = np.random.default_rng(0)
    lines: list[dict[str, str]] = []
    for i in range(72):
        path = Path("recordings") / f"{i}.wav"
        soundfile.write(root / path, sound(r, i % 2 == 0), 16_000)
        said = f"{SAID[i % 2 == 0][i // 2 % 3]} Case {i % 5}."
        split = "train" if i < 48 else "val" if i < 64 else "test"
        lines.append({"audio_path": str(path), "Gen_Report": said, "split": split})
    (root / "recordings" / "cut.wav").write_bytes((root / "recordings/0.wav").read_bytes()[:9000])
    bad = {
        "recordings/none.wav": "Clicks.",
        "recordings/cut.wav": "Clicks.",
        "recordings/1.wav": "",
    }
    lines += [{"audio_path": a, "Gen_Report": t, "split": "train"} for a, t in bad.items()]
    lines.append(lines[0])
    with (root / "combined.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["audio_path", "Gen_Report", "split"])
        table.writeheader()
        table.writerows(lines)
    command = (
        f"align --csv_path {root}/combined.csv --output_dir {root}/out --audio_backbone "
        "opera_gt_small --teacher lsa --epochs 12 --batch_size 12 --grad_accum_steps 2 --lr 3e-3 "
        "--warmup_steps 4 --lambda_mam 0.3"
    )
    done = CliRunner().invoke(app, shlex.split(command))
    assert done.exit_code == 0, done.output
    (folder,) = (root / "out").glob("run-*/checkpoint")
    held_out = [(sound(r, bool(i % 2)), bool(i % 2)) for i in range(20)]
    return Trained(root, done.output, folder, held_out)


@pytest.fixture(scope="module")
def model(trained: Trained) -> Model:
    return acula_model.load(trained.folder, device="cpu")


def test_every_line_of_the_csv_is_used_or_has_its_reason(trained: Trained) -> None:
    assert "48 pairs to learn from, 16 to measure with, 12 lines not used" in trained.output
    with (trained.root / "out" / "refused.csv").open(newline="") as file:
        refused = list(csv.DictReader(file))
    reasons = {Path(row["audio_path"]).name: row["reason"] for row in refused[-3:]}
    assert len(refused) == 12 and "cut short" in reasons["cut.wav"]
    assert reasons["none.wav"] == "No such file or directory" and reasons["1.wav"] == "empty report"
    assert refused[0]["line"] == "2" and "later line" in refused[0]["reason"]
    assert sum(row["reason"] == "held out for test" for row in refused) == 8


def test_reports_are_found_for_sounds_and_sounds_for_reports(
    model: Model, trained: Trained
) -> None:
    """CKA aligns up to a rotation; with the bridge, zero-shot comparison works on new sounds."""
    waves = [wave for wave, _ in trained.held_out]
    clicks = np.array([c for _, c in trained.held_out])
    texts = [SAID[True][0], SAID[False][1]]
    scores = model.similarity(waves, texts)
    assert scores.shape == (20, 2) and abs(scores).max() <= 1 + 1e-6
    assert (((scores[:, 0] > scores[:, 1]) == clicks).mean()) >= 0.9
    best = model.retrieve(waves, texts, top=1)
    assert [match[0].index == 0 for match in best] == (scores[:, 0] > scores[:, 1]).tolist()
    ranked = model.retrieve(waves, texts, top=8, by="text")
    assert len(ranked) == 2 and all(len(row) == 8 for row in ranked)
    assert all(clicks[match.index] for match in ranked[0])
    assert [m.score for m in ranked[0]] == sorted((m.score for m in ranked[0]), reverse=True)


def test_a_finished_run_is_not_trained_again_and_another_csv_is(trained: Trained) -> None:
    lines = (trained.root / "combined.csv").read_text().splitlines(keepends=True)
    other = trained.root / "combined2.csv"
    other.write_text("".join(lines[:40]))
    recipe = dict(checkpoint.load(trained.folder).meta["recipe"])
    recipe |= {"epochs": 1, "projection": (16, 8)}
    said: list[str] = []
    for path in (other, other, trained.root / "combined.csv"):
        said.append("")
        align_csv.align(path, Recipe(**recipe), trained.root / "out2", 1, said.append)
    starts = [i for i, line in enumerate(said) if not line]
    runs = ["\n".join(said[a:b]) for a, b in zip(starts, [*starts[1:], None], strict=True)]
    assert "reports embedded" in runs[0] and "resuming" not in runs[0]
    assert "resuming after epoch 1 of 1" in runs[1] and "reports embedded" not in runs[1]
    assert "epoch 1 of 1: loss" in runs[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("audio_path,report\na.wav,x\n", "has no column Gen_Report; it has audio_path, report"),
        ("audio_path,Gen_Report,split\na.wav,x,dev\n", "line 2: split 'dev' is none of train, val"),
        (
            "audio_path,Gen_Report,split,person_id\na.wav,x,train,p1\nb.wav,x,test,p1\n",
            "1 persons are on more than one side, such as p1",
        ),
        ("audio_path,Gen_Report\na.wav,x\n", "none of 1 lines can be used for training"),
    ],
)
def test_a_csv_that_cannot_be_trained_on_says_why(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    command = f"align --csv {tmp_path}/a.csv --output-dir {tmp_path}/out --teacher lsa"
    done = CliRunner().invoke(app, shlex.split(command))
    assert done.exit_code == 1 and message in done.output.replace("\n", " ")


@pytest.fixture
def collection(tmp_path: Path) -> dict[str, str | None]:
    """Files of several kinds -> a part of the reason why one cannot be used."""
    r = np.random.default_rng(5)
    waves = {"mono.wav": sound(r, True), "long.flac": np.tile(sound(r, False), 12)}
    for name, wave in waves.items():
        soundfile.write(tmp_path / name, wave, 16_000)
    soundfile.write(tmp_path / "stereo.ogg", np.stack([waves["mono.wav"]] * 2, 1), 44_100)
    soundfile.write(tmp_path / "b.mp3", waves["mono.wav"], 16_000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(tmp_path / "short.wav", waves["mono.wav"][:1000], 16_000)
    soundfile.write(tmp_path / "nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "mono.wav").read_bytes()[:20_000])
    (tmp_path / "cut.ogg").write_bytes((tmp_path / "stereo.ogg").read_bytes()[:-500])
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.flac").write_text("this is no sound")
    (tmp_path / "notes.txt").write_text("not looked at")
    return {
        "mono.wav": None, "long.flac": None, "stereo.ogg": None, "b.mp3": None,
        "silent.wav": "silent", "short.wav": "too short: 0.062 s", "nan.wav": "not finite",
        "cut.wav": "cut short", "cut.ogg": "cut short", "empty.wav": "empty file",
        "text.flac": "cannot be decoded", "missing.wav": "No such file",
    }  # fmt: skip


def test_embed_writes_a_row_per_file(
    collection: dict[str, str | None], trained: Trained, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "embeddings.parquet"
    command = ["embed", str(tmp_path), str(tmp_path / "missing.wav"), "--out", str(out)]
    done = CliRunner().invoke(app, [*command, "--checkpoint", str(trained.folder), "--batch", "5"])
    assert done.exit_code == 0, done.output
    assert f"4 vectors of width 128 in {out}; 8 files without one" in done.output.replace("\n", "")
    table = pq.read_table(out)
    rows = table.to_pylist()
    assert [Path(row["path"]).name for row in rows] == [
        *sorted(set(collection) - {"missing.wav"}), "missing.wav",
    ]  # fmt: skip
    about = json.loads((table.schema.metadata or {})[b"acula"])
    assert about["encoder"] == "opera_gt_small" and about["weights"]["source"] == str(
        trained.folder
    )
    encoder = acula_model.load(trained.folder, device="cpu").encoder
    for row in rows:
        name = Path(row["path"]).name
        reason = collection[name]
        if reason:
            assert row["vector"] is None and reason in row["error"], name
            continue
        wave = decoding.read(Path(row["path"]), 16_000)
        assert row["error"] is None and row["seconds"] == pytest.approx(len(wave) / 16_000)
        assert row["windows"] == (3 if name == "long.flac" else 1)
        with torch.no_grad():
            expected = encoder.embed_recordings([wave], 16_000)[0].numpy()
        assert np.allclose(row["vector"], expected, atol=1e-5), name
    assert not [p for p in out.parent.iterdir() if p.name.startswith(".")]
    nothing = CliRunner().invoke(
        app,
        ["embed", str(tmp_path / "empty.wav"), *command[3:], "--checkpoint", str(trained.folder)],
    )
    assert nothing.exit_code == 1 and "0 vectors" in nothing.output


def test_the_model_embeds_files_and_samples_alike_and_names_what_it_cannot(
    model: Model, collection: dict[str, str | None], tmp_path: Path
) -> None:
    wave = decoding.read(tmp_path / "mono.wav", 16_000)
    vectors = model.embed([tmp_path / "mono.wav", wave, str(tmp_path / "long.flac")])
    assert vectors.dtype == np.float32 and vectors.shape == (3, model.width)
    assert np.allclose(vectors[0], vectors[1], atol=1e-5)
    assert model.embed([]).shape == (0, model.width)
    with pytest.raises(decoding.SoundError, match=r"cut\.wav: cut short"):
        model.embed([wave, tmp_path / "cut.wav"])


@pytest.mark.parametrize("workers", [1, 3])
def test_only_a_few_sounds_are_in_memory(model: Model, workers: int) -> None:
    """However many there are: the source is asked for a few more than have been given out."""
    r = np.random.default_rng(2)
    # Long and short ones in turn: many windows wait while others are decoded.
    kinds = [np.tile(sound(r, True), 9), sound(r, False)]
    ahead, asked = 0, 0

    def source() -> Iterator[npt.NDArray[np.float32]]:
        nonlocal asked
        for i in range(60):
            asked += 1
            yield kinds[i % 2]

    for given, row in enumerate(model.stream(source(), batch=4, workers=workers)):
        assert row.windows == (2 if given % 2 == 0 else 1)
        ahead = max(ahead, asked - given)
    assert asked == 60 and ahead <= 2 * workers + 4


def test_other_weights_and_missing_parts_are_told(
    trained: Trained, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(checkpoint.CheckpointError, match="holds the encoder opera_gt_small, not"):
        acula_model.load(trained.folder, encoder="opera_gt")
    torch.save(model.encoder.state_dict(), tmp_path / "bare.pt")
    with pytest.raises(ValueError, match="does not say which encoder it is of; name one of ast"):
        acula_model.load(tmp_path / "bare.pt")
    bare = acula_model.load(tmp_path / "bare.pt", encoder="opera_gt_small", device="cpu")
    wave = trained.held_out[0][0]
    assert np.allclose(bare.embed([wave]), model.embed([wave]), atol=1e-6)
    assert bare.origin.sha256 and bare.origin.revision is None
    with pytest.raises(ValueError, match="it has no audio_head, text_head, bridge"):
        bare.similarity([wave], ["Clicks."])
    checkpoint.save(tmp_path / "no_teacher", model.encoder, {}, model.meta)
    with pytest.raises(ValueError, match="does not hold its state; pass teacher="):
        _ = acula_model.load(tmp_path / "no_teacher").teacher


def test_an_export_loads_in_the_releases_own_way(trained: Trained, tmp_path: Path) -> None:
    """Its trainer takes the file apart like this, and its probe reads the same entry."""
    done = CliRunner().invoke(app, ["export", str(trained.folder), str(tmp_path / "acula.pt")])
    assert done.exit_code == 0, done.output
    content = torch.load(tmp_path / "acula.pt", map_location="cpu")
    state = content["state_dict"] if "state_dict" in content else content["audio_model_state_dict"]
    found = checkpoint.load(trained.folder)
    assert state.keys() == release.published_keys(found.encoder).keys()
    assert {"mask_token", "decoder_pos_embed", "blocks.0.attn.qkv.weight"} <= state.keys()
    assert content["audio_projection_mlp_state_dict"].keys() == {
        "layers.0.weight", "layers.0.bias", "layers.3.weight", "layers.3.bias",
    }  # fmt: skip
    assert content["epoch"] == found.meta["best_epoch"]
    again = acula_model.load(tmp_path / "acula.pt", encoder="opera_gt_small", device="cpu")
    own = found.encoder.state_dict()
    assert all(torch.equal(own[k], v) for k, v in again.encoder.state_dict().items())


def test_importing_the_library_is_quick_and_brings_no_torch() -> None:
    cost, modules = imported("import acula_model")
    assert cost < 7
    assert not {"torch", "transformers", "numpy", "pandas", "sklearn"} & modules


@pytest.fixture
def section() -> str:
    text = README.read_text(encoding="utf-8")
    assert HEADING in text, f"README.md has no section {HEADING!r}"
    return text.partition(HEADING)[2].partition("\n## ")[0]


def test_the_readme_runs(
    section: str, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint").symlink_to(trained.folder)
    (tmp_path / "recordings").mkdir()
    for name, wave in zip(("a.wav", "b.flac"), trained.held_out[1::-1], strict=False):
        soundfile.write(tmp_path / "recordings" / name, wave[0], 16_000)
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert scope["vectors"].shape == (2, 128) and scope["scores"].shape == (1, 2)
    assert capsys.readouterr().out.startswith("Clicks are heard.")  # a.wav has clicks
    commands = [line for line in section.splitlines() if line.startswith("acula ")]
    asked: list[tuple[Path, Recipe]] = []
    loaded: list[str] = []
    load = acula_model.load

    def pretend(source: str, encoder: str | None = None, **options: Any) -> Model:
        loaded.append(f"{encoder} {source}")
        return load(tmp_path / "checkpoint" if source.startswith("hf://") else source, **options)

    def note(path: Path, recipe: Recipe, *_: Any) -> Any:
        asked.append((path, recipe))
        return loop.Result(folder=path, best_epoch=1, history=[])

    monkeypatch.setattr(acula_model, "load", pretend)
    monkeypatch.setattr(align_csv, "align", note)
    for command in commands:
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        assert done.exit_code == 0, (command, done.output)
    assert {shlex.split(c)[1] for c in commands} == {"embed", "export", "align"}
    assert loaded[1] == "opera_gt hf://evelyn0414/OPERA/encoder-operaGT.ckpt"
    ((_, recipe),) = asked
    assert recipe.encoder == "opera_gt" and recipe.batch_size == 48 and recipe.epochs == 50
    assert recipe.teacher_config == {
        "model": "google/medgemma-4b-pt", "layer": -1, "max_tokens": 128,
    }  # fmt: skip
