"""log-mel windows + teacher vectors -> an aligned encoder, resumable after a kill.

Each step takes pairs of one group (dataset and modality): over pooled corpora an alignment
loss mostly learns which dataset a clip is from. The teacher is not here: its vectors are.
"""

# B = pairs in a step, T = frames, M = mel bins, D = encoder width, E = teacher width

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from acula_model import checkpoint, encoders, features, heads, losses
from acula_model.mels import Mels
from acula_model.recipes import Recipe

Vectors = Mapping[str, npt.NDArray[np.float32]]
MIN_GROUP = 8  # pairs; debiased CKA of fewer says nothing


class TrainingError(ValueError):
    """Training that cannot go on; says why."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Where the encoder is, which epoch it is from, and what happened in each epoch."""

    folder: Path
    best_epoch: int
    history: list[dict[str, float]]


def best_device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class Aligner(nn.Module):
    """Encoder and the two projection heads that meet in a shared space."""

    def __init__(self, recipe: Recipe, text_width: int):
        super().__init__()
        torch.manual_seed(recipe.seed)
        self.encoder = encoders.build(recipe.encoder, **recipe.encoder_config)
        if recipe.weights:
            checkpoint.restore(self.encoder, recipe.weights)
        self.encoder.remember()
        hidden, out = recipe.projection
        self.audio_head = heads.mlp(self.encoder.width, hidden, out)
        self.text_head = {
            "mlp": lambda: heads.mlp(text_width, hidden, out),
            "linear": lambda: nn.Linear(text_width, out, bias=False),
            "none": nn.Identity,
        }[recipe.text_head]()

    @property
    def heads(self) -> tuple[nn.Module, nn.Module]:
        """Of sound and of text."""
        return self.audio_head, self.text_head


class Pairs:
    """The pairs of one role (alignment or gauge), by group."""

    def __init__(self, mels: Mels, vectors: Vectors, ids: Sequence[str], text: str):
        self._mels, self._vectors = mels, vectors
        self.report = {i: mels.meta[i][f"{text}_hash"] for i in ids}
        self.groups: dict[str, list[str]] = {}
        for i in sorted(ids):
            meta = mels.meta[i]
            self.groups.setdefault(f"{meta['dataset']}/{meta['modality']}", []).append(i)

    def shuffle_reports(self, seed: int) -> None:
        """Give every sound another report of its group (a control that must destroy the gain)."""
        rng = np.random.default_rng(seed)
        for members in self.groups.values():
            reports = [self.report[i] for i in members]
            order = rng.permutation(len(members))
            self.report |= {i: reports[j] for i, j in zip(members, order, strict=True)}

    def text(self, ids: Sequence[str]) -> Tensor:
        """[B, E]."""
        return torch.from_numpy(np.stack([self._vectors[self.report[i]] for i in ids]))

    def sound(self, ids: Sequence[str], choice: npt.NDArray[np.float64]) -> Tensor:
        """[B, T, M]: one window of each pair."""
        windows = [self._mels.one(i, c) for i, c in zip(ids, choice, strict=True)]
        return torch.from_numpy(np.stack(windows).astype(np.float32))


def batches(
    groups: Mapping[str, Sequence[str]], size: int, rng: np.random.Generator
) -> list[list[str]]:
    """Shuffled batches, each of one group, nearly equal in size, covering every pair once."""
    found: list[list[str]] = []
    for _, members in sorted(groups.items()):
        if len(members) < MIN_GROUP:
            continue
        shuffled = [members[i] for i in rng.permutation(len(members))]
        count = max(1, round(len(shuffled) / size))
        found += [list(part) for part in np.array_split(np.array(shuffled), count)]
    return [found[i] for i in rng.permutation(len(found))]


