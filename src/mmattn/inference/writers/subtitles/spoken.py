"""Splits a transcript into timed tokens, the units that lines can be broken between."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmattn.text import one_line

LINE = 42  # columns of a line of subtitles
_JOINER, _SKIN_TONES = "\u200d", frozenset(map(chr, range(0x1F3FB, 0x1F400)))


@dataclass(frozen=True)
class Token:
    """`text` without spaces, spoken from `start` to `end` ms. `space`: whether a space is before it."""

    start: int
    end: int
    text: str
    space: bool


def columns(text: str) -> int:
    """The width of a text in columns; a character of Chinese, Japanese or Korean has two."""
    return sum(1 + is_wide(c) for c in text)


def is_wide(character: str) -> bool:
    """Whether a character has two columns."""
    return unicodedata.east_asian_width(character) in "WF"


def tokens_of(transcript: Sequence[dict[str, Any]]) -> list[Token]:
    """The tokens of a transcript in time order. No token is wider than a line."""
    found: list[Token] = []
    for utterance in sorted(transcript, key=lambda each: (each["start"], each["end"])):
        for token in _joined(_pieces(utterance)):
            start = max(token.start, found[-1].start if found else 0)
            found.append(replace(token, start=start, end=max(token.end, start)))
    return found


def _pieces(utterance: dict[str, Any]) -> Iterator[Token]:
    """Words and parts of words. The text of the utterance decides where spaces are."""
    text = one_line(utterance["text"])
    words = [(each["start"], each["end"], one_line(each["word"])) for each in utterance.get("words") or []]
    words = [each for each in words if each[2]] or [(utterance["start"], utterance["end"], text)]
    at, first = 0, True
    for start, end, word in words:
        place = text.find(word, at)
        space = first or place < 0 or text[at:place].strip() != "" or " " in text[at:place]
        at = at if place < 0 else place + len(word)
        yield from _split(Token(_ms(start), max(_ms(start), _ms(end)), word, space))
        first = False


def _split(token: Token) -> Iterator[Token]:
    """Split at spaces, between wide characters, and at the width of a line. Each part gets its share of the time."""
    parts: list[tuple[str, bool]] = []
    for k, word in enumerate(token.text.split()):
        space = token.space if k == 0 else True
        part = ""
        for character in _characters(word):
            if part and (_may_break(part[-1], character[0]) or columns(part + character) > LINE):
                parts.append((part, space))
                part, space = "", False
            part += character
        parts.append((part, space))
    letters = sum(len(part) for part, _ in parts)
    count, duration = 0, token.end - token.start
    for part, space in parts:
        start = token.start + duration * count // letters
        count += len(part)
        yield Token(start, token.start + duration * count // letters, part, space)


def _characters(word: str) -> list[str]:
    """The characters of a word as readers see them: with their accents and vowel signs, and emoji joined to one.

    None is wider than a line.
    """
    found: list[str] = []
    for point in word:
        belongs = unicodedata.category(point)[0] == "M" or point == _JOINER or point in _SKIN_TONES
        is_one = bool(found) and (belongs or found[-1][-1] == _JOINER) and columns(found[-1] + point) <= LINE
        if is_one:
            found[-1] += point
        else:
            found.append(point)
    return found


def _joined(pieces: Iterable[Token]) -> Iterator[Token]:
    """Join parts that a line must not break between: a word and its comma, 'do' and "n't"."""
    before: Token | None = None
    for piece in pieces:
        if before is None:
            before = piece
            continue
        together = before.text + piece.text
        if piece.space or _may_break(before.text[-1], piece.text[0]) or columns(together) > LINE:
            yield before
            before = piece
        else:
            before = replace(before, end=max(before.end, piece.end), text=together)
    if before is not None:
        yield before


def _may_break(before: str, after: str) -> bool:
    """Whether a line may break between two characters without a space: next to wide ones, but not inside brackets."""
    closes = unicodedata.category(after) in ("Po", "Pe", "Pf")
    return (is_wide(before) or is_wide(after)) and not closes and unicodedata.category(before) not in ("Ps", "Pi")


def _ms(seconds: float) -> int:
    return max(0, round(1000 * seconds))
