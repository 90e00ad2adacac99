"""Named training runs: a run is a frozen value, an experiment is a changed copy of another.

``sample+shuffled_reports`` is the recipe ``sample`` under one change; changes add up from left to
right. Light on purpose (no torch): settings are checked against the names here.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Regime = Literal["disjoint", "strict", "transductive"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training run does.

    Attributes:
        encoder: Name in ``acula_model.encoders``; ``encoder_config`` overrides its sizes.
        weights: Checkpoint folder or file to start from, or its Hub id (with ``@commit``, or a
            later run may start from other weights); None starts from a random encoder.
        teacher: Name in ``acula_model.teachers``; ``teacher_config`` goes to it.
        regime: ``disjoint`` aligns with full reports of persons outside every test;
            ``strict`` also leaves out the label findings of all tasks; ``transductive`` is
            ``disjoint`` and hears test persons, without their reports, in the masked loss.
        alignment_loss: Name in ``acula_model.losses``.
        alignment_weight: Factor of the alignment loss; 0 trains by the encoder's own loss alone.
        masked_weight: Factor of the encoder's own loss (masked modelling, or preservation).
        one_pass: Align the embedding of the masked pass instead of a clean second pass.
        within_groups: Compare pairs of one dataset and modality only; over pooled corpora an
            alignment loss is mostly won by telling datasets apart.
        batches: ``grouped``: a step's pairs are of one group; ``mixed``: of all.
        temperature: 1 takes every pair once an epoch; under 1 small groups come more often.
        queue: Earlier pairs that the alignment loss compares with, besides those of the step.
        projection: Hidden and output width of the projection heads.
        text_head: ``mlp`` like the sound's, ``linear``, or ``none``: the teacher's geometry itself.
        epochs: Passes over the alignment pairs.
        batch_size: Pairs in an optimiser step, over all devices.
        micro_batch: Pairs on one device at once; None for all. Gradients add up over the rest.
        learning_rate: Peak of AdamW after ``warmup`` (share of all steps), then ``decay`` to 0.
        clip_norm: Largest gradient norm.
        ema: Decay per step of a moving average of the weights, which then is what is kept.
        precision: ``bf16`` computes the encoder in half precision; ``auto`` does so on a GPU.
        compile: Compile the encoder (``torch.compile``).
        stop_on_collapse: End a run whose projections fall into one direction; see ``held_out``.
        augment: Settings of ``acula_model.augment.Augment`` that differ from none.
        shuffle_reports: Control: pairs every sound with another report of its group.
        seed: Of initialisation, order, windows and masks.
    """

    name: str
    encoder: str
    encoder_config: dict[str, Any] = field(default_factory=dict[str, Any])
    weights: str | None = None
    teacher: str
    teacher_config: dict[str, Any] = field(default_factory=dict[str, Any])
    regime: Regime = "disjoint"
    alignment_loss: str = "cka_debiased"
    alignment_weight: float = 1.0
    masked_weight: float = 1.0
    one_pass: bool = False
    within_groups: bool = True
    batches: Literal["grouped", "mixed"] = "grouped"
    temperature: float = 1.0
    queue: int = 0
    projection: tuple[int, int] = (256, 128)
    text_head: Literal["mlp", "linear", "none"] = "mlp"
    epochs: int
    batch_size: int
    micro_batch: int | None = None
    learning_rate: float
    weight_decay: float = 0.01
    warmup: float = 0.1
    decay: Literal["cosine", "linear"] = "cosine"
    clip_norm: float = 1.0
    ema: float | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    stop_on_collapse: bool = True
    augment: dict[str, Any] = field(default_factory=dict[str, Any])
    shuffle_reports: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        object.__setattr__(self, "projection", tuple(self.projection))  # JSON has no tuples
        for name in ("batch_size", "micro_batch"):
            if (size := getattr(self, name)) is not None and size < 1:
                raise ValueError(f"{name} is at least 1, not {size}")
        for name in ("epochs", "queue", "alignment_weight", "masked_weight"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name} is not negative, not {value}")
        if self.learning_rate <= 0 or self.temperature < 0 or not 0 <= self.warmup <= 1:
            raise ValueError("learning_rate > 0, temperature >= 0 and warmup in [0, 1] are needed")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema is between 0 and 1, not {self.ema}")

    @property
    def text(self) -> str:
        """Column prefix of the reports that this run learns from."""
        return "strict" if self.regime == "strict" else "full"

    @property
    def key(self) -> str:
        """Short hash of every value except the name."""
        values = {k: v for k, v in asdict(self).items() if k != "name"}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


