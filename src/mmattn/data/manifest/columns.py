"""The columns of a manifest: their names and values.

Every function raises ValueError for wrong values; the reader of the manifest adds the place. None is an absent value.
"""

from __future__ import annotations

import ast
import difflib
import json
import math
import os
import re
import unicodedata
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from mmattn.data.manifest.cells import listed, split_cell
from mmattn.data.manifest.textfiles import check_text

# Common other names of our columns. Columns with any other name are the user's own and are ignored.
_MEANT = {
    "path": ("file", "filename", "file_name", "filepath", "file_path", "video", "video_path", "media"),
    "start": ("start_s", "start_time", "start_seconds", "begin"),
    "end": ("end_s", "end_time", "end_seconds", "stop"),
    "tags": ("tag", "label", "labels", "class", "classes", "category"),
    "captions": ("caption", "text", "sentence", "sentences"),
    "split": ("subset", "partition"),
}
_OFTEN_YOURS = ("offset", "size")  # so `sizes` is not a misspelling
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {  # common names of the splits, in lower case
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_CLOCK = re.compile(r"(?:(\d+):)?([0-5]?\d):([0-5]?\d(?:[.,]\d+)?)")  # 00:01:02.5, 1:02.5; SubRip has a comma


class LabelledSegment(NamedTuple):
    """A labelled part of the media; `start` and `end` in s of the file."""

    label: str
    start: float
    end: float


def renamed(names: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """Which of `names` are which of `columns`, ignoring case and surrounding spaces.

    Raises ValueError for a name that is nearly one of the columns, and for two names of one column; other names are the
    user's own.
    """
    found = {name: name for name in names if name in columns}
    if twice := [name for name in found if list(names).count(name) > 1]:
        raise ValueError(f"column {twice[0]!r} is there twice; rename one of them")
    for name in names:
        known = plain(name)
        if name in found or known not in columns or known in names:
            continue
        if known in found.values():
            other = next(each for each, column in found.items() if column == known)
            raise ValueError(f"columns {other!r} and {name!r} are both {known!r}; rename one of them")
        found[name] = known
    for name in names:
        meant = None if name in found else _meant(name, columns)
        if meant is not None and meant not in found.values():
            raise ValueError(f"column {name!r} is not read; did you mean {meant!r}?")
    return found


def plain(name: str) -> str:
    """The name without byte order mark, case and surrounding spaces."""
    return name.lstrip("\ufeff").strip().casefold()  # concatenated files have a second byte order mark


def _meant(name: str, columns: Sequence[str]) -> str | None:
    known = plain(name)
    for column, others in _MEANT.items():
        if known in others:
            return column
    ours = [column for column in columns if column not in _OFTEN_YOURS]
    near = difflib.get_close_matches(known, ours, n=1, cutoff=0.85) if len(known) > 3 else []
    return near[0] if near else None


def path_in(folder: Path, text: str) -> str:
    """The path in a cell: unchanged if that file exists below `folder`, else stripped and with / for backslashes.

    An accent may be written as the file's name or the cell has it, in one character or in two (macOS).
    Raises ValueError for an address, for an absolute Windows path, and for what no file can be called.
    """
    check_text(text, "path")
    ordinary = text == text.strip() and "\\" not in text and ":" not in text
    if (ordinary and text.isascii()) or os.path.lexists(folder / text):
        return text
    for form in ("NFC", "NFD") if ordinary else ():
        if os.path.lexists(folder / (other := unicodedata.normalize(form, text))):
            return other
    if ordinary:
        return text
    plain = text.strip()
    if os.sep == "/" and re.match(r"[A-Za-z]:[\\/]|\\\\", plain):
        raise ValueError(f"path {text!r} is a Windows path; write it relative to this file's folder, with /")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", plain):
        raise ValueError(f"path {text!r} is an address; download the file and write its path")
    return plain.replace("\\", "/") if os.path.lexists(folder / plain.replace("\\", "/")) or "\\" in plain else text


def split_name(value: Any) -> str | None:
    """One of SPLITS."""
    if value is None:
        return None
    split = SPLIT_NAMES.get(value.strip().casefold()) if isinstance(value, str) else None
    if split is None:
        raise ValueError(f"split {value!r} is none of {', '.join(SPLITS)}")
    return split


def seconds(value: Any, column: str) -> float:
    """Seconds from a number or a time as [hours:]minutes:seconds."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, str) and (clock := _CLOCK.fullmatch(value.strip())):
        hours, minutes, rest = clock.groups()
        return 3600.0 * int(hours or 0) + 60.0 * int(minutes) + float(rest.replace(",", "."))
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{column} {value!r} is not a number of seconds; write 62.5 or 00:01:02.5") from None
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{column} {value!r} is not a time of 0 s or later")
    return seconds


def byte_range(offset: Any, size: Any) -> tuple[int | None, int | None]:
    """The byte range of a member of a tar. Without an offset, a column `size` is the user's own."""
    if offset is None:
        return None, None
    if size is None:
        raise ValueError(
            "offset without size; a member of a tar needs both, a file neither; if the column is your own, rename it"
        )
    return _whole_bytes(offset, "offset", 0), _whole_bytes(size, "size", 1)


def _whole_bytes(value: Any, column: str, least: int) -> int:
    try:
        number = int(value)
        whole = not isinstance(value, bool) and number == float(value)
    except (TypeError, ValueError, OverflowError):
        number, whole = 0, False
    if not whole or number < least:
        raise ValueError(f"{column} {value!r} is not a whole number of bytes, {least} or more")
    return number


def label_of(text: str) -> str:
    """A label with its accents in one character each, so that what looks the same is one label."""
    return unicodedata.normalize("NFC", text)


def texts(value: Any, column: str, cell: bool = False) -> tuple[str, ...]:
    """A list of strings, or one string, which may be a written list (see cells).

    `cell`: from CSV, where semicolons separate the parts of a string.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        found = listed(value, column)
        value = found if found is not None else split_cell(value, column) if cell else [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{column} must be a list of strings or 'a; b' in CSV, found {value!r}")
    if not all(item.strip() for item in value):
        raise ValueError(f"{column} {value!r} holds an empty text; leave it out")
    for item in value:
        check_text(item, column)
    return tuple(map(label_of, value)) if column == "tags" else tuple(value)


def _literal(text: str) -> Any:
    """The value of a cell in JSON or Python syntax."""
    try:
        return json.loads(text)
    except ValueError:
        try:
            return ast.literal_eval(text.strip())
        except (SyntaxError, MemoryError, RecursionError):
            raise ValueError from None


def families(value: Any) -> dict[str, str]:
    """The family of each tag."""
    if value is None:
        return {}
    if isinstance(value, str):  # CSV holds it as JSON
        try:
            value = _literal(value)
        except ValueError:
            raise ValueError(f"families must be a JSON object of tag: family, found {value!r}") from None
    if isinstance(value, list) and all(isinstance(pair, tuple) for pair in value):  # as Parquet's maps read back
        value = dict(value)
    if not isinstance(value, dict):
        raise ValueError(f"families must be an object of tag: family, found {value!r}")
    return {label_of(str(tag)): str(family) for tag, family in value.items() if family is not None}


def scores_of(value: Any, tags: tuple[str, ...]) -> dict[str, float]:
    """The scores of some of `tags`, each in [0, 1]."""
    if value is None:
        return {}
    try:
        found = dict(_literal(value) if isinstance(value, str) else value)  # CSV holds JSON, Parquet a map
        scores = {label_of(str(tag)): float(score) for tag, score in found.items() if score is not None}
    except (TypeError, ValueError):
        raise ValueError(f"tag_scores must be an object of tag: score, found {value!r}") from None
    if wrong := [f"{tag}: {score}" for tag, score in scores.items() if not 0 <= score <= 1]:
        raise ValueError(f"tag_scores has {wrong[0]}, expected 0 to 1")
    if other := [tag for tag in scores if tag not in tags]:
        raise ValueError(f"tag_scores has {other[0]!r}, which is not among the tags")
    return scores


def segments(value: Any) -> tuple[LabelledSegment, ...]:
    """The labelled segments."""
    if value is None:
        return ()
    try:
        found = _literal(value) if isinstance(value, str) else value  # CSV holds it as JSON
        found = [list(part.values()) if isinstance(part, dict) else part for part in found]  # Parquet has structs
        segments = tuple(
            LabelledSegment(label_of(name), seconds(start, "start"), seconds(end, "end")) for name, start, end in found
        )
        if not all(part.start <= part.end for part in segments):
            raise ValueError
    except (TypeError, ValueError, KeyError, AttributeError):
        raise ValueError(f"segments must be a list of [label, start s, end s], found {value!r}") from None
    return segments