def align(
    recipe: Recipe,
    mels: Mels,
    vectors: Vectors,
    aligned: Sequence[str],
    gauge: Sequence[str],
    folder: Path,
    progress: Callable[[str], None] = print,
    device: str = "auto",
    about: Mapping[str, Any] | None = None,
    teacher: Path | None = None,
) -> Result:
    """Train; continue where a killed run stopped, with the same result.

    Args:
        recipe: What to do.
        mels: Windows of all pairs.
        vectors: Report hash -> teacher vector, of the aligned and gauge pairs' reports.
        aligned: Pair ids to learn from.
        gauge: Pair ids of held-out persons, for the held-out alignment of each epoch.
        folder: Gets ``state.pt`` after each epoch and the checkpoint of the best one.
        progress: Called with one line per epoch.
        device: ``auto`` takes a GPU when there is one.
        about: JSON values to keep with the checkpoint, such as which teacher it was.
        teacher: State of a fitted teacher, to keep with the checkpoint.

    Raises:
        TrainingError: Too few pairs, or the loss is not a number.
    """
    if device == "auto":
        device = best_device()
    learn = Pairs(mels, vectors, aligned, recipe.text)
    check = Pairs(mels, vectors, gauge, recipe.text)
    per_epoch = len(batches(learn.groups, recipe.batch_size, np.random.default_rng(0)))
    if per_epoch == 0:
        raise TrainingError(f"no group has {MIN_GROUP} alignment pairs; got {len(aligned)} pairs")
    if small := {g: len(m) for g, m in learn.groups.items() if len(m) < MIN_GROUP}:
        progress(f"left out, fewer than {MIN_GROUP} pairs in a group: {small}")
    if recipe.shuffle_reports:
        learn.shuffle_reports(recipe.seed)
    text_width = len(next(iter(vectors.values())))
    model = Aligner(recipe, text_width).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = _schedule(optimizer, recipe, per_epoch * recipe.epochs)
    history: list[dict[str, float]] = []
    best: dict[str, Any] = {"epoch": 0, "cka": -math.inf, "model": None}
    folder.mkdir(parents=True, exist_ok=True)
    state_file = folder / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        history, best = state["history"], state["best"]
        progress(f"resuming after epoch {len(history)} of {recipe.epochs}")
    for epoch in range(len(history) + 1, recipe.epochs + 1):
        line = _epoch(recipe, model, optimizer, schedule, learn, epoch, device)
        line |= {"epoch": epoch, "held_out_cka": held_out_alignment(model, mels, check)}
        history.append(line)
        # Without an alignment loss or without held-out pairs, the last epoch is the best known.
        blind = recipe.alignment_weight == 0 or math.isnan(line["held_out_cka"])
        if blind or line["held_out_cka"] >= best["cka"]:
            weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
            best = {"epoch": epoch, "cka": line["held_out_cka"], "model": weights}
        _save(
            state_file,
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "history": history,
                "best": best,
            },
        )
        progress(
            f"epoch {epoch} of {recipe.epochs}: loss {line['loss']:.3f}, masked "
            f"{line['masked_loss']:.4f}, held-out CKA {line['held_out_cka']:.3f}"
        )
    model.load_state_dict(best["model"])
    kept: dict[str, nn.Module] = {"audio_head": model.audio_head, "text_head": model.text_head}
    if recipe.alignment_weight > 0:
        # In the order of ids, which are hashes: a sample of all groups.
        some = sorted(learn.report)[: features.BRIDGE_PAIRS]
        kept["bridge"] = features.bridge(model.encoder, model.heads, mels, some, learn.text(some))
    meta = {"recipe": asdict(recipe), "best_epoch": best["epoch"], "held_out_cka": best["cka"]}
    checkpoint.save(folder / "checkpoint", model.encoder, kept, meta | dict(about or {}), teacher)
    return Result(folder=folder / "checkpoint", best_epoch=best["epoch"], history=history)


def _schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int):
    warm = max(1, int(recipe.warmup * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _epoch(
    recipe: Recipe,
    model: Aligner,
    optimizer: Any,
    schedule: Any,
    learn: Pairs,
    epoch: int,
    device: str,
) -> dict[str, float]:
    """One pass; all randomness follows from (seed, epoch), so a resumed run is the same run."""
    rng = np.random.default_rng((recipe.seed, epoch))
    masks = torch.Generator(device).manual_seed(recipe.seed * 100_003 + epoch)
    torch.manual_seed(recipe.seed * 100_003 + epoch)
    alignment_loss = losses.build(recipe.alignment_loss)
    aligning = recipe.alignment_weight > 0
    model.train()
    sums = {"loss": 0.0, "alignment_loss": 0.0, "masked_loss": 0.0}
    plan = batches(learn.groups, recipe.batch_size, rng)
    for ids in plan:
        mel_BTM = learn.sound(ids, rng.random(len(ids))).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            if recipe.one_pass:
                masked, sound_BD = model.encoder.masked_pass(mel_BTM, masks)
            else:
                masked = model.encoder.self_supervised_loss(mel_BTM, masks)
                sound_BD = model.encoder.embed(mel_BTM) if aligning else None
            heads = None
            if aligning and sound_BD is not None:
                text_BE = learn.text(ids).to(device)
                heads = model.audio_head(sound_BD), model.text_head(text_BE)
        # In full precision: a debiased estimate is a small difference of large sums.
        alignment = torch.zeros((), device=device)
        if heads is not None:
            alignment = alignment_loss(*(h.float() for h in heads))
        loss = recipe.masked_weight * masked + recipe.alignment_weight * alignment
        if not torch.isfinite(loss):
            raise TrainingError(
                f"loss is {loss.item()} in epoch {epoch} (masked {masked.item()}, alignment "
                f"{alignment.item()}); lower the learning rate or look at the inputs"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        schedule.step()
        for name, value in zip(sums, (loss, alignment, masked), strict=True):
            sums[name] += value.item()
    return {name: value / len(plan) for name, value in sums.items()}


def held_out_alignment(model: Aligner, mels: Mels, check: Pairs) -> float:
    """Debiased CKA of projected sound and text of held-out persons, mean over groups."""
    groups = {g: (m, check.text(m)) for g, m in check.groups.items() if len(m) >= MIN_GROUP}
    return features.held_out_alignment(model.encoder, model.heads, mels, groups)


def _save(path: Path, state: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save(dict(state), temporary)
    temporary.replace(path)
