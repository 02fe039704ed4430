"""Where one shot of the picture ends and the next begins, to a frame: by PySceneDetect's AdaptiveDetector."""

from __future__ import annotations

from itertools import pairwise

from mmattn.inference.annotators.interface import Annotation, Annotator, Findings, Setting, Window, package_version
from mmattn.inference.predictor.shots import FPS, SIZE, CutFinder, check_installed
from mmattn.media.read.views import FrameView


class Shots(Annotator):
    """Small frames at the file's own rate, or 25 a second where that is higher."""

    own_rate = True

    def __init__(self, setting: Setting, name: str = "shots") -> None:
        """Raises UsageError where PySceneDetect is not installed."""
        check_installed()
        self.name = name
        self.view = FrameView(FPS, SIZE)
        self.version = f"AdaptiveDetector ({package_version('scenedetect-headless')})"

    def begin(self, start: float) -> Annotation:
        return _Shots(start)


class _Shots(Annotation):
    def __init__(self, start: float) -> None:
        self._start = start
        self._finder: CutFinder | None = None

    def look(self, window: Window) -> None:
        frames = window.frames if window.is_last else window.own_frames
        if frames.frames is None or not len(frames.frames):
            return
        if self._finder is None:
            self._finder = CutFinder(window.fps or FPS)
        self._finder.add(frames.frames, frames.times.tolist())

    def findings(self) -> Findings:
        if self._finder is None:
            return Findings()
        self._finder.finish()
        end = self._finder.end or self._start
        edges = [self._start, *(cut for cut in self._finder.cuts if self._start < cut < end), end]
        spans = [[round(first, 3), round(last, 3)] for first, last in pairwise(edges)]
        return Findings({"shots": spans}, ("video",), end)
