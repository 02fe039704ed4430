"""Decides which texts of a record are shown when.

If a transcript was made, the subtitles are the speech, with notable sounds in its pauses, and captions are a track of
descriptions. Otherwise the subtitles are the captions, or the tags while they are present.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from mmattn.inference.records.build import Record
from mmattn.inference.writers.caption_levels import side_by_side
from mmattn.inference.writers.interface import Cue, Kind
from mmattn.inference.writers.subtitles.sound_cues import sound_cues
from mmattn.inference.writers.subtitles.speech_cues import speech_cues
from mmattn.inference.writers.subtitles.spoken import tokens_of
from mmattn.text import one_line

TAG_MARK = " \u00b7 "  # between tags, because names of classes contain commas


def cues_of(record: Record, kind: Kind = "subtitles") -> list[Cue]:
    """The cues of a track, in order, without overlap. `kind`: "subtitles", or "descriptions" beside a transcript."""
    captions = [(each["start"], each["end"], each["text"]) for each in side_by_side(record)]
    transcript = record.get("transcript")
    if kind == "descriptions":
        return _shown(captions) if transcript is not None else []
    if transcript is not None:
        spoken = speech_cues(tokens_of(transcript))
        return sorted([*spoken, *sound_cues(record.get("tags") or [], spoken, _end(record))], key=lambda cue: cue.start)
    return _shown(captions or _tags(record))


def _end(record: Record) -> int | None:
    """Where what was read of the file ends, ms."""
    return max((round(1000 * end) for _, end in record.get("spans") or []), default=None)


def _shown(parts: Iterable[tuple[float, float, str]]) -> list[Cue]:
    return _apart(sorted((cue for each in parts if (cue := _cue(*each))), key=lambda cue: (cue.start, cue.end)))


def _apart(cues: Sequence[Cue]) -> list[Cue]:
    """Split the overlap of two cues in halves. A cue that has no time left is dropped."""
    found: list[Cue] = []
    for cue in cues:
        while found and cue.start < found[-1].end:
            before = found.pop()
            middle = (max(before.start, cue.start) + min(before.end, cue.end)) // 2
            cue = replace(cue, start=middle)
            if before.start < middle:
                found.append(replace(before, end=middle))
        if cue.start < cue.end:
            found.append(cue)
    return found


def _cue(start: float, end: float, text: str) -> Cue | None:
    first = max(0, round(1000 * start))
    line = one_line(text)
    return Cue(first, max(first + 1, round(1000 * end)), line) if line else None


def _tags(record: Record) -> Iterator[tuple[float, float, str]]:
    """The tags present at each time, best first, from change to change. Tags without times are left out."""
    changes: dict[float, Counter[int]] = defaultdict(Counter)
    names = [tag["tag"] for tag in record.get("tags") or []]
    for place, tag in enumerate(record.get("tags") or []):
        for first, last in tag.get("segments") or []:
            changes[first][place] += 1
            changes[last][place] -= 1
    present: Counter[int] = Counter()
    start, shown = 0.0, ""
    for time in sorted(changes):
        present.update(changes[time])
        present = +present  # drops those that have ended
        now = TAG_MARK.join(dict.fromkeys(names[place] for place in sorted(present)))
        if now != shown:
            if shown:
                yield start, time, shown
            start, shown = time, now
