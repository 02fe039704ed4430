"""Reads a file in a few spans of the trained length that are spread evenly over it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mmattn.data.load.reader import ClipReader
from mmattn.data.prepare.clips import Canvas, ClipSpec, Reader, Sample
from mmattn.data.prepare.views import Views
from mmattn.errors import MediaError
from mmattn.inference.reading.issues import IssueLog
from mmattn.inference.reading.piece import Piece
from mmattn.types import Clip


@dataclass(frozen=True)
class FileSpans:
    """A file that was read. `samples`: the views of each span. `spans`: their times, s."""

    path: str
    samples: list[list[Sample]]
    spans: list[tuple[float, float]]
    issues: list[str]

    @property
    def named(self) -> Iterator[tuple[str, list[Sample]]]:
        """The views of each span with its name."""
        starts = (start for start, _ in self.spans)
        return ((span_name(self.path, start), views) for start, views in zip(starts, self.samples, strict=True))


@dataclass
class SpanReader:
    """Reads files in up to `count` spans each, as `views` of `clip`."""

    clip: ClipSpec
    views: Views
    canvas: Canvas
    count: int
    reader: Reader | ClipReader | None

    def read(self, piece: Piece) -> FileSpans | MediaError:
        """The spans that could be read. A later span that fails or is empty is left out, with an issue."""
        issues = IssueLog()
        try:
            clips = [self._clip(piece, piece.start, measure_end=True)]
        except MediaError as error:
            return error
        for start in self._later_starts(clips[0], piece):
            try:
                clips.append(self._clip(piece, start))
            except MediaError as error:
                issues.of_file.add(f"span_{error.reason}")
        samples = [self.views.samples(clip, self.clip) for clip in clips]
        not_empty = [i for i, (one, *_) in enumerate(samples) if one.frame_keep.any() or one.spectrogram_keep.any()]
        kept = not_empty or [0]
        for clip in clips:
            issues.add(clip, *clip.span)
        return FileSpans(piece.name, [samples[i] for i in kept], [clips[i].span for i in kept], issues.names())

    def _clip(self, piece: Piece, start: float, measure_end: bool = False) -> Clip:
        return self.clip.read(
            piece.media, start, piece.end, reader=self.reader, canvas=self.canvas, measure_end=measure_end
        )

    def _later_starts(self, first: Clip, piece: Piece) -> list[float]:
        """Where the further spans of a long file start, so that they cover it or are spread evenly up to its end.

        A rest of less than a tenth of a span is left out, because headers count the encoder's padding.
        """
        seconds = self.clip.seconds
        if first.duration is None:
            return []
        length = (first.duration if piece.end is None else min(first.duration, piece.end)) - piece.start
        count = min(self.count, math.ceil(length / seconds - 0.1))
        return [piece.start + (length - seconds) / (count - 1) * i for i in range(1, count)]


def span_name(path: str, start: float) -> str:
    """The seed name of a span's sampled caption, independent of the batch and of the folder that the file is in."""
    return f"{path.rpartition('/')[2]}@{start:.3f}"
