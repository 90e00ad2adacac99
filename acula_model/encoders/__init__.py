"""Audio encoders by name. A name costs nothing until it is built: entries are lazy strings."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acula_model.encoders.base import AudioEncoder

# name -> module:function; the function takes the encoder's settings as keywords.
ENCODERS = {
    "ast": "acula_model.encoders.ast:ast",
    "clap": "acula_model.encoders.clap:clap",
    "opera_ce": "acula_model.encoders.opera_ce:opera_ce",
    "opera_ct": "acula_model.encoders.opera_ct:opera_ct",
    "opera_gt": "acula_model.encoders.opera_gt:opera_gt",
    "opera_gt_small": "acula_model.encoders.opera_gt:opera_gt_small",
}


def build(name: str, **config: Any) -> "AudioEncoder":
    """Build an encoder with random weights (torch's global generator).

    Args:
        name: One of ``ENCODERS``.
        config: Settings that differ from the encoder's own; ``encoder.config`` lists them all.

    Raises:
        ValueError: Unknown name; the message lists the known ones.
        TypeError: A setting that the encoder does not have.
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}; known: {', '.join(sorted(ENCODERS))}")
    module, function = ENCODERS[name].split(":")
    return getattr(importlib.import_module(module), function)(**config)
