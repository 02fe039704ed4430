"""Reads a file shot by shot, in spans that cover it and cross no cut. A file without frames or cuts is one shot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import torch

from mmattn.data.load.reader import ClipReader
from mmattn.data.prepare.clips import Canvas, ClipSpec
from mmattn.errors import MediaError
from mmattn.inference.reading.piece import Piece
from mmattn.inference.shots.cuts import check_installed, find_cuts
from mmattn.types import Clip


class ShotReader:
    """Reads each shot in as few even spans as the length of the trained clip allows, with frames on `canvas`."""

    def __init__(self, clip: ClipSpec, canvas: Canvas) -> None:
        """Raises UsageError if PySceneDetect is not installed."""
        check_installed()
        self.clip = clip
        self.canvas = canvas

    def read(self, piece: Piece, reader: ClipReader, issues: set[str]) -> Iterator[tuple[Clip, bool]]:
        """Yield each span as a clip, and whether it is the last. A span that cannot be read is an empty clip.

        Raises MediaError if nothing of the file can be read.
        """
        cuts, end = find_cuts(piece, reader, issues)
        spans = [span for shot in pairwise([piece.start, *cuts, end]) for span in self._spans(*shot)]

        def read_span(span: tuple[float, float]) -> Clip:
            try:
                clip = self.clip.read(piece.media, *span, reader=reader, canvas=self.canvas)
                return replace(clip, span=span)
            except MediaError as error:
                nothing = torch.zeros(0, dtype=torch.float64)
                issue = (f"span_{error.reason}",)
                return Clip(None, nothing, None, self.clip.sample_rate, span[0], piece.name, span, issues=issue)

        for number, clip in enumerate(reader.map(read_span, spans), start=1):
            yield clip, number == len(spans)

    def bounds(self, clips: Sequence[Clip], begin: float, is_last: bool) -> list[float]:
        """The times of consecutive spans: span i covers bounds[i] to bounds[i + 1] s."""
        return [*(clip.span[0] for clip in clips), clips[-1].span[1]]

    def _spans(self, start: float, end: float) -> Iterator[tuple[float, float]]:
        """The spans of a shot, up to a tenth longer than the clip, so that a short rest gets no span of its own."""
        count = max(1, math.ceil((end - start) / self.clip.seconds - 0.1))
        edges = [start + (end - start) * i / count for i in range(count)]
        return pairwise([*edges, end])
