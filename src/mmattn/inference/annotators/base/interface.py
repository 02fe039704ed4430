"""The interface of an annotator: it says what it needs of a file, gets the file window by window, and returns findings.

All annotators of a command share one decode of a file. A window starts every 9.6 s and overlaps the next one a little,
so that a patch of 0.975 s may start anywhere before the next window.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from mmattn.encoders.pretrained.yamnet.network import HOP, PATCH, RATE
from mmattn.media.read.windows.views import FrameView
from mmattn.types import MODALITIES, Frames, Modality

STEP_S = HOP / RATE  # 0.48
STEPS = 20  # of a window
HOP_S = STEP_S * STEPS
WINDOW_S = STEP_S * (STEPS - 1) + PATCH / RATE


@dataclass(frozen=True)
class Setting:
    """The settings that all annotators share.

    `weights`: a folder. `hub`: whether weights may be fetched. `threshold`: of tags; None: each annotator's own.
    `modalities`: those that may be used.
    """

    weights: str | None = None
    hub: bool = False
    threshold: float | None = None
    device: str = "cpu"
    modalities: tuple[Modality, ...] = MODALITIES


@dataclass(frozen=True, kw_only=True)
class FileWindow:
    """A window of a file, with the frames of the annotator's own view.

    Media from `own_end` s on belong to the next window. `waveform`: mono at `rate` Hz from `start` s on, silent where
    the audio starts late. `duration`: of the file, if it is known. `fps`: of the frames. `beside`: the frames of the
    annotator's other views, at `beside_fps`.
    """

    start: float
    own_end: float
    frames: Frames
    waveform: Tensor | None
    duration: float | None
    is_first: bool
    is_last: bool
    fps: float | None = None
    rate: int = RATE
    beside: tuple[Frames, ...] = ()
    beside_fps: tuple[float, ...] = ()

    @property
    def own_frames(self) -> Frames:
        """The frames that do not belong to the next window."""
        return self.own(self.frames)

    def own(self, frames: Frames) -> Frames:
        """The frames of a view that do not belong to the next window."""
        kept = frames.times < (math.inf if self.is_last else self.own_end)
        return Frames(None if frames.frames is None else frames.frames[kept], frames.times[kept])

    @property
    def own_waveform(self) -> Tensor | None:
        """The audio that does not belong to the next window."""
        if self.waveform is None:
            return None
        return self.waveform if self.is_last else self.waveform[: round((self.own_end - self.start) * self.rate)]


@dataclass
class Findings:
    """What an annotator found in a file: parts of its record, such as {"shots": [[0.0, 2.5]]}; {} if nothing applies.

    `used`: the modalities that it used. `end`: how far it read, s.
    """

    parts: dict[str, list[Any]] = field(default_factory=dict)
    used: tuple[Modality, ...] = ()
    end: float = 0.0


class Annotation(ABC):
    """An annotator's work on one file. Its memory may grow with what it finds, but not with the file's duration."""

    @abstractmethod
    def update(self, window: FileWindow) -> None:
        """Take in the next window."""

    @abstractmethod
    def findings(self) -> Findings:
        """What was found, after the last window."""


class Annotator(ABC):
    """A ready-made model that annotates files. `version`: of the model.

    `view`: the frames it needs, None for none. `own_rate`: use the file's own frame rate if it is lower than the
    view's. `beside`: further views it needs. `needs_audio`: whether it needs the waveform, at `audio_rate` Hz.
    """

    name: str
    version: str
    view: FrameView | None = None
    own_rate: bool = False
    needs_audio: bool = False
    beside: tuple[FrameView, ...] = ()
    audio_rate: int = RATE

    @abstractmethod
    def begin(self, start: float) -> Annotation:
        """Begin a file, or a part of one that starts at `start` s."""

    def networks(self) -> Sequence[torch.nn.Module]:
        """The modules that torch.compile may compile."""
        return ()


def package_version(name: str) -> str:
    """`name` and its installed version."""
    return f"{name} {version(name)}"
