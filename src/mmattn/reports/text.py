"""Numbers and names as a page shows them."""

from __future__ import annotations

from typing import Any

from mmattn import text
from mmattn.text import clean as clean

NOTHING = "\u2013"


def finalize(value: Any) -> Any:
    """The finalize hook of jinja2: everything a template prints goes through `clean`; None prints as a dash."""
    if value is None:
        return NOTHING
    return value if hasattr(value, "__html__") else clean(str(value))


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
    """A share as a whole number of per cent."""
    return NOTHING if value is None else f"{100 * value:.0f}\u202f%"


def listing(names: list[str]) -> str:
    """Names in a sentence, as in: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def some(names: list[str], most: int = 3) -> str:
    """As `listing`; of many names the first, as in: a, b, c and 7 more."""
    return listing(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"


def short(value: float) -> str:
    """A quantity in three digits or more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size(count: float | None) -> str:
    """Bytes in units of 1000."""
    if count is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count} B"
        count /= 1000
    return f"{count:.3g} TB"


def clock(seconds: float | None) -> str:
    """A length of time; below a minute with its fraction."""
    if seconds is None:
        return NOTHING
    return f"{seconds:.3g} s" if seconds < 60 else text.clock(seconds)
