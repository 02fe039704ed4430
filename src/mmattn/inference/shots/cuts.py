"""Finds cuts with PySceneDetect: the frames where the picture changes far more than just before and after.

Uses its AdaptiveDetector with default settings. Memory grows only with the number of cuts.
"""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Sequence
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from mmattn.data.load.reader import ClipReader
from mmattn.errors import UsageError
from mmattn.inference.reading.piece import Piece
from mmattn.inference.reading.until_error import until_error
from mmattn.media.read.request import Request
from mmattn.media.read.windows.layout import Windows

FPS = 25.0  # most frames compared a second; a file with fewer is compared at its own rate
SIZE = (72, 128)  # of these frames, pixels
_MIN_SHOT_S = 0.6  # PySceneDetect's own
_PASS_S = 8.0  # read at a time
_RECENT = 256  # frames whose times are kept: a cut is found a few frames late
_RATE = 8000  # Hz; the audio shows where the file ends


class CutFinder:
    """Finds cuts, exact to a frame, in frames that are added in order. Needs PySceneDetect."""

    def __init__(self, fps: float) -> None:
        from scenedetect.detectors import AdaptiveDetector

        self._fps = fps
        self._detector = AdaptiveDetector(min_scene_len=_MIN_SHOT_S)
        self._count = 0
        self._times: deque[float] = deque(maxlen=_RECENT)
        self.cuts: list[float] = []
        self.end: float | None = None  # of the last frame, s

    def add(self, frames: UInt8[Tensor, "T 3 H W"], times: Sequence[float]) -> None:
        """Add the next frames. A frame that follows the one before by less than half of 1 / fps is skipped."""
        images = frames.flip(1).permute(0, 2, 3, 1).contiguous().numpy()  # blue first
        for time, image in zip(times, images, strict=True):
            if self._times and time - self._times[-1] < 0.5 / self._fps:
                continue
            self._times.append(time)
            self._note(self._detector.process_frame(self._code(self._count), image))
            self._count += 1
            self.end = time + 1 / self._fps

    def finish(self) -> None:
        """End the file: find cuts near its end."""
        self._note(self._detector.post_process(self._code(max(self._count - 1, 0))))

    def _code(self, number: int) -> Any:
        from scenedetect.common import FrameTimecode

        return FrameTimecode(number, fps=self._fps)

    def _note(self, found: Sequence[Any]) -> None:
        """Note cuts at the times of their frames."""
        first = self._count + 1 - len(self._times)
        for cut in found:
            time = self._times[max(0, min(cut.frame_num - first, len(self._times) - 1))]
            if not self.cuts or time > self.cuts[-1]:
                self.cuts.append(time)


def find_cuts(piece: Piece, reader: ClipReader, issues: set[str]) -> tuple[list[float], float]:
    """The times of the cuts and the end of the piece, in seconds.

    A file that cannot be read to its end gets an issue. Raises MediaError if nothing can be read.
    """
    own_fps = reader.header(piece.media).fps
    fps = min(FPS, own_fps) if own_fps and own_fps >= 1 else FPS
    pass_s = round(_PASS_S * fps) / fps  # keeps the distance of frames across passes
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
    """Raise UsageError if PySceneDetect is not installed."""
    if importlib.util.find_spec("scenedetect") is None or importlib.util.find_spec("cv2") is None:
        raise UsageError("shots=true needs PySceneDetect: pip install 'mmattn[shots]'")
