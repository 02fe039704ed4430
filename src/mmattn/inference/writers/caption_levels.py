"""Which captions of a record stand beside each other in time, where a writer can show one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HIGHER = ("chapter", "summary")  # levels that are about what other captions are about


def side_by_side(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those of the finest level that there is: of shots or windows, else chapters, else the summary."""
    captions = record.get("captions") or []
    finest = min((_depth(each) for each in captions), default=0)
    return [each for each in captions if _depth(each) == finest]


def _depth(caption: Mapping[str, Any]) -> int:
    level = caption.get("level")
    return 1 + _HIGHER.index(level) if level in _HIGHER else 0
