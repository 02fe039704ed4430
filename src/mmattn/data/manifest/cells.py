"""Text that represents a list: `a; b` in a cell of CSV, and lists as JSON, Python, pandas or numpy write them.

Every function raises ValueError saying what is wrong and what to write.
"""

from __future__ import annotations

import ast
import json
import re
from html.entities import html5

_STRING = r"""[uU]?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_ITEM = re.compile(rf"(?:(?:np|numpy)\.str_\(\s*(?P<inner>{_STRING})\s*\)|(?P<plain>{_STRING}))", re.DOTALL)
_BETWEEN = re.compile(r"\s*,?\s*")
# array(['cat', 'pet'], dtype=object), frozenset({'cat'}), <StringArray> ['cat'] Length: 1, dtype: string
_WRAPPED = re.compile(
    r"\s*(?:<\w+>\s*|(?:(?:np|numpy|pd)\.)?\w+\(\s*)?"
    r"(?P<list>\[.*\]|\(.*\)|\{.*\})"
    r"(?:\s*,\s*dtype=[^()]*|\s*Length: \d+, dtype: \w+)?\s*\)?\s*",
    re.DOTALL,
)
_OPENS_A_LIST = re.compile(r"""\s*[\[({]\s*(?:[uUbB]?['"]|(?:np|numpy)\.)|\s*(?:array|frozenset|set)\(\s*[\[({]""")
_ABSENT = frozenset(("nan", "NaN", "<NA>", "NaT", "#N/A"))

# `;` is no separator inside an HTML entity, nor inside quotes that open and close at the edges of words.
_KEPT = re.compile(
    r"""&(?P<entity>\#\d+|\#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);"""
    r"""|(?<![^\s;,(\[])"[^"]*"(?!\w)|“[^”]*”|„[^“”]*[“”]|«[^»]*»"""
    r"""|(?<![^\s;,(\[])'(?:[^']|'(?=\w))*'(?!\w)"""
    r"""|(?P<separator>;)"""
)


def listed(text: str, column: str) -> list[str] | None:
    """The strings of a written list; None for other text. Raises ValueError for a list that cannot be read."""
    if not text or (text.lstrip()[:1] not in ("[", "(", "{", "'", '"', "<") and not _OPENS_A_LIST.match(text)):
        return None
    try:
        found = json.loads(text)
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            return found
    except ValueError:
        pass  # not JSON; it may still be Python's or numpy's
    wrapped = _WRAPPED.fullmatch(text)
    if wrapped is not None and (strings := _strings(wrapped["list"][1:-1])) is not None:
        # In a sentence, ("yes") is not a list.
        if wrapped["list"][0] in "[{" or len(strings) > 1 or "," in wrapped["list"]:
            return strings
    elif wrapped is None and column == "tags" and len(strings := _strings(text) or []) > 1:
        return strings  # 'cat', 'pet'
    brackets = column == "tags" and text.lstrip()[0] in "[{"
    if brackets or (_OPENS_A_LIST.match(text) and text.lstrip()[0] != "("):
        raise ValueError(f'{column} {_shown(text)} is a list that cannot be read; write ["cat", "pet"], or cat; pet')
    return None


def _strings(inner: str) -> list[str] | None:
    """The string literals in `inner`, separated by commas (Python) or spaces (numpy); None for anything else."""
    found, at = [], len(inner) - len(inner.lstrip())
    while at < len(inner):
        item = _ITEM.match(inner, at)
        if item is None:
            return None
        try:
            found.append(ast.literal_eval(item["inner"] or item["plain"]))
        except (SyntaxError, ValueError):
            return None
        between = _BETWEEN.match(inner, item.end())
        at = item.end() if between is None else between.end()
    return found


def split_cell(text: str, column: str) -> list[str]:
    """The parts of `a; b`. Raises ValueError for a cell without any, and for an absent value such as NaN."""
    if text.strip() in _ABSENT:
        meant = f'["{text.strip()}"]'
        raise ValueError(
            f"{column} {text.strip()!r} is how tables write an absent value; leave the cell empty, or write {meant}"
        )
    parts, start = [], 0
    for match in _KEPT.finditer(text):
        if match["entity"] is not None and not _is_entity(match["entity"]):
            cut = match.end() - 1  # a `;` after some other word with an ampersand: "R&D; sales"
        elif match["separator"] is not None:
            cut = match.start()
        else:
            continue
        parts.append(text[start:cut])
        start = cut + 1
    parts = [part.strip() for part in (*parts, text[start:]) if part.strip()]
    if not parts and text.strip():
        raise ValueError(f"{column} {_shown(text)} has only separators; leave the cell empty")
    return parts


def _is_entity(name: str) -> bool:
    return name.startswith("#") or f"{name};" in html5


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
