"""A file read shot by shot: in spans that together cover it and of which none crosses a cut.

Cuts are found by PySceneDetect: where the picture changes far more than just before and after (its AdaptiveDetector, as
it comes). A file without a picture, or without a cut, is one shot. What is remembered of a file are its cuts.
"""

from __future__ import annotations

import importlib.util
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from mmattn.data.load.reading import ClipReader
from mmattn.data.prepare.clips import Canvas, ClipSpec
from mmattn.errors import MediaError, UsageError
from mmattn.inference.reading.piece import Piece
from mmattn.inference.records.segments import until_error
from mmattn.media.read.request import Request
from mmattn.media.read.windows import Windows
from mmattn.types import Clip

FPS = 25.0  # of the frames that are compared, at most: a file's own if lower, so that none is compared with itself
_LEAST_S = 0.6  # of a shot, as PySceneDetect has it
_PASS_S = 8.0  # read at a time
SIZE = (72, 128)
_RECENT = 256  # frames; a cut is found a few after it
_RATE = 8000  # Hz; the sound tells where the file ends


class ShotReader:
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


class CutFinder:
    """Cuts in frames that come in turn, to a frame; what is remembered are the cuts. Needs PySceneDetect."""

    def __init__(self, fps: float) -> None:
        from scenedetect.detectors import AdaptiveDetector

        self._fps = fps
        self._detector = AdaptiveDetector(min_scene_len=_LEAST_S)
        self._count = 0
        self._times: deque[float] = deque(maxlen=_RECENT)
        self.cuts: list[float] = []
        self.end: float | None = None  # when the last frame gives way, s

    def add(self, frames: UInt8[Tensor, "T 3 H W"], times: Sequence[float]) -> None:
        """The next frames. One that comes much sooner after the one before than 1 / fps is left out."""
        images = frames.flip(1).permute(0, 2, 3, 1).contiguous().numpy()  # blue first
        for time, image in zip(times, images, strict=True):
            if self._times and time - self._times[-1] < 0.5 / self._fps:
                continue
            self._times.append(time)
            self._note(self._detector.process_frame(self._code(self._count), image))
            self._count += 1
            self.end = time + 1 / self._fps

    def finish(self) -> None:
        """No frame comes any more."""
        self._note(self._detector.post_process(self._code(max(self._count - 1, 0))))

    def _code(self, number: int) -> Any:
        from scenedetect.common import FrameTimecode

        return FrameTimecode(number, fps=self._fps)

    def _note(self, found: Sequence[Any]) -> None:
        """A cut is at the time of its frame, which is one of the last."""
        first = self._count + 1 - len(self._times)
        for cut in found:
            time = self._times[max(0, min(cut.frame_num - first, len(self._times) - 1))]
            if not self.cuts or time > self.cuts[-1]:
                self.cuts.append(time)


def find_cuts(piece: Piece, reader: ClipReader, issues: set[str]) -> tuple[list[float], float]:
    """Where one shot ends and the next begins, to a frame, and where all ends, s.

    What cannot be read to its end is an issue. Raises MediaError for what cannot be read at all.
    """
    told = reader.header(piece.media).fps
    fps = min(FPS, told) if told and told >= 1 else FPS
    pass_s = round(_PASS_S * fps) / fps  # so that frames of one pass follow those of the last at the same distance
    windows = Windows(pass_s, pass_s, Request(fps=fps, end=pass_s, size=SIZE, audio_rate=_RATE))
    finder = CutFinder(fps)
    end = piece.start
    for clip, _ in until_error(piece.windows(reader, windows), issues):
        if clip.frames is not None and len(clip.frames):
            finder.add(clip.frames, clip.frame_times.tolist())
        if clip.waveform is not None:
            end = max(end, clip.audio_start + len(clip.waveform) / clip.sample_rate)
    finder.finish()
    end = max(end, finder.end or end)
    return [time for time in finder.cuts if piece.start < time < end], end


def check_installed() -> None:
    """Raises UsageError where PySceneDetect is not."""
    if importlib.util.find_spec("scenedetect") is None or importlib.util.find_spec("cv2") is None:
        raise UsageError("shots=true needs PySceneDetect: pip install 'mmattn[shots]'")
