"""Candidate names -> the persons of a sample, spread evenly over train, validation and test."""

from collections.abc import Sequence

from pipeline.records import unit_hash


def size(full: int, scale: float) -> int:
    """Number of persons at a scale; a dozen at least, so that each side has some."""
    return max(12, round(full * scale))


def spread(prefix: str, names: Sequence[str], count: int) -> list[str]:
    """``count`` of ``names``, evenly along the hash that decides splits and in its order.

    A dozen persons drawn at random would often leave validation empty or with one class. In
    this order, classes dealt in turn are present in every stretch of the hash.

    Args:
        prefix: What stands before the name in a person's id, as in ``icbhi/``.
    """
    ordered = sorted(names, key=lambda name: unit_hash(f"split:{prefix}{name}"))
    return [ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count)]
