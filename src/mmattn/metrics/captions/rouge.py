"""ROUGE-L (Lin 2004)."""

from __future__ import annotations

from collections.abc import Sequence

from mmattn.metrics.captions.words import Words

_BETA = 1.2  # ROUGE-L: the weight of recall


def rouge_l(candidate: Words, references: Sequence[Words]) -> float:
    """F-measure of the longest common subsequence, best precision and best recall over references (Lin 2004)."""
    common = [_common(candidate, reference) for reference in references]
    precision = max((c / len(candidate) for c in common), default=0.0) if candidate else 0.0
    recall = max((c / len(r) for c, r in zip(common, references, strict=True) if r), default=0.0)
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common(a: Words, b: Words) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, start=1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]
