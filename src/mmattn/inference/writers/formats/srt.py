"""SubRip tracks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmattn.inference.writers.interface import Cue, Kind, TrackFormat
from mmattn.inference.writers.subtitles.block import cue_block

_SIMILAR = str.maketrans("<>{}\\", "\u2039\u203a()/")
_TIME = re.compile(r"\d:\d+:\d+[.,]\d")


class SubRip(TrackFormat):
    """SubRip has no escapes, so characters that players take for markup are replaced by similar ones.

    So are the colons of a time in the text, because some readers take any line with two times for the start of a cue.
    """

    suffix = ".srt"

    def track(self, cues: Sequence[Cue], kind: Kind = "subtitles") -> str:
        blocks = (cue_block(cue, ",", _harmless(cue.text)) for cue in cues)
        return "".join(f"{number}{block}\n" for number, block in enumerate(blocks, start=1))


def _harmless(text: str) -> str:
    return _TIME.sub(lambda found: found[0].replace(":", "\u2236"), text.translate(_SIMILAR))
