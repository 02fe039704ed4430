"""What an annotator is: it says what it needs of a file, looks at it window by window, and then says what it found.

All annotators that are asked for share one decode of a file. Its windows are those of `WINDOWS`: 9.6 s from one to the
next, with a little of the next one at their end, so that a step of 0.975 s may begin anywhere before it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmattn.encoders.pretrained.yamnet.yamnet import HOP, PATCH, RATE
from mmattn.media.read.views import FrameView
from mmattn.types import MODALITIES, Frames, Modality

STEP_S = HOP / RATE  # 0.48
STEPS = 20  # of a window
HOP_S = STEP_S * STEPS
WINDOW_S = STEP_S * (STEPS - 1) + PATCH / RATE


@dataclass(frozen=True)
class Setting:
    """What all annotators are given. `threshold`: of tags, instead of each annotator's own; None: its own.

    `modalities`: the streams that may be used, of annotators that can use either.
    """

    weights: str | None = None
    hub: bool = False
    threshold: float | None = None
    device: str = "cpu"
    modalities: tuple[Modality, ...] = MODALITIES


@dataclass(frozen=True)
class Window:
    """One window of a file, with the frames of the annotator's own view.

    `waveform` is mono at `rate` Hz from `start` s on, silent where the sound begins late. What lies from `own_end` on
    belongs to the next window.
    """

    start: float
    own_end: float
    frames: Frames
    waveform: Tensor | None
    duration: float | None  # of the file, where it is known
    is_first: bool
    is_last: bool
    fps: float | None = None  # of the frames
    rate: int = RATE  # of the waveform
    beside: tuple[Frames, ...] = ()  # of the annotator's other views
    beside_fps: tuple[float, ...] = ()

    @property
    def own_frames(self) -> Frames:
        """Without those of the next window."""
        there = self.frames.times < self.own_end
        return Frames(None if self.frames.frames is None else self.frames.frames[there], self.frames.times[there])

    def own(self, frames: Frames) -> Frames:
        """Those of a view without those of the next window, unless there is none."""
        there = frames.times < (math.inf if self.is_last else self.own_end)
        return Frames(None if frames.frames is None else frames.frames[there], frames.times[there])

    @property
    def own_waveform(self) -> Tensor | None:
        """Without what belongs to the next window."""
        if self.waveform is None:
            return None
        return self.waveform if self.is_last else self.waveform[: round((self.own_end - self.start) * self.rate)]


@dataclass
class Findings:
    """What was found in a file: parts of its record, such as {"shots": [[0.0, 2.5]]}; empty where nothing applies.

    `used`: the streams it came from. `end`: how far it looked, s.
    """

    parts: dict[str, list[Any]] = field(default_factory=dict)
    used: tuple[Modality, ...] = ()
    end: float = 0.0


class Annotation(ABC):
    """An annotator at work on one file, in memory that does not grow with its length but for what it finds."""

    @abstractmethod
    def look(self, window: Window) -> None: ...

    @abstractmethod
    def findings(self) -> Findings: ...


class Annotator(ABC):
    """`view`: the frames it needs, None for none; `needs_audio`: whether it hears. `version`: of its model.

    `own_rate`: rather at the file's own frame rate, where that is below the view's. `beside`: other views of the
    picture that it needs too. `audio_rate`: of the sound, Hz.
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
        """For a file, or a part of one, that begins at `start` s."""

    def networks(self) -> Sequence[torch.nn.Module]:
        """What torch.compile may compile."""
        return ()


def package_version(name: str) -> str:
    """`name` and its installed version."""
    from importlib.metadata import version

    return f"{name} {version(name)}"
