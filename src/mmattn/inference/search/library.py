"""Reads a library, the JSONL output of mmattn predict, record by record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.inference.records.result import Result
from mmattn.text import clean


@dataclass(frozen=True)
class Passage:
    """A text of a file with its times in s, None if they are not known. `kind`: transcript, caption, tag or text."""

    kind: str
    text: str
    start: float | None = None
    end: float | None = None


def library_path(name: object) -> Path:
    """The path of a library. Raises UsageError if there is no such file."""
    path = expanded(str(name))
    if not path.is_file():
        raise UsageError(f"{clean(str(name))}: no such file; name the .jsonl that mmattn predict wrote")
    return path


def read_library(path: Path) -> Iterator[Result]:
    """Yield the results in order. Raises UsageError with the number of a line that is no record."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                result = Result.from_dict(json.loads(line))
                _check_times(result)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                raise UsageError(
                    f"{clean(str(path))}:{number}: is not a record of mmattn predict; write one with format=jsonl"
                ) from None
            yield result


def passages(result: Result) -> Iterator[Passage]:
    """The texts of a file: transcript, captions, text in the video, and tags."""
    for each in result.transcript:
        yield Passage("transcript", each.text, each.start, each.end)
    for each in result.captions:
        yield Passage("caption", each.text, each.start, each.end)
    for each in result.texts:
        yield Passage("text", each.text, each.start, each.end)
    for tag in result.tags:
        for start, end in tag.segments or [(None, None)]:
            yield Passage("tag", tag.tag, start, end)


def _check_times(result: Result) -> None:
    """Raise TypeError for values that the index cannot hold."""
    names = [result.path, result.id or "", *(passage.text for passage in passages(result))]
    times = [time for passage in passages(result) for time in (passage.start, passage.end) if time is not None]
    if not all(isinstance(name, str) for name in names) or not all(isinstance(time, (int, float)) for time in times):
        raise TypeError
