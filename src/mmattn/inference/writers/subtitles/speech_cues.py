"""Subtitles of what is spoken, as broadcasters ask for them.

A cue has at most two lines of 42 columns and lasts 1 to 7 s; it stays long enough for 20 characters a second where the
next words leave the time; none overlap; cues and lines end with sentences and clauses rather than in them. Where to
cut is the best of all ways (a shortest path over the words), not the first that fits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from mmattn.inference.writers.interface import Cue
from mmattn.inference.writers.subtitles.spoken import LINE, Token, columns

LEAST_MS, MOST_MS = 1000, 7000
MS_A_CHARACTER = 50  # 20 a second
_PAUSE_MS = 2000  # no cue goes on over it
_SENTENCE, _CLAUSE = ".?!\u2026\u3002\uff1f\uff01", ",;:\u2014\u2013\u3001\uff0c\uff1b\uff1a"
_CLOSING = "\"')]}\u201d\u2019\u00bb\u300d\u300f\uff09"


def speech_cues(tokens: Sequence[Token]) -> list[Cue]:
    """Cues of tokens_of. Of words that crowd into less than a cue's second later cues come late."""
    cues: list[Cue] = []
    groups = [group for part in _paragraphs(tokens) for group in _cut(part)]
    for k, group in enumerate(groups):
        text = "\n".join(lines(group) or [])
        start = max(group[0].start, cues[-1].end if cues else 0)
        wanted = max(group[-1].end, start + LEAST_MS, start + MS_A_CHARACTER * columns(text.replace("\n", " ")))
        free = groups[k + 1][0].start if k + 1 < len(groups) else wanted
        end = min(max(min(wanted, free), start + LEAST_MS), start + MOST_MS)
        cues.append(Cue(start, end, text))
    return cues


def lines(group: Sequence[Token]) -> list[str] | None:
    """Its one or two lines; None: they do not fit."""
    ends = _widths(group)
    if ends[-1] <= LINE:
        return [_text(group)]
    found = [
        (_break_cost(group[k - 1], group[k]) + abs(2 * ends[k - 1] - ends[-1]) / LINE, k)
        for k in range(1, len(group))
        if ends[k - 1] <= LINE and ends[-1] - ends[k - 1] - group[k].space <= LINE
    ]
    if not found:
        return None
    _, k = min(found)
    return [_text(group[:k]), _text(group[k:])]


def _paragraphs(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    first = 0
    for k, (before, after) in enumerate(pairwise(tokens), start=1):
        if after.start - before.end >= _PAUSE_MS:
            yield tokens[first:k]
            first = k
    if tokens:
        yield tokens[first:]


def _cut(tokens: Sequence[Token]) -> list[Sequence[Token]]:
    """Into cues, by the least sum of what is wrong with each: best[k] is that of the first k tokens."""
    best = [0.0] + [math.inf] * len(tokens)
    origin = [0] * (len(tokens) + 1)
    for end in range(1, len(tokens) + 1):
        for start in range(end - 1, -1, -1):
            group = tokens[start:end]
            if end - start > 1 and group[-1].end - group[0].start > MOST_MS:
                break
            cost = _cost(group, tokens[end] if end < len(tokens) else None)
            if cost is None:
                break
            if best[start] + cost < best[end]:
                best[end], origin[end] = best[start] + cost, start
    found, end = [], len(tokens)
    while end:
        found.append(tokens[origin[end] : end])
        end = origin[end]
    return found[::-1]


def _cost(group: Sequence[Token], after: Token | None) -> float | None:
    """What is wrong with a cue that is followed by the token `after`. None: it does not fit."""
    shown = lines(group)
    if shown is None:
        return None
    cost = 1.0 + sum(2.0 for one, two in pairwise(group) if two.start - one.end >= _PAUSE_MS // 2)
    if len(shown) == 2:
        cost += 0.2
    if after is not None:
        room = min(after.start - group[0].start, MOST_MS)
        cost += _break_cost(group[-1], after)
        cost += max(0.0, 4 + 8 * (LEAST_MS - room) / LEAST_MS) if room < LEAST_MS else 0.0
        needed = MS_A_CHARACTER * columns(" ".join(shown))
        cost += min(8.0, 4 * (needed / max(room, 1) - 1)) if needed > room else 0.0
    return cost


def _break_cost(before: Token, after: Token) -> float:
    """Of ending a line or cue between two tokens."""
    last = before.text.rstrip(_CLOSING)[-1:]
    pause = after.start - before.end
    if last and (last in _SENTENCE or pause >= 600):
        return 0.0
    if last and (last in _CLAUSE or pause >= 300):
        return 0.5
    is_short = len(before.text) <= 3 and before.text.isalpha()  # most articles and prepositions are
    return 3.5 if is_short else 2.0


def _widths(group: Sequence[Token]) -> list[int]:
    """The columns up to the end of each token."""
    total, found = 0, []
    for k, token in enumerate(group):
        total += columns(token.text) + (k > 0 and token.space)
        found.append(total)
    return found


def _text(group: Sequence[Token]) -> str:
    return "".join(" " * (k > 0 and token.space) + token.text for k, token in enumerate(group))
