"""Reads the windows of a file up to the first one that fails."""

from __future__ import annotations

from collections.abc import Iterator

from mmattn.errors import MediaError
from mmattn.types import Clip


def until_error(windows: Iterator[Clip], issues: set[str]) -> Iterator[tuple[Clip, bool]]:
    """Yield each window that could be read, and whether it is the last.

    Raises the error of the first window. An error of a later one ends the file and is added to `issues`.
    """
    before = next(windows)
    try:
        for clip in windows:
            yield before, False
            before = clip
    except MediaError as error:
        issues.add(f"span_{error.reason}")
    yield before, True
