"""METEOR."""

from __future__ import annotations

from collections.abc import Sequence

from mmattn.metrics.captions.words import Words


def meteor(candidate: Words, references: Sequence[Words]) -> float | None:
    """METEOR of exact and stemmed matches, without its synonyms (Banerjee & Lavie 2005); None without NLTK."""
    try:
        from nltk.translate.meteor_score import meteor_score
    except ImportError:
        return None
    if not candidate:
        return 0.0
    return float(meteor_score([list(r) for r in references], list(candidate), wordnet=_NoSynonyms()))  # type: ignore[arg-type]


class _NoSynonyms:
    """Stands where NLTK would ask for WordNet, which it has to download."""

    def synsets(self, word: str) -> list[str]:
        return []
