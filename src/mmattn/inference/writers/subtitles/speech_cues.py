"""Cues of speech that follow the rules of broadcasters.

A cue has at most two lines of 42 columns and lasts 1 to 7 s, at most 20 characters a second if the next words leave
time. Cues do not overlap, and cues and lines end at the ends of sentences and clauses if possible. The cuts are the
best of all possible ones: a shortest path over the words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from mmattn.inference.writers.interface import Cue
from mmattn.inference.writers.subtitles.spoken import LINE, Token, columns

MIN_MS, MAX_MS = 1000, 7000
MS_A_CHARACTER = 50  # 20 a second
_PAUSE_MS = 2000  # always ends a cue
_SENTENCE, _CLAUSE = ".?!\u2026\u3002\uff1f\uff01", ",;:\u2014\u2013\u3001\uff0c\uff1b\uff1a"
_CLOSING = "\"')]}\u201d\u2019\u00bb\u300d\u300f\uff09"


def speech_cues(tokens: Sequence[Token]) -> list[Cue]:
    """The cues of tokens. If words follow each other too fast for cues of a second, later cues are late."""
    cues: list[Cue] = []
    groups = [group for part in _paragraphs(tokens) for group in _cut(part)]
    for k, group in enumerate(groups):
        text = "\n".join(lines(group) or [])
        start = max(group[0].start, cues[-1].end if cues else 0)
        wanted = max(group[-1].end, start + MIN_MS, start + MS_A_CHARACTER * columns(text.replace("\n", " ")))
        free = groups[k + 1][0].start if k + 1 < len(groups) else wanted
        end = min(max(min(wanted, free), start + MIN_MS), start + MAX_MS)
        cues.append(Cue(start, end, text))
    return cues


def lines(group: Sequence[Token]) -> list[str] | None:
    """The one or two lines of a cue; None if the text does not fit."""
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
    """Split tokens into cues with the least total cost; best[k] is the cost of the first k tokens."""
    best = [0.0] + [math.inf] * len(tokens)
    origin = [0] * (len(tokens) + 1)
    for end in range(1, len(tokens) + 1):
        for start in range(end - 1, -1, -1):
            group = tokens[start:end]
            if end - start > 1 and group[-1].end - group[0].start > MAX_MS:
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
    """The cost of a cue that the token `after` follows; None if its text does not fit."""
    shown = lines(group)
    if shown is None:
        return None
    cost = 1.0 + sum(2.0 for one, two in pairwise(group) if two.start - one.end >= _PAUSE_MS // 2)
    if len(shown) == 2:
        cost += 0.2
    if after is not None:
        room = min(after.start - group[0].start, MAX_MS)
        cost += _break_cost(group[-1], after)
        cost += max(0.0, 4 + 8 * (MIN_MS - room) / MIN_MS) if room < MIN_MS else 0.0
        needed = MS_A_CHARACTER * columns(" ".join(shown))
        cost += min(8.0, 4 * (needed / max(room, 1) - 1)) if needed > room else 0.0
    return cost


def _break_cost(before: Token, after: Token) -> float:
    """The cost of ending a line or cue between two tokens."""
    last = before.text.rstrip(_CLOSING)[-1:]
    pause = after.start - before.end
    if last and (last in _SENTENCE or pause >= 600):
        return 0.0
    if last and (last in _CLAUSE or pause >= 300):
        return 0.5
    is_short = len(before.text) <= 3 and before.text.isalpha()  # as most articles and prepositions are
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
