"""OPERA-CT: HTS-AT trained by contrasting two crops of a recording with those of others.

Source: Zhang et al., "Towards Open Respiratory Acoustic Foundation Models", 2024 (OPERA-CT). Takes
the published weights by renaming their keys; equal to the published features within 1e-6.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from acula_model.encoders.base import Weights
from acula_model.encoders.htsat import HtsAt, HtsAtConfig
from acula_model.front_end import FrontEnd, MelFrontEnd

_TOWER = "encoder.encoder.htsat."
# Published, and no feature needs them: signal front ends, a classifier, and attention masks that
# follow from the shape.
_UNUSED = (
    *(_TOWER + part for part in ("spectrogram_extractor.", "logmel_extractor.")),
    *(_TOWER + part for part in ("tscam_conv.", "head.")),
)
# Published name -> transformers', inside a block.
_BLOCK_PARTS = {
    ".norm1.": ".layernorm_before.",
    ".norm2.": ".layernorm_after.",
    ".attn.proj.": ".attention.output.dense.",
    ".attn.": ".attention.self.",
    ".mlp.fc1.": ".intermediate.dense.",
    ".mlp.fc2.": ".output.dense.",
}


class OperaCT(HtsAt):
    """HTS-AT with the keys of OPERA's files."""

    published = Weights(
        source="evelyn0414/OPERA: encoder-operaCT.ckpt",
        revision="d8de432",
        licence="MIT, as OPERA's repository says; trained in part on COVID-19 Sounds, whose data "
        "transfer agreement is separate",
    )

    def own_keys(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of OPERA files; see ``AudioEncoder``."""
        found: dict[str, Tensor] = {}
        for key, tensor in super().own_keys(state).items():
            if key.startswith(_UNUSED) or key.endswith(".attn_mask"):
                continue
            key = _own_key(key)
            if ".qkv." in key:  # transformers has three maps where the original has one
                for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    found[key.replace("qkv", part)] = rows
            else:
                found[key] = tensor
        return found


def _own_key(key: str) -> str:
    if not key.startswith(_TOWER):
        return key
    key = key.removeprefix(_TOWER)
    if ".blocks." in key:
        for published, ours in _BLOCK_PARTS.items():
            key = key.replace(published, ours)
    return "model.audio_encoder." + key.replace("bn0.", "batch_norm.")


def opera_ct(*, front_end: FrontEnd | Mapping[str, Any] | None = None, **config: Any) -> OperaCT:
    """The published OPERA-CT: 27.5 M parameters, 0.7 M in the head of its contrast, width 768.

    Args:
        front_end: How sound becomes its input; if not given, the windows of OPERA-GT, so that
            both share one cache. ``MelFrontEnd(profile="opera-whole", frames=251)`` is OPERA's
            evaluation: the whole recording, at least 8 s.
        config: Fields of ``HtsAtConfig`` that differ from the published ones;
            ``objective="distillation"`` keeps near the published features instead.
    """
    published: dict[str, Any] = {"objective": "two_crop"}
    sizes = HtsAtConfig(**published | config)
    return OperaCT("opera_ct", sizes, MelFrontEnd.given(front_end))
