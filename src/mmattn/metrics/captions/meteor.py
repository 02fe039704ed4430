"""METEOR (Banerjee & Lavie 2005), by NLTK."""

from __future__ import annotations

from collections.abc import Sequence

from mmattn.metrics.captions.words import Words


def meteor(candidate: Words, references: Sequence[Words]) -> float | None:
    """METEOR with exact and stemmed matches, without synonyms; None if NLTK is not installed."""
    try:
        from nltk.translate.meteor_score import meteor_score
    except ImportError:
        return None
    if not candidate:
        return 0.0
    return float(meteor_score([list(r) for r in references], list(candidate), wordnet=_NoSynonyms()))  # type: ignore[arg-type]


class _NoSynonyms:
    """A WordNet without synonyms: NLTK would have to download the real one."""

    def synsets(self, word: str) -> list[str]:
        return []
