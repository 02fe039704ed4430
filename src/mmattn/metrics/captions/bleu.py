"""BLEU (Papineni et al. 2002)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmattn.metrics.captions.words import NGRAMS, Words, ngrams


@dataclass(frozen=True)
class BleuCounts:
    """The counts of one clip: matched n-grams of the candidate, all its n-grams, and both lengths."""

    matched: tuple[int, ...]
    total: tuple[int, ...]
    length: int
    reference: int  # the closest length of a reference, of two the shorter

    @classmethod
    def of(cls, candidate: Words, references: Sequence[Words]) -> BleuCounts:
        """Count one clip."""
        found, most = ngrams(candidate), Counter()
        for reference in references:
            most |= ngrams(reference)
        matched = Counter()
        for gram, count in found.items():
            matched[len(gram)] += min(count, most[gram])
        return cls(
            tuple(matched[n] for n in range(1, NGRAMS + 1)),
            tuple(max(0, len(candidate) - n + 1) for n in range(1, NGRAMS + 1)),
            len(candidate),
            min((len(reference) for reference in references), key=lambda n: (abs(n - len(candidate)), n)),
        )

    def __add__(self, other: BleuCounts) -> BleuCounts:
        return BleuCounts(
            tuple(a + b for a, b in zip(self.matched, other.matched, strict=True)),
            tuple(a + b for a, b in zip(self.total, other.total, strict=True)),
            self.length + other.length,
            self.reference + other.reference,
        )

    def scores(self) -> tuple[float, ...]:
        """BLEU-1 to BLEU-4: the geometric mean of precisions, with the brevity penalty."""
        small, tiny = 1e-9, 1e-15  # as in the COCO evaluation, so that a precision of 0 / 0 is 1e-6
        ratio = (self.length + tiny) / (self.reference + small)
        penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
        product, scores = 1.0, []
        for n, (matched, total) in enumerate(zip(self.matched, self.total, strict=True), start=1):
            product *= (matched + tiny) / (total + small)
            scores.append(product ** (1 / n) * penalty)
        return tuple(scores)
