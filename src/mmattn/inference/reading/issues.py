"""What was odd in the spans of a file, said of the file: with times where it is not so all along."""

from __future__ import annotations

from collections import defaultdict

from mmattn.types import Clip

PLACED = ("silent_audio",)  # issues of a span's content, which another span need not have


class Noticed:
    """`add` the spans of a file in order; `others` are issues of the file itself."""

    def __init__(self) -> None:
        self.others: set[str] = set()
        self._where: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._count: dict[str, int] = defaultdict(int)  # spans with an issue
        self._heard = 0  # spans that hold sound

    def add(self, clip: Clip, start: float, end: float) -> None:
        """`clip` stands for [start, end) s of its file."""
        self._heard += clip.waveform is not None
        for issue in clip.issues:
            if issue not in PLACED:
                self.others.add(issue)
                continue
            spans = self._where[issue]
            if spans and start <= spans[-1][1] + 1e-3:
                spans[-1] = spans[-1][0], end
            else:
                spans.append((start, end))
            self._count[issue] += 1

    def names(self) -> list[str]:
        """Sorted; `silent_audio 9.6-19.2 s` where the rest of the file is not silent."""
        names = set(self.others)
        for issue, spans in self._where.items():
            if self._count[issue] >= self._heard:
                names.add(issue)
            else:
                names.update(f"{issue} {start:.1f}-{end:.1f} s" for start, end in spans)
        return sorted(names)
