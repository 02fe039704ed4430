"""Untrusted text (names, tags, captions), made safe to display and store; and small texts for messages."""

from __future__ import annotations

import unicodedata

_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")
_FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\u2212",
)  # a spreadsheet reads these as the start of a formula; the last is a minus sign


def clean(text: str) -> str:
    """Text that is valid UTF-8 and displays as it is.

    Control characters, lone surrogates (bytes of a file name that are not UTF-8) and marks that change the writing
    direction become visible escapes.
    """
    return "".join(_escaped(c) if _hidden(c) else c for c in text)


def utf8(text: str) -> str:
    """Text that is valid UTF-8: lone surrogates become visible escapes, everything else stays."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str) -> str:
    """As `utf8`, with blanks for line breaks of every kind and without other control characters.

    Marks that change the writing direction stay: Arabic and Hebrew need them.
    """
    spaced = " ".join(text.split())  # splits at \n \r \v \f \x1c-\x1e \x85 and Unicode's separators too
    return utf8("".join(c for c in spaced if unicodedata.category(c) != "Cc"))


def cell(text: str) -> str:
    """Text for a cell of a CSV: no control characters except line feeds, and never a formula.

    A text that a spreadsheet would read as a formula gets a ' before it. Spreadsheets skip blanks and invisible marks,
    and read full-width signs as the plain ones.
    """
    shown = "".join(_escaped(c) if unicodedata.category(c) in ("Cc", "Cs") and c != "\n" else c for c in text)
    first = next((c for c in text if unicodedata.category(c)[0] not in "CZ"), "")
    is_formula = text[:1] in ("\t", "\r", "\n") or unicodedata.normalize("NFKC", first)[:1] in _FORMULA
    return f"'{shown}" if text and is_formula else shown


def counted(count: int, what: str) -> str:
    """1 file, 2 files; 1 batch, 2 batches; 1 held-out clip."""
    ending = "es" if what.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{count} {what}{'' if count == 1 else ending}"


def clock(seconds: float) -> str:
    """A duration in its two largest units: 45 s, 1 min 25 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in _TURNING


def _escaped(character: str) -> str:
    if ord(character) < 128:
        return f"\\x{ord(character):02x}"
    return character.encode("ascii", "backslashreplace").decode()
