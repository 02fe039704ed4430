"""Selects the captions of a record that follow each other in time, for formats that show one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HIGHER = ("chapter", "summary")  # levels that repeat what other captions describe


def side_by_side(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The captions of the finest level of a record: shots or windows, else chapters, else the summary."""
    captions = record.get("captions") or []
    finest = min((_depth(each) for each in captions), default=0)
    return [each for each in captions if _depth(each) == finest]


def _depth(caption: Mapping[str, Any]) -> int:
    level = caption.get("level")
    return 1 + _HIGHER.index(level) if level in _HIGHER else 0
