"""Collects the issues of a file's spans, with times for those that do not hold for the whole file."""

from __future__ import annotations

from collections import defaultdict

from mmattn.types import Clip

TIMED = ("silent_audio",)  # issues of a span's content, which other spans need not have


class IssueLog:
    """`add` the spans of a file in order; `of_file` holds the issues of the file itself."""

    def __init__(self) -> None:
        self.of_file: set[str] = set()
        self._spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._count: dict[str, int] = defaultdict(int)  # spans with an issue
        self._with_audio = 0  # spans with audio

    def add(self, clip: Clip, start: float, end: float) -> None:
        """Add the issues of `clip`, which covers [start, end) s of its file."""
        self._with_audio += clip.waveform is not None
        for issue in clip.issues:
            if issue not in TIMED:
                self.of_file.add(issue)
                continue
            spans = self._spans[issue]
            if spans and start <= spans[-1][1] + 1e-3:
                spans[-1] = spans[-1][0], end
            else:
                spans.append((start, end))
            self._count[issue] += 1

    def names(self) -> list[str]:
        """All issues, sorted: `silent_audio`, or `silent_audio 9.6-19.2 s` if other parts of the file have sound."""
        names = set(self.of_file)
        for issue, spans in self._spans.items():
            if self._count[issue] >= self._with_audio:
                names.add(issue)
            else:
                names.update(f"{issue} {start:.1f}-{end:.1f} s" for start, end in spans)
        return sorted(names)
