"""Finds ImageNet's 1000 classes with EfficientNet-Lite0, 1 or 2, on a frame every 0.48 s.

The scores of a frame are averaged with those of its neighbours, so that a single odd frame makes no tag.
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
    FileWindow,
    Findings,
    Setting,
    package_version,
)
from mmattn.inference.annotators.base.tag_finder import TagFinder
from mmattn.inference.annotators.requirements import NETWORKS
from mmattn.media.read.windows.views import FrameView
from mmattn.metrics.summary import HALF


class Things(Annotator):
    """`network`: lite0, lite1 or lite2. Weights come from `weights`, else the installed package, else the hub.

    `threshold`: of tags.
    """

    def __init__(self, setting: Setting, name: str = "things", network: str = "lite0", threshold: float = HALF) -> None:
        """Raises UsageError for missing weights."""
        from torchvision.models import ResNet50_Weights

        if network not in NETWORKS:
            raise UsageError(f"{name}.network={network}: expected {', '.join(NETWORKS)}")
        number = NETWORKS[network]
        folder = None if setting.weights is None else expanded(setting.weights)
        self.name = name
        self.network = load_efficientnet_lite(folder, setting.hub, number).to(setting.device)
        config: dict = self.network.default_cfg  # type: ignore[assignment]
        self.crop = int(config["input_size"][1])  # the middle of the frame, as in training
        self.side = math.floor(self.crop / config["crop_pct"])
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
        return _ThingTagging(self)

    def scores(self, frames: Tensor) -> Float[Tensor, "T K"]:
        """Scores that sum to 1 for each of the frames (T, 3, side, side) uint8."""
        edge = (self.side - self.crop) // 2
        middle = frames.to(self.device)[..., edge : edge + self.crop, edge : edge + self.crop]
        return torch.softmax(self.network(self.pixels(middle)), dim=1).float().cpu()


class _ThingTagging(Annotation):
    def __init__(self, things: Things) -> None:
        self._things = things
        self._tags = TagFinder(things.name, things.names, "video", things.threshold)
        self._before: Tensor | None = None

    def update(self, window: FileWindow) -> None:
        frames = window.frames
        if frames.frames is None or not len(frames.frames):
            return
        raw = self._things.scores(frames.frames)
        scores, self._before = smoothed(raw, self._before), raw[STEPS - 1 : STEPS]
        own = len(scores) if window.is_last else STEPS
        self._tags.add(scores[:own], _bounds(frames.times.tolist(), window.duration)[: own + 1])

    def findings(self) -> Findings:
        return self._tags.findings()


def smoothed(scores: Float[Tensor, "S K"], before: Tensor | None) -> Float[Tensor, "S K"]:
    """The mean of each step and its neighbours. `before`: the step before the first one."""
    known = scores if before is None else torch.cat([before, scores])
    padded = nn.functional.pad(known, (0, 0, 1, 1))
    count = nn.functional.pad(torch.ones(len(known), 1), (0, 0, 1, 1))
    mean = (padded[:-2] + padded[1:-1] + padded[2:]) / (count[:-2] + count[1:-1] + count[2:])
    return mean[len(known) - len(scores) :]


def _bounds(times: list[float], duration: float | None) -> list[float]:
    """A frame covers the time up to the next one, the last frame up to the end of the file if that is known."""
    last = times[-1] + STEP_S
    return [*times, last if duration is None else max(times[-1], min(last, duration))]
