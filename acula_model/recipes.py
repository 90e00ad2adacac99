"""Named training runs: a run is a frozen value, an experiment is a changed copy of another.

Light on purpose (no torch): settings are checked against the names here.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training run does.

    Attributes:
        encoder: Name in ``acula_model.encoders``; ``encoder_config`` overrides its sizes.
        weights: Checkpoint folder or file to start from, or its Hub id (with ``@commit``, or a
            later run may start from other weights); None starts from a random encoder.
        teacher: Name in ``acula_model.teachers``; ``teacher_config`` goes to it.
        regime: ``disjoint`` aligns with full reports of persons outside every test;
            ``strict`` also leaves out the label findings of all tasks.
        alignment_loss: Name in ``acula_model.losses``.
        alignment_weight: Factor of the alignment loss; 0 trains by masked modelling alone.
        masked_weight: Factor of the masked-spectrogram loss.
        one_pass: Align the embedding of the masked pass instead of a clean second pass.
        projection: Hidden and output width of the projection heads.
        text_head: ``mlp`` like the sound's, ``linear``, or ``none``: the teacher's geometry itself.
        epochs: Passes over the alignment pairs.
        batch_size: Pairs per step; all of one group (dataset and modality), so that the
            alignment loss cannot win by telling datasets apart.
        learning_rate: Peak of AdamW after ``warmup`` (share of all steps), then cosine decay.
        clip_norm: Largest gradient norm.
        shuffle_reports: Control: pairs every sound with another report of its group.
        seed: Of initialisation, order, windows and masks.
    """

    name: str
    encoder: str
    encoder_config: dict[str, Any] = field(default_factory=dict[str, Any])
    weights: str | None = None
    teacher: str
    teacher_config: dict[str, Any] = field(default_factory=dict[str, Any])
    regime: Literal["disjoint", "strict"] = "disjoint"
    alignment_loss: str = "cka_debiased"
    alignment_weight: float = 1.0
    masked_weight: float = 1.0
    one_pass: bool = False
    projection: tuple[int, int] = (256, 128)
    text_head: Literal["mlp", "linear", "none"] = "mlp"
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip_norm: float = 1.0
    shuffle_reports: bool = False
    seed: int = 0

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
DEMO = Recipe(
    name="demo",
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

# Encoder, teacher, heads, epochs and rate of the published release (its model card); larger
# batches, since debiased CKA of 24 pairs is noise. Needs a GPU, the published encoder at
# ``weights``, and a Hugging Face login that has accepted MedGemma's terms.
PAPER = Recipe(
    name="paper",
    encoder="opera_gt",
    weights="weights/encoder-operaGT.ckpt",
    teacher="hugging_face",
    teacher_config={
        "model": "google/medgemma-4b-pt",
        "layer": -1,
        "max_tokens": 256,
        "dtype": "bfloat16",
    },
    projection=(1024, 512),
    epochs=50,
    batch_size=128,
    learning_rate=1e-5,
)

RECIPES = {r.name: r for r in (DEMO, PAPER)}
