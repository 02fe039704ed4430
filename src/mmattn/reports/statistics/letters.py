"""Rank letters: two rows share one exactly if their difference is not significant."""

from __future__ import annotations

from collections.abc import Mapping

Pair = tuple[int, int]


def holm(p_values: Mapping[Pair, float]) -> dict[Pair, float]:
    """P-values adjusted for all pairs: a pair differs at level a where its adjusted value is at most a (Holm 1979)."""
    found: dict[Pair, float] = {}
    highest = 0.0
    for rank, (p, pair) in enumerate(sorted((p, pair) for pair, p in p_values.items())):
        highest = max(highest, min(1.0, p * (len(p_values) - rank)))
        found[pair] = highest
    return found


def rank_letters(count: int, different: set[Pair]) -> list[str]:
    """For rows 0 (best) to count - 1: two share a letter exactly if they are not `different`.

    Insert and absorb (Piepho 2004): each pair that differs splits the sets that contain both.
    """
    sets = [frozenset(range(count))] if count else []
    for i, j in sorted(different):
        split = [part for one in sets for part in ((one - {i}, one - {j}) if i in one and j in one else (one,))]
        distinct = list(dict.fromkeys(split))
        sets = [one for one in distinct if one and not any(one < other for other in distinct)]
    sets.sort(key=lambda one: (sorted(one), -len(one)))
    return [" ".join(_letter(k) for k, one in enumerate(sets) if place in one) for place in range(count)]


def _letter(number: int) -> str:
    return (_letter(number // 26 - 1) if number >= 26 else "") + "abcdefghijklmnopqrstuvwxyz"[number % 26]
