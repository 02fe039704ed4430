"""Cues for notable sounds, as `[dog barking]`, in the pauses of the speech (WCAG 1.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmattn.inference.writers.interface import Cue
from mmattn.inference.writers.subtitles.sound_names import GENERAL, UNNAMED, shown_name
from mmattn.inference.writers.subtitles.speech_cues import MIN_MS
from mmattn.inference.writers.subtitles.spoken import LINE
from mmattn.text import one_line

SHOWN_MS = 3000  # of a long sound, from its start
_AGAIN_MS = 5000  # a shorter pause does not end a sound
_LATE_MS = 500  # how long after a sound it may still be named
_LINES = 2


@dataclass(frozen=True)
class _Sound:
    name: str
    start: int
    end: int
    is_general: bool


def sound_cues(tags: Sequence[dict[str, Any]], spoken: Sequence[Cue], until: int | None = None) -> list[Cue]:
    """The cues of audio tags with times, without overlap with each other or with `spoken`, which are in order.

    Sounds that start together share a cue. A sound shorter than a second is shown for a second if there is room. A
    sound that ends before the next pause of the speech is left out, and so is one that waited for a pause in which the
    file ends, at `until` ms, before the cue could be read.
    """
    waiting = _sounds(tags)
    found: list[Cue] = []
    free, pauses = 0, [*((cue.start, cue.end) for cue in spoken), (None, None)]
    for begins, ends in pauses:
        while waiting:
            start = max(free, waiting[0].start)
            is_late = start > waiting[0].start and until is not None and start + MIN_MS > until
            if waiting[0].end + _LATE_MS <= start or is_late:
                waiting.pop(0)
                continue
            if begins is not None and start + MIN_MS > begins:
                break
            near = [each for each in waiting if each.start <= start + MIN_MS // 2 and each.end + _LATE_MS > start]
            together = near[:_LINES]
            waiting = [each for each in waiting if each not in together]
            last = max(min(max(each.end for each in together), start + SHOWN_MS), start + MIN_MS)
            end = last if begins is None else min(last, begins)
            found.append(Cue(start, end, "\n".join(f"[{each.name}]" for each in together)))
            free = end
        free = max(free, ends or 0)
    return found


def _sounds(tags: Sequence[dict[str, Any]]) -> list[_Sound]:
    """Sounds in the order of their starts, with short pauses closed."""
    parts: list[_Sound] = []
    for tag in tags:
        if tag.get("modality") != "audio" or tag["tag"] in UNNAMED:
            continue
        name = one_line(shown_name(tag["tag"]))[: LINE - 2]
        for start, end in tag.get("segments") or []:
            first = max(0, round(1000 * start))
            parts.append(_Sound(name, first, max(first, round(1000 * end)), tag["tag"] in GENERAL))
    kinds = [each for each in parts if not each.is_general]
    parts = [each for each in parts if each.name and not (each.is_general and _is_covered(each, kinds))]
    found: dict[str, list[_Sound]] = {}
    for each in sorted(parts, key=lambda part: (part.start, part.end)):
        same = found.setdefault(each.name, [])
        if same and each.start - same[-1].end < _AGAIN_MS:
            same[-1] = replace(same[-1], end=max(same[-1].end, each.end))
        else:
            same.append(each)
    return sorted((each for same in found.values() for each in same), key=lambda part: part.start)


def _is_covered(sound: _Sound, others: Sequence[_Sound]) -> bool:
    return any(other.start < sound.end and sound.start < other.end for other in others)
