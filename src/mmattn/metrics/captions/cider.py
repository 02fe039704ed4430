"""CIDEr-D (Vedantam et al. 2015)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmattn.metrics.captions.words import NGRAMS, Words, ngrams

_SIGMA = 6.0  # CIDEr-D: the width of its length penalty


class Cider:
    """CIDEr-D, from 0 to 10, with document frequencies from `references` (one list of captions for each clip).

    For a single clip every n-gram is in every document, so all weights and scores are 0.
    """

    def __init__(self, references: Sequence[Sequence[Words]]) -> None:
        self.documents = Counter(
            gram for captions in references for gram in {g for caption in captions for g in ngrams(caption)}
        )
        self.clips = math.log(max(1, len(references)))

    def __call__(self, candidate: Words, references: Sequence[Words]) -> float:
        """The mean over 1 to 4 words and over references of the cosine of their tf-idf vectors, times 10."""
        own = self._vectors(candidate)
        return sum(self._likeness(own, self._vectors(r)) for r in references) / max(1, len(references)) * 10

    def _vectors(self, words: Words) -> _Vectors:
        weights: dict[tuple[str, ...], float] = {}
        norms = [0.0] * NGRAMS
        for gram, count in ngrams(words).items():
            weight = count * (self.clips - math.log(max(1.0, self.documents[gram])))
            weights[gram] = weight
            norms[len(gram) - 1] += weight**2
        return _Vectors(weights, [math.sqrt(norm) for norm in norms], max(0, len(words) - 1))

    @staticmethod
    def _likeness(own: _Vectors, other: _Vectors) -> float:
        dots = [0.0] * NGRAMS
        for gram, weight in own.weights.items():
            if (there := other.weights.get(gram)) is not None:
                dots[len(gram) - 1] += min(weight, there) * there
        cosines = [dot / (a * b) if a and b else 0.0 for dot, a, b in zip(dots, own.norms, other.norms, strict=True)]
        # The COCO evaluation counts bigrams as the length.
        return sum(cosines) / NGRAMS * math.exp(-((own.length - other.length) ** 2) / (2 * _SIGMA**2))


@dataclass(frozen=True)
class _Vectors:
    weights: dict[tuple[str, ...], float]
    norms: list[float]
    length: int
