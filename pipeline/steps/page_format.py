"""Numbers -> text, as filters of the page's templates."""

from typing import Any


def three(value: float) -> str:
    """Three decimals, with a minus sign that is one."""
    text = f"{value:.3f}"
    return text.replace("-", "\u2212") if float(text) else "0.000"


def signed(value: float) -> str:
    """Three decimals with a sign, unless it is zero."""
    return f"+{text}" if (text := three(value))[0] != "\u2212" and float(text) else text


def many(count: int, noun: str, plural: str = "") -> str:
    """``1 person``, ``2 persons``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def chance(p: float) -> str:
    """A p value: two digits, and none below what resampling can tell."""
    return "under 0.001" if p < 0.001 else f"{p:.2g}"


def short(value: Any) -> str:
    """A JSON value in a table: whole numbers and words as they are."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return three(value) if isinstance(value, float) else str(value)


FILTERS = {"three": three, "signed": signed, "many": many, "chance": chance, "short": short}
