"""The text block of a cue, as WebVTT and SubRip have it."""

from __future__ import annotations

from mmattn.inference.writers.interface import Cue


def cue_block(cue: Cue, point: str, text: str) -> str:
    """The times and the text of a cue. `point`: the decimal mark of its times."""
    return f"\n{_time(cue.start, point)} --> {_time(cue.end, point)}\n{text}\n"


def _time(ms: int, point: str) -> str:
    """Milliseconds as 00:00:00.000."""
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{ms:03d}"