# For two processor cores. A linear text head can drop what nobody hears and memorises little of a
# small corpus; DECISIONS.md has what was tried.
SAMPLE = Recipe(
    name="sample",
    encoder="opera_gt_small",
    teacher="lsa",
    one_pass=True,
    masked_weight=0.3,
    text_head="linear",
    epochs=20,
    batch_size=64,
    learning_rate=3e-3,
    weight_decay=0.1,
)

# The published window: the first 8.19 s, zeros after a shorter recording.
_PUBLISHED_WINDOW = {"front_end": {"profile": "acula-train"}}

# Encoder, teacher, heads, epochs and rate of the published release (its model card), with a loss
# that hears the pairing. Debiased CKA of 24 pairs is noise: the queue shows it 512 at least.
# Needs a GPU, the published encoder at ``weights``, and a Hugging Face login that has accepted
# MedGemma's terms.
PAPER = Recipe(
    name="paper",
    encoder="opera_gt",
    encoder_config=_PUBLISHED_WINDOW,
    weights="weights/encoder-operaGT.ckpt",
    teacher="hugging_face",
    teacher_config={
        "model": "google/medgemma-4b-pt",
        "layer": -1,
        "max_tokens": 256,
        "dtype": "bfloat16",
    },
    batches="mixed",
    queue=512,
    projection=(1024, 512),
    epochs=50,
    batch_size=48,
    learning_rate=1e-5,
    decay="linear",
)

# The release as its code behaves: the loss that ignores the pairing, over batches of 24 whose
# gradients are added up twice, datasets pooled.
RELEASE = replace(
    PAPER,
    name="release",
    alignment_loss="release_cov",
    within_groups=False,
    queue=0,
    micro_batch=24,
    precision="fp32",
    stop_on_collapse=False,
)

# The loss that hears the pairing, and reports without the label findings of any task: what then is
# gained cannot have been read off a report.
STRICT = replace(PAPER, name="strict", regime="strict")

RECIPES = {r.name: r for r in (SAMPLE, PAPER, RELEASE, STRICT)}

Change = Callable[[Recipe], Recipe]


def _set(**values: Any) -> Change:
    return lambda recipe: replace(recipe, **values)


CHANGES: dict[str, Change] = {
    # regimes
    "strict": _set(regime="strict"),
    "transductive": _set(regime="transductive"),
    # controls: each takes one thing away that the gain should need
    "shuffled_reports": _set(shuffle_reports=True, stop_on_collapse=False),
    "random_text": _set(teacher="random_text", teacher_config={}, stop_on_collapse=False),
    "bag_of_words": _set(teacher="bag_of_words", teacher_config={}),
    "masked_only": _set(alignment_weight=0.0),
    # other objectives
    "infonce": _set(alignment_loss="infonce"),
    "sigmoid": _set(alignment_loss="sigmoid"),
    "cka": _set(alignment_loss="cka"),
    "release_cov": _set(
        alignment_loss="release_cov", within_groups=False, batches="mixed", stop_on_collapse=False
    ),
    "pooled": _set(within_groups=False, batches="mixed"),
    "one_pass": _set(one_pass=True),
    "two_passes": _set(one_pass=False),
}


def named(name: str) -> Recipe:
    """The recipe of a name such as ``sample`` or ``paper+strict+shuffled_reports``.

    Raises:
        ValueError: A part of the name is unknown; lists the known ones.
    """
    base, *changes = name.split("+")
    if base not in RECIPES:
        raise ValueError(f"no recipe {base!r}; valid names: {', '.join(RECIPES)}")
    recipe = RECIPES[base]
    for change in changes:
        if change not in CHANGES:
            raise ValueError(
                f"no change {change!r} in {name!r}; valid after a +: {', '.join(CHANGES)}"
            )
        recipe = CHANGES[change](recipe)
    return replace(recipe, name=name)
