"""WebVTT (W3C) tracks."""

from __future__ import annotations

from collections.abc import Sequence

from mmattn.inference.writers.interface import Cue, Kind, TrackFormat
from mmattn.inference.writers.subtitles.block import cue_block


class WebVTT(TrackFormat):
    """Escapes & < >, so that no text is markup or contains `-->`."""

    suffix = ".vtt"

    def track(self, cues: Sequence[Cue], kind: Kind = "subtitles") -> str:
        head = "WEBVTT\n" if kind == "subtitles" else f"WEBVTT\nKind: {kind}\n"
        return "".join([head, *(cue_block(cue, ".", _escaped(cue.text)) for cue in cues)])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
