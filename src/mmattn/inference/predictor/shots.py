"""A file read shot by shot: in spans that together cover it and of which none crosses a cut.

Cuts are found by PySceneDetect: where the picture changes far more than just before and after (its AdaptiveDetector, as
it comes). A file without a picture, or without a cut, is one shot. What is remembered of a file are its cuts.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch

from mmattn.data.load.reading import ClipReader
from mmattn.data.prepare.clips import Canvas, ClipSpec
from mmattn.errors import MediaError, UsageError
from mmattn.inference.predictor.piece import Piece
from mmattn.inference.predictor.segments import until_error
from mmattn.media.read.request import Request
from mmattn.media.read.windows import Windows
from mmattn.types import Clip

FPS = 25.0  # of the frames that are compared, at most: a file's own if lower, so that none is compared with itself
_LEAST_S = 0.6  # of a shot, as PySceneDetect has it
_PASS_S = 8.0  # read at a time
_SIZE = (72, 128)
_RATE = 8000  # Hz; the sound tells where the file ends


class Shots:
    """How a file is read: each shot in as few even spans as the trained clip's length allows, pictures on `canvas`."""

    def __init__(self, clip: ClipSpec, canvas: Canvas) -> None:
        """Raises UsageError where PySceneDetect is not installed."""
        check_installed()
        self.clip = clip
        self.canvas = canvas

    def read(self, piece: Piece, reader: ClipReader, issues: set[str]) -> Iterator[tuple[Clip, bool]]:
        """Each span as a clip, and whether it is the last. One that cannot be read is an issue, and holds nothing.

        Raises MediaError for a file that cannot be read at all.
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
        """What each of some spans in a row stands for: bounds[i] to bounds[i + 1] s."""
        return [*(clip.span[0] for clip in clips), clips[-1].span[1]]

    def _spans(self, start: float, end: float) -> Iterator[tuple[float, float]]:
        """Up to a tenth longer than the clip, which leaves that out: a short rest gets no span of its own."""
        count = max(1, math.ceil((end - start) / self.clip.seconds - 0.1))
        edges = [start + (end - start) * i / count for i in range(count)]
        return pairwise([*edges, end])


def find_cuts(piece: Piece, reader: ClipReader, issues: set[str]) -> tuple[list[float], float]:
    """Where one shot ends and the next begins, to a frame, and where all ends, s.

    What cannot be read to its end is an issue. Raises MediaError for what cannot be read at all.
    """
    from scenedetect.common import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    told = reader.header(piece.media).fps
    fps = min(FPS, told) if told and told >= 1 else FPS
    pass_s = round(_PASS_S * fps) / fps  # so that frames of one pass follow those of the last at the same distance
    windows = Windows(pass_s, pass_s, Request(fps=fps, end=pass_s, size=_SIZE, audio_rate=_RATE))
    detector = AdaptiveDetector(min_scene_len=_LEAST_S)
    cuts: list[Any] = []
    number, end = 0, piece.start
    for clip, _ in until_error(piece.windows(reader, windows), issues):
        if clip.frames is not None and len(clip.frames):
            end = max(end, float(clip.frame_times[-1]) + 1 / fps)
            images = clip.frames.flip(1).permute(0, 2, 3, 1).contiguous().numpy()  # blue first
            for time, image in zip(clip.frame_times.tolist(), images, strict=True):
                number = round((time - piece.start) * fps)
                cuts += detector.process_frame(FrameTimecode(number, fps=fps), image)
        if clip.waveform is not None:
            end = max(end, clip.audio_start + len(clip.waveform) / clip.sample_rate)
    cuts += detector.post_process(FrameTimecode(number, fps=fps))
    times = sorted({piece.start + cut.frame_num / fps for cut in cuts})
    return [time for time in times if piece.start < time < end], end


def check_installed() -> None:
    """Raises UsageError where PySceneDetect is not."""
    if importlib.util.find_spec("scenedetect") is None or importlib.util.find_spec("cv2") is None:
        raise UsageError("shots=true needs PySceneDetect: pip install 'mmattn[shots]'")
