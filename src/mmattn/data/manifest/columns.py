"""The columns of a manifest: what they are called, and what their values may be.

Every function raises ValueError saying what is wrong; the reader of the manifest adds where. None is an absent value.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

# What others call a column that has one name here. Columns of any other name are the user's own and left alone.
_MEANT = {
    "path": ("file", "filename", "file_name", "filepath", "file_path", "video", "video_path", "media"),
    "start": ("start_s", "start_time", "start_seconds", "begin"),
    "end": ("end_s", "end_time", "end_seconds", "stop"),
    "tags": ("tag", "label", "labels", "class", "classes", "category"),
    "captions": ("caption", "text", "sentence", "sentences"),
    "split": ("subset", "partition"),
}


class Segment(NamedTuple):
    """A part of the media and what happens or is said in it; `start` and `end` in seconds of the file."""

    label: str
    start: float
    end: float


def check_names(names: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse a name that is meant to be one of `columns` and is not quite; names unlike them all are the user's."""
    for name in names:
        meant = None if name in columns else _meant(name, columns)
        if meant is not None and meant not in names:
            raise ValueError(f"column {name!r} is not read; did you mean {meant!r}?")


def _meant(name: str, columns: Sequence[str]) -> str | None:
    plain = name.strip().casefold()
    if plain in columns:
        return plain
    for column, others in _MEANT.items():
        if plain in others:
            return column
    near = difflib.get_close_matches(plain, columns, n=1, cutoff=0.85) if len(plain) > 3 else []
    return near[0] if near else None


def seconds(value: Any, column: str) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{column} {value!r} is not a number of seconds") from None
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{column} {value!r} is not a time from 0 s on")
    return seconds


def whole_bytes(value: Any, column: str, least: int) -> int | None:
    if value is None:
        return None
    try:
        number = int(value)
        whole = not isinstance(value, bool) and number == float(value)
    except (TypeError, ValueError, OverflowError):
        number, whole = 0, False
    if not whole or number < least:
        raise ValueError(f"{column} {value!r} is not a whole number of bytes from {least} on")
    return number


def texts(value: Any, column: str) -> tuple[str, ...]:
    """A list of strings, or one string of parts separated by semicolons (as in CSV)."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = [part.strip() for part in value.split(";") if part.strip()]
    if not isinstance(value, list):
        raise ValueError(f"{column} must be a list of strings or 'a; b', found {value!r}")
    for item in value:
        if not isinstance(item, str):
            raise ValueError(f"{column} must be a list of strings or 'a; b', found {value!r}")
    return tuple(value)


def families(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, str):  # CSV holds it as JSON
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise ValueError(f"families must be a JSON object of tag: family, found {value!r}") from None
    if isinstance(value, list) and all(isinstance(pair, tuple) for pair in value):  # as Parquet's maps read back
        value = dict(value)
    if not isinstance(value, dict):
        raise ValueError(f"families must be an object of tag: family, found {value!r}")
    return {str(tag): str(family) for tag, family in value.items() if family is not None}


def segments(value: Any) -> tuple[Segment, ...]:
    if value is None:
        return ()
    try:
        found = json.loads(value) if isinstance(value, str) else value  # CSV holds it as JSON
        found = [list(part.values()) if isinstance(part, dict) else part for part in found]  # Parquet has structs
        segments = tuple(Segment(label, float(start), float(end)) for label, start, end in found)
        if not all(isinstance(part.label, str) and 0 <= part.start <= part.end < float("inf") for part in segments):
            raise ValueError
    except (TypeError, ValueError, KeyError):
        raise ValueError(f"segments must be a list of [label, start s, end s], found {value!r}") from None
    return segments
