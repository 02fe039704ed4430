"""Read annotation files: every error is a UsageError with the file and the line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmattn.data.manifest.tables import separator_of
from mmattn.data.manifest.textfiles import opened_text
from mmattn.errors import UsageError
from mmattn.text import counted


@dataclass(frozen=True, slots=True)
class Line:
    """The cells of one line, and its place."""

    cells: list[str]
    file: Path
    number: int

    @property
    def where(self) -> str:
        """The place, for messages."""
        return f"{self.file}, line {self.number}"

    def fault(self, text: str) -> UsageError:
        """The error for this line."""
        return UsageError(f"{self.where}: {text}")

    def seconds(self, column: int) -> float:
        """The cell as a time, s. Raises UsageError."""
        return seconds(self.cells[column], self.where)

    def name(self, column: int) -> str:
        """The cell as an id. Raises UsageError."""
        return plain_name(self.cells[column], self.where)


def csv_lines(path: Path, columns: Sequence[str], header: bool, comment: str | None = None) -> Iterator[Line]:
    """The lines of a CSV file of `columns`; with a `header` it may have more columns, in any order.

    The header also shows the separator: some copies have semicolons. Lines that begin with `comment` are skipped.
    """
    order = list(range(len(columns)))
    width = len(columns)
    delimiter = separator_of(_first_line(path), columns) if header else ","
    with opened_text(path, newline="") as file:
        reader = csv.reader(_without_comments(file, comment), delimiter=delimiter, skipinitialspace=True, strict=True)
        try:
            for cells in reader:
                # A comment is an empty line here, so that line numbers stay right.
                if not any(cell.strip() for cell in cells):
                    continue
                line = Line(cells, path, reader.line_num)
                if header:
                    header, width, order = False, len(cells), _order(line, columns)
                    continue
                if len(cells) != width:
                    raise line.fault(f"{counted(len(cells), 'cell')}, expected {width}: {', '.join(columns)}")
                yield Line([cells[place].strip() for place in order], path, reader.line_num)
        except csv.Error as error:
            raise UsageError(f"{path}, line {reader.line_num}: {error}") from None


def csv_names(path: Path) -> list[str]:
    """The names in a CSV file's header, in lower case."""
    head = _first_line(path)
    names = next(csv.reader([head], delimiter=separator_of(head, ())), [])
    return [name.strip().lower() for name in names]


def _first_line(path: Path) -> str:
    with opened_text(path) as file:
        return file.readline(1 << 16)


def _order(header: Line, columns: Sequence[str]) -> list[int]:
    names = [cell.strip().lower() for cell in header.cells]
    if absent := [column for column in columns if column not in names]:
        raise header.fault(f"no column {absent[0]!r}; found {', '.join(names)}")
    return [names.index(column) for column in columns]


def _without_comments(lines: Iterator[str], comment: str | None) -> Iterator[str]:
    for line in lines:
        yield "\n" if comment is not None and line.startswith(comment) else line


def text_lines(path: Path, separator: str | None, width: int) -> Iterator[Line]:
    """The lines of a text file, split into `width` cells at `separator` (None: any blanks)."""
    with opened_text(path) as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            line = Line([cell.strip() for cell in text.strip().split(separator)], path, number)
            if len(line.cells) != width:
                raise line.fault(f"{counted(len(line.cells), 'part')}, expected {width}: {text.strip()[:80]!r}")
            yield line


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises UsageError."""
    with opened_text(path) as file:
        try:
            return json.load(file)
        except json.JSONDecodeError as error:
            raise UsageError(f"{path}, line {error.lineno}: not JSON ({error.msg} at column {error.colno})") from None


def entries(value: Any, where: str, **kinds: type | tuple[type, ...]) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects of a JSON list, each with its place; each must have the keys of `kinds` with these types."""
    if not isinstance(value, list):
        raise UsageError(f"{where}: expected a list, found {type(value).__name__}")
    for number, entry in enumerate(value, start=1):
        place = f"{where}, entry {number}"
        if not isinstance(entry, dict):
            raise UsageError(f"{place}: expected an object, found {type(entry).__name__}")
        for key, kind in kinds.items():
            if not isinstance(entry.get(key), kind) or isinstance(entry.get(key), bool):
                raise UsageError(f"{place}: {key} is {entry.get(key)!r}; found keys {', '.join(map(str, entry))}")
        yield entry, place


def seconds(text: str, where: str) -> float:
    """A time from 0, s. Raises UsageError."""
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{where}: {text!r} is not a number of seconds") from None
    if not 0 <= value < float("inf"):
        raise UsageError(f"{where}: {text!r} is not a time of 0 s or later")
    return value


def plain_name(text: str, where: str) -> str:
    """An id that may be part of a file's name. Raises UsageError for one that would be a path."""
    if not text or len(text) > 200 or text in (".", "..") or re.search(r"[/\\\x00-\x1f]", text):
        raise UsageError(f"{where}: {text!r} is not a valid id: it is empty, too long, or a path")
    return text
