"""Which of the words that tesseract is sure of are text."""

from __future__ import annotations

import pytest

from mmattn.inference.annotators.text import text_of

HEAD = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n"


def table(*lines: list[tuple[str, float]]) -> str:
    """A table of tesseract with lines of (word, confidence)."""
    rows = [
        f"5\t1\t{k}\t1\t1\t{j}\t0\t0\t9\t9\t{confidence}\t{word}\n"
        for k, line in enumerate(lines)
        for j, (word, confidence) in enumerate(line)
    ]
    return HEAD + "4\t1\t0\t1\t1\t0\t0\t0\t9\t9\t-1\t\n" + "".join(rows)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([["SPIRAL", "SESSIONS"]], "SPIRAL SESSIONS"),
        ([["a"], ["ANOKATO"]], "ANOKATO"),
        ([["tu"], ["ay"]], ""),  # leaves of a cartoon
        ([["5"], ["we"], ["{4", "AY"]], ""),
        ([["re", "on", "or"]], ""),
        ([["EXIT", "5"]], "EXIT 5"),
        ([["12:30"]], "12:30"),
        ([["---", "..."]], ""),
        ([["出", "口", "处"]], "出 口 处"),  # words of Chinese are characters
        ([["出"]], ""),
    ],
)
def test_a_line_needs_three_letters_in_a_word(lines: list[list[str]], text: str) -> None:
    assert text_of(table(*([(word, 96.0) for word in line] for line in lines)), 70) == text


def test_words_of_low_confidence_are_left_out() -> None:
    assert text_of(table([("open", 90.0), ("daily", 69.9)], [("noise", 12.0)]), 70) == "open"
