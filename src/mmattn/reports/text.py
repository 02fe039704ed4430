"""Numbers and names as a page shows them."""

from __future__ import annotations

from typing import Any

from mmattn.text import clean as clean

NOTHING = "\u2013"


def finalize(value: Any) -> Any:
    """For jinja2: everything a template prints goes through `clean`; None prints as a dash."""
    if value is None:
        return NOTHING
    if hasattr(value, "__html__"):
        return value
    return clean(str(value))


def fixed(value: float | None, digits: int = 3) -> str:
    """A score."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    """A contribution, with a real minus sign; what rounds to zero has no sign."""
    if value is None:
        return NOTHING
    if not float(f"{value:.{digits}f}"):
        return f"{0:.{digits}f}"
    return f"{value:+.{digits}f}".replace("-", "\u2212")


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.0f}\u202f%"


def listing(names: list[str]) -> str:
    """a, b and c"""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
