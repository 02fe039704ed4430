"""Numbers and names as a page shows them."""

from __future__ import annotations

import unicodedata
from typing import Any

NOTHING = "\u2013"
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")


def clean(text: str) -> str:
    """Text that UTF-8 can hold and that shows as it is: control characters, lone surrogates (bytes of a file name that
    are no UTF-8) and marks that turn the writing direction become visible escapes."""
    return "".join(_escaped(c) if _hidden(c) else c for c in text)


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


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in _TURNING


def _escaped(character: str) -> str:
    if ord(character) < 128:
        return f"\\x{ord(character):02x}"
    return character.encode("ascii", "backslashreplace").decode()
