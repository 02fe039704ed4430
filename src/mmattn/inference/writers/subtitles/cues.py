"""Subtitles: what of a record is shown when, and the two formats. Valid whatever a text holds.

Where something listened for speech, the subtitles are what is spoken, with the sounds that matter between; captions
are then a track of their own, of descriptions. Else captions are the subtitles, or tags while they last.

A caption or a tag is text of others: it may hold `-->`, line breaks, markup. Nothing of it ends a cue or is markup.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from mmattn.inference.writers.caption_levels import side_by_side
from mmattn.inference.writers.interface import Cue, Kind, Record, TrackFormat
from mmattn.inference.writers.subtitles.sound_cues import sound_cues
from mmattn.inference.writers.subtitles.speech_cues import speech_cues
from mmattn.inference.writers.subtitles.spoken import tokens_of
from mmattn.text import one_line

TAG_MARK = " \u00b7 "  # between tags: names of classes hold commas


class WebVTT(TrackFormat):
    """W3C WebVTT; & < > are escaped, so no text is markup and none holds `-->`."""

    suffix = ".vtt"

    def track(self, cues: Sequence[Cue], kind: Kind = "subtitles") -> str:
        head = "WEBVTT\n" if kind == "subtitles" else f"WEBVTT\nKind: {kind}\n"
        return "".join([head, *(_block(cue, ".", _escaped(cue.text)) for cue in cues)])


class SubRip(TrackFormat):
    """SubRip knows no escapes: < > { } and backslashes, with which players' markup begins, become others like them,
    and so do the colons of a time in the text, because some readers take any line with two times for a cue's."""

    suffix = ".srt"

    def track(self, cues: Sequence[Cue], kind: Kind = "subtitles") -> str:
        blocks = (_block(cue, ",", _harmless(cue.text)) for cue in cues)
        return "".join(f"{number}{block}\n" for number, block in enumerate(blocks, start=1))


_OTHERS = str.maketrans("<>{}\\", "\u2039\u203a()/")
_TIME = re.compile(r"\d:\d+:\d+[.,]\d")


def _harmless(text: str) -> str:
    return _TIME.sub(lambda found: found[0].replace(":", "\u2236"), text.translate(_OTHERS))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _block(cue: Cue, point: str, text: str) -> str:
    return f"\n{_clock(cue.start, point)} --> {_clock(cue.end, point)}\n{text}\n"


def _clock(ms: int, point: str) -> str:
    """00:00:00.000"""
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{ms:03d}"


def cues_of(record: Record, kind: Kind = "subtitles") -> list[Cue]:
    """In the order of their starts, none while another. `kind`: "subtitles", or "descriptions" beside a transcript."""
    captions = [(each["start"], each["end"], each["text"]) for each in side_by_side(record)]
    transcript = record.get("transcript")
    if kind == "descriptions":
        return _shown(captions) if transcript is not None else []
    if transcript is not None:
        spoken = speech_cues(tokens_of(transcript))
        return sorted([*spoken, *sound_cues(record.get("tags") or [], spoken)], key=lambda cue: cue.start)
    return _shown(captions or _tags(record))


def _shown(parts: Iterable[tuple[float, float, str]]) -> list[Cue]:
    return _apart(sorted((cue for each in parts if (cue := _cue(*each))), key=lambda cue: (cue.start, cue.end)))


def _apart(cues: Sequence[Cue]) -> list[Cue]:
    """Two that overlap share what both have, a half each; one that is left with nothing is left out."""
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
    said = one_line(text)
    return Cue(first, max(first + 1, round(1000 * end)), said) if said else None


def _tags(record: Record) -> Iterator[tuple[float, float, str]]:
    """From change to change the tags that last, best first; only of tags that say when."""
    changes: dict[float, Counter[int]] = defaultdict(Counter)
    names = [tag["tag"] for tag in record.get("tags") or []]
    for place, tag in enumerate(record.get("tags") or []):
        for start, end in tag.get("segments") or []:
            changes[start][place] += 1
            changes[end][place] -= 1
    lasting: Counter[int] = Counter()
    since, shown = 0.0, ""
    for time in sorted(changes):
        lasting.update(changes[time])
        lasting = +lasting  # without those that have ended
        now = TAG_MARK.join(dict.fromkeys(names[place] for place in sorted(lasting)))
        if now != shown:
            if shown:
                yield since, time, shown
            since, shown = time, now
