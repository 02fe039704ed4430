"""ImageNet's 1000 things by EfficientNet-Lite0, 1 or 2 on a frame every 0.48 s, each with its times.

A step's scores are the mean over itself and its neighbours, so that one odd frame makes no tag.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.encoders.pretrained.efficientnet_lite import MEAN, STD, is_packaged, load_efficientnet_lite, package_of
from mmattn.encoders.pretrained.pixels import Pixels
from mmattn.errors import UsageError
from mmattn.files import expanded
from mmattn.inference.annotators.base.interface import (
    STEP_S,
    STEPS,
    Annotation,
    Annotator,
    Findings,
    Setting,
    Window,
    package_version,
)
from mmattn.inference.annotators.base.tag_finder import TagFinder
from mmattn.inference.annotators.catalogue import NETWORKS
from mmattn.media.read.views import FrameView
from mmattn.metrics.summary import HALF


class Things(Annotator):
    """`network`: lite0, lite1 or lite2. Its weights: in `weights`, else of the installed package, else from the hub."""

    def __init__(self, setting: Setting, name: str = "things", network: str = "lite0", threshold: float = HALF) -> None:
        """Raises UsageError for absent weights."""
        from torchvision.models import ResNet50_Weights

        if network not in NETWORKS:
            raise UsageError(f"{name}.network={network}: expected {', '.join(NETWORKS)}")
        number = NETWORKS[network]
        folder = None if setting.weights is None else expanded(setting.weights)
        self.name = name
        self.network = load_efficientnet_lite(folder, setting.hub, number).to(setting.device)
        made: dict = self.network.default_cfg  # type: ignore[assignment]
        self.crop = int(made["input_size"][1])  # the middle of the picture is seen, as the network was trained
        self.side = math.floor(self.crop / made["crop_pct"])
        self.pixels = Pixels(self.crop, MEAN, STD).to(setting.device)
        self.names = list(ResNet50_Weights.DEFAULT.meta["categories"])
        self.view = FrameView(1 / STEP_S, (self.side, self.side), "crop")
        package = package_of(number)
        self.version = f"EfficientNet-Lite{number} ({package_version(package) if is_packaged(number) else 'weights'})"
        self.threshold = threshold if setting.threshold is None else setting.threshold
        self.device = setting.device

    def networks(self) -> Sequence[nn.Module]:
        return [self.network]

    def begin(self, start: float) -> Annotation:
        return _Watching(self)

    def scores(self, frames: Tensor) -> Float[Tensor, "T K"]:
        """Frames (T, 3, side, side) uint8 -> one row of scores that sum to 1 for each."""
        edge = (self.side - self.crop) // 2
        middle = frames.to(self.device)[..., edge : edge + self.crop, edge : edge + self.crop]
        return torch.softmax(self.network(self.pixels(middle)), dim=1).float().cpu()


class _Watching(Annotation):
    def __init__(self, things: Things) -> None:
        self._things = things
        self._tags = TagFinder(things.name, things.names, "video", things.threshold)
        self._before: Tensor | None = None

    def look(self, window: Window) -> None:
        frames = window.frames
        if frames.frames is None or not len(frames.frames):
            return
        seen = self._things.scores(frames.frames)
        scores, self._before = smoothed(seen, self._before), seen[STEPS - 1 : STEPS]
        own = len(scores) if window.is_last else STEPS
        self._tags.add(scores[:own], _bounds(frames.times.tolist(), window.duration)[: own + 1])

    def findings(self) -> Findings:
        return Findings({"tags": self._tags.tags()}, ("video",) if self._tags.used else (), self._tags.end)


def smoothed(scores: Float[Tensor, "S K"], before: Tensor | None) -> Float[Tensor, "S K"]:
    """The mean of each step, the one before and the one after, where there are such: one odd frame is no tag."""
    known = scores if before is None else torch.cat([before, scores])
    padded = nn.functional.pad(known, (0, 0, 1, 1))
    count = nn.functional.pad(torch.ones(len(known), 1), (0, 0, 1, 1))
    mean = (padded[:-2] + padded[1:-1] + padded[2:]) / (count[:-2] + count[1:-1] + count[2:])
    return mean[len(known) - len(scores) :]


def _bounds(times: list[float], duration: float | None) -> list[float]:
    """Each frame stands until the next, the last one until the picture's end as far as that is known."""
    last = times[-1] + STEP_S
    return [*times, last if duration is None else max(times[-1], min(last, duration))]
