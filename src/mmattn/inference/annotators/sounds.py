"""Finds AudioSet's 521 classes of sound with YAMNet, every 0.48 s."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.encoders.pretrained.yamnet.network import (
    HOP,
    MIDDLE_S,
    PATCH,
    RATE,
    YamnetLogMel,
    fill_last_patch,
    patch_count,
    to_patches,
)
from mmattn.encoders.pretrained.yamnet.onnx import PACKAGE, packaged_folder
from mmattn.encoders.pretrained.yamnet.weights import CLASS_NAMES, PACKAGED, load_yamnet
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
from mmattn.inference.annotators.requirements import YAMNET
from mmattn.metrics.summary import HALF


class Sounds(Annotator):
    """`pretrained`: a folder with YAMNet's weights and class names, or package; None: `weights`, else the package.

    `threshold`: of tags.
    """

    needs_audio = True

    def __init__(
        self, setting: Setting, name: str = "sounds", pretrained: str | None = None, threshold: float = HALF
    ) -> None:
        """Raises UsageError for missing weights."""
        source = pretrained or setting.weights or PACKAGED
        folder = packaged_folder() if source == PACKAGED else expanded(source)
        if not (folder / CLASS_NAMES).is_file():
            raise UsageError(f"{folder}: contains no {CLASS_NAMES}; download {YAMNET} into it")
        self.name = name
        self.names = _class_names(folder / CLASS_NAMES)
        self.network = load_yamnet(source).to(setting.device)
        if len(self.names) != self.network.classes.out_features or not all(self.names):
            count = self.network.classes.out_features
            raise UsageError(f"{folder / CLASS_NAMES}: expected {count} rows with a display_name")
        self.version = f"YAMNet ({package_version(PACKAGE) if source == PACKAGED else folder.name})"
        self.front_end = YamnetLogMel().to(setting.device)
        self.threshold = threshold if setting.threshold is None else setting.threshold
        self.device = setting.device

    def networks(self) -> Sequence[nn.Module]:
        return [self.network]

    def begin(self, start: float) -> Annotation:
        return _SoundTagging(self)

    def scores(self, waveform: Float[Tensor, " N"]) -> Float[Tensor, "S K"]:
        """Scores in [0, 1] for each patch of 0.975 s. A patch starts every 0.48 s."""
        patches = to_patches(self.front_end(fill_last_patch(waveform.to(self.device)[None])))[0]
        rows = patches[: int(patch_count(torch.tensor(len(waveform))))]
        return torch.sigmoid(self.network(rows)).float().cpu()


class _SoundTagging(Annotation):
    def __init__(self, sounds: Sounds) -> None:
        self._sounds = sounds
        self._tags = TagFinder(sounds.name, sounds.names, "audio", sounds.threshold)

    def update(self, window: FileWindow) -> None:
        if window.waveform is None or not window.waveform.any():
            return
        scores = self._sounds.scores(window.waveform)
        own = len(scores) if window.is_last else STEPS  # further patches belong to the next window
        self._tags.add(scores[:own], _bounds(window)[: own + 1])

    def findings(self) -> Findings:
        return self._tags.findings()


def _bounds(window: FileWindow) -> list[float]:
    """A patch covers the 0.48 s around its middle; the first and last of a file also cover what is left of it."""
    assert window.waveform is not None
    samples = len(window.waveform)
    count = int(patch_count(torch.tensor(samples)))
    start, end = window.start, window.start + samples / RATE
    bounds = [min(start + MIDDLE_S + (i - 0.5) * STEP_S, end) for i in range(count + 1)]
    if window.is_first:
        bounds[0] = start
    if window.is_last or samples < PATCH + HOP * (STEPS - 1):
        bounds[-1] = end
    return bounds


def _class_names(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as lines:
        return [row.get("display_name") or "" for row in csv.DictReader(lines)]
