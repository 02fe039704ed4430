"""Read text files in UTF-8, or UTF-16 as Excel and PowerShell write it, with or without a byte order mark."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from mmattn.errors import UsageError

_MARKS = (  # UTF-32's little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HEAD = 4096  # bytes from which the encoding is found


def encoding_of(head: bytes) -> str:
    """The encoding by the byte order mark, else by the zero bytes of Latin letters in UTF-16; else UTF-8.

    In UTF-16 the end of a line has a zero byte too, on the same side as the others; a stray zero byte proves nothing.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    before, after = head[::2].count(0), head[1::2].count(0)
    little = after > before
    ends = [b for b in (b"\n", b"\r") if b in head]
    wide = all((b + b"\0" if little else b"\0" + b) in head for b in ends)
    if not before + after or not wide or 64 * max(before, after) < len(head):
        return "utf-8"
    return "utf-16-le" if little else "utf-16-be"


@contextmanager
def opened_text(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """The file as text. Raises UsageError, with the line, for bytes that are not text, and for unreadable files."""
    encoding = "utf-8"
    try:
        with path.open("rb") as file:
            encoding = encoding_of(file.read(_HEAD))
        with path.open(encoding=encoding, newline=newline) as file:
            yield file
    except UnicodeError:
        raise UsageError(
            f"{path}{_first_bad_line(path, encoding)}: not text in {_name(encoding)}; save it as UTF-8"
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None


def text_lines_of(path: Path) -> list[str]:
    """The lines of a small file, without their ends. Raises UsageError as `opened_text` does."""
    with opened_text(path) as file:
        return file.read().split("\n")


def path_lines(data: bytes) -> list[str]:
    """The lines of a list of paths, whose names may not be UTF-8: such bytes become surrogates as in Python.

    A carriage return ends a line only with a line feed, or where there is none in the file: names may hold it.
    """
    encoding = encoding_of(data[:_HEAD])
    text = data.decode(encoding, "surrogateescape" if encoding.startswith("utf-8") else "replace")
    return [line.removesuffix("\r") for line in text.split("\n")] if "\n" in text else text.split("\r")


def check_text(text: str, column: str) -> None:
    """Raise ValueError for text that cannot be written: with a zero byte, or half a character (from JSON)."""
    if "\0" in text:
        raise ValueError(f"{column} {text!r} holds a zero byte; remove it")
    if not text.isascii():
        try:
            text.encode("utf-8", "surrogateescape")  # which names of files may hold
        except UnicodeEncodeError:
            raise ValueError(f"{column} {text!r} holds half a character; write it whole") from None


def _first_bad_line(path: Path, encoding: str) -> str:
    if not encoding.startswith("utf-8"):
        return ""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeError:
                return f", line {number}"
    return ""


def _name(encoding: str) -> str:
    return "-".join(encoding.upper().split("-")[:2])
