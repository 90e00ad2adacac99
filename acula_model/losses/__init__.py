"""Alignment losses: how far the geometry of sounds is from the geometry of their reports.

A loss is a small module, so what it learns (a temperature) is saved with the model. It takes
``(audio_ND, text_NE, group_N=None, finding_N=None)`` and returns a scalar that is low when the
two sides agree. Groups are datasets or recording kinds: over pooled datasets a loss is mostly
won by telling the datasets apart, so with groups only pairs of clips of one group are compared.

``release_cov`` does not depend on which report belongs to which sound. It is here to reproduce
the release and for nothing else.
"""

from acula_model.losses.base import AlignmentLoss
from acula_model.losses.cka import CKA, DebiasedCKA, debiased_cka
from acula_model.losses.contrastive import InfoNCE, Sigmoid
from acula_model.losses.release import ReleaseCov

__all__ = ["LOSSES", "AlignmentLoss", "build", "debiased_cka"]

LOSSES: dict[str, type[AlignmentLoss]] = {
    "cka_debiased": DebiasedCKA,
    "cka": CKA,
    "infonce": InfoNCE,
    "sigmoid": Sigmoid,
    "release_cov": ReleaseCov,
}


def build(name: str) -> AlignmentLoss:
    """A new loss of that name, its parameters as its authors start them.

    Raises:
        ValueError: Unknown name; the message lists the known ones.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown alignment loss {name!r}; known: {', '.join(sorted(LOSSES))}")
    return LOSSES[name]()
