"""Merges the captions of a trained model's spans into captions that do not overlap."""

from __future__ import annotations

from mmattn.inference.records.build import Record, rounded
from mmattn.weighting.captions import WeighedCaption

_TOUCH_S = 1e-3  # spans closer than this are adjacent


class CaptionTimeline:
    """Collects the captions of a file in time order.

    Adjacent spans with the same text become one caption, with the words of the likelier one. Where spans with different
    texts overlap, each keeps its half of the overlap.
    """

    def __init__(self) -> None:
        self._found: list[tuple[float, float, WeighedCaption]] = []

    def add(self, start: float, end: float, caption: WeighedCaption | None) -> None:
        """Add the caption of a span that starts no earlier than the one added before it; None adds nothing."""
        if caption is None:
            return
        if self._found and start <= self._found[-1][1] + _TOUCH_S:
            first, last, before = self._found[-1]
            if before.text == caption.text:
                self._found[-1] = first, max(last, end), max(before, caption, key=lambda one: one.score)
                return
            middle = (max(first, start) + min(last, end)) / 2
            self._found[-1] = first, middle, before
            start = middle
        self._found.append((start, end, caption))

    def records(self) -> list[Record]:
        """The entries of a record's `captions`."""
        return [
            {
                "start": round(start, 3),
                "end": round(end, 3),
                "text": caption.text,
                "score": rounded(caption.score),
                "words": [word.to_dict() for word in caption.words],
            }
            for start, end, caption in self._found
        ]
