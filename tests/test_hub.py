"""Models by Hub id: what is fetched, what is recorded, and what a refusal says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hub_server
import pytest
import text_models
import torch

from acula_model import checkpoint, encoders, hub, weights

TINY = {"patch": (32, 32), "width": 16, "depth": 1, "heads": 2, "decoder_width": 16}

# huggingface_hub reads its address when it is imported, so this is a process of its own.
SCRIPT = """
import json, sys
from acula_model import checkpoint, encoders, hub, teachers
import acula_model

def attempt(work):
    try:
        return work()
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"

def origin(source, **options):
    model = acula_model.load(source, device="cpu", **options)
    found = model.origin
    return [found.revision, found.sha256, model.encoder.weights.revision, model.width]

def restored(source):
    encoder = encoders.build("opera_gt_small", **json.loads(sys.argv[1]))
    found = checkpoint.restore(encoder, source)
    return [found.revision, found.sha256, encoder.weights.revision, encoder.width]

def teacher(name, model):
    return teachers.identity(teachers.build(name, [], model=model, device="cpu"))

print(json.dumps({
    "ours": attempt(lambda: origin("clinic/ours")),
    "ours at a commit": attempt(lambda: origin("clinic/ours@0123456789abcdef0123456789abcdef01234567")),
    "no such revision": attempt(lambda: origin("clinic/ours@v9")),
    "a file": attempt(lambda: restored("hf://clinic/files/encoder.ckpt")),
    "no such file": attempt(lambda: restored("hf://clinic/files/other.ckpt")),
    "not ours": attempt(lambda: origin("clinic/files")),
    "unknown": attempt(lambda: origin("clinic/unknown")),
    "gated": attempt(lambda: origin("clinic/gated")),
    "gated teacher": attempt(lambda: teacher("hugging_face", "clinic/gated")),
    "teacher": attempt(lambda: teacher("hugging_face", "clinic/bert")),
    "sentence": attempt(lambda: teacher("sentence", "clinic/sentence")),
}))
"""  # noqa: E501


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("repositories")
    torch.manual_seed(0)
    encoder = encoders.build("opera_gt_small", **TINY)
    checkpoint.save(root / "ours", encoder, {}, {})
    (root / "files").mkdir()
    torch.save({"state_dict": encoder.state_dict()}, root / "files" / "encoder.ckpt")
    for name in ("bert", "sentence"):
        (root / name).mkdir()
        getattr(text_models, name)(root / name)
    (root / "bert" / "example.py").write_text("code that must stay there")
    return {f"clinic/{folder.name}": folder for folder in root.iterdir()}


def ask(folder: Path, address: str, offline: bool = False) -> dict[str, Any]:
    environment = os.environ | {
        "HF_ENDPOINT": address, "HF_HOME": str(folder), "HF_HUB_OFFLINE": str(int(offline)),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    for name in [n for n in environment if n.lower().endswith("_proxy")]:
        del environment[name]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(TINY)], env=environment, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_hub_ids_record_commit_and_hash_and_refusals_say_what_to_do(
    world: dict[str, Path], tmp_path: Path
) -> None:
    with hub_server.serve(world) as (address, asked):
        found = ask(tmp_path, address)
    commit = hub_server.COMMIT
    ours = weights.sha256(world["clinic/ours"] / "weights.safetensors")
    file = weights.sha256(world["clinic/files"] / "encoder.ckpt")
    assert found["ours"] == found["ours at a commit"] == [commit, ours, commit, 16]
    assert found["a file"] == [commit, file, commit, 16]
    assert (
        found["gated"]
        == found["gated teacher"]
        == (
            "HubError: clinic/gated is gated: accept its terms on "
            "https://huggingface.co/clinic/gated while signed in, then run `hf auth login` with a "
            "token of that account"
        )
    )
    assert found["unknown"].startswith("HubError: no folder clinic/unknown here and no such model")
    assert found["no such revision"].startswith("HubError: clinic/ours has no such revision")
    assert "clinic/files has no other.ckpt" in found["no such file"]
    assert "hf://clinic/files/<file>" in found["not ours"]
    assert found["teacher"].startswith(f"clinic/bert@{commit}/max=256/float32/")
    assert found["sentence"].startswith(f"clinic/sentence@{commit}/max=128/float32/")
    assert found["sentence"].endswith("/layer=3/mean+unit")
    fetched = {line.split("/")[-1] for line in asked if line.startswith("GET clinic/")}
    assert "example.py" not in fetched and "model.safetensors" in fetched
    # What has been fetched is there without the Hub, and the rest says so.
    again = ask(tmp_path, address, offline=True)
    for name in ("ours", "a file", "teacher", "sentence"):
        assert again[name] == found[name]
    assert "is not in the local cache and the Hub cannot be reached" in again["unknown"]


def test_what_is_a_hub_id() -> None:
    assert hub.parse("a/b") == hub.HubId("a/b")
    assert hub.parse("a/b@v1.0") == hub.HubId("a/b", "v1.0")
    assert hub.parse("hf://a/b@v1/folder/x.ckpt") == hub.HubId("a/b", "v1", "folder/x.ckpt")
    for path in ("weights/encoder-operaGT.ckpt", "a", "/a/b", "./a/b", "a/b/c", "../a/b"):
        assert hub.parse(path) is None, path
        with pytest.raises(FileNotFoundError, match="a Hub id is owner/name"):
            hub.locate(path, ["config.json"])


def test_a_path_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clinic" / "ours").mkdir(parents=True)
    assert hub.locate("clinic/ours", ["config.json"]) == hub.Local(Path("clinic/ours"))
    with pytest.raises(FileNotFoundError, match=r"is no checkpoint: it has no config\.json"):
        checkpoint.load("clinic/ours")
