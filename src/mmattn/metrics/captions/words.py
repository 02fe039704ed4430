"""Words and n-grams of captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

Words = Sequence[str]
NGRAMS = 4
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation, as caption metrics compare them."""
    return _WORD.findall(text.lower())


def ngrams(words: Words, most: int = NGRAMS) -> Counter[tuple[str, ...]]:
    """The count of each n-gram of 1 to `most` words."""
    return Counter(tuple(words[i : i + n]) for n in range(1, most + 1) for i in range(len(words) - n + 1))
