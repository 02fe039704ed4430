"""Test-time views of a span, whose scores are averaged: crops of its frames, and their mirror images.

For three crops the frames are decoded once, larger than the model's input, and cut at three places. If the model was
trained on the middle (fit=crop), the crops lie along the longer side and cover all of it (Feichtenhofer et al. 2019).
If it was trained on whole frames (stretch, pad), frames are enlarged by 8/7, as 256 to 224 pixels, and cut at the upper
left, the middle and the lower right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmattn.data.prepare.clips import Canvas, ClipSpec, Sample
from mmattn.errors import UsageError
from mmattn.types import Clip

ZOOM = 8 / 7
PLACES = (0.5, 0.0, 1.0)  # along each side that is longer than the crop; the middle first


@dataclass(frozen=True)
class View:
    """Where frames are cut, 0 = upper left, 1 = lower right; and whether they are mirrored."""

    place: float = 0.5
    flip: bool = False

    def cut(self, clip: Clip, spec: ClipSpec) -> Clip:
        """`clip` with frames of the size of `spec`, cut from larger ones if needed."""
        if clip.frames is None:
            return clip
        height, width = clip.frames.shape[-2:]
        top, left = round(self.place * (height - spec.height)), round(self.place * (width - spec.width))
        frames = clip.frames[..., top : top + spec.height, left : left + spec.width]
        return replace(clip, frames=(frames.flip(-1) if self.flip else frames).contiguous())


@dataclass(frozen=True)
class Views:
    """1 or 3 `crops`, with `flip` each also mirrored (not for labels that name left and right)."""

    crops: int = 1
    flip: bool = False

    def __post_init__(self) -> None:
        if self.crops not in (1, len(PLACES)):
            raise UsageError(f"views.crops={self.crops}: expected 1 or {len(PLACES)}")
        if not isinstance(self.flip, bool):
            raise UsageError(f"views.flip={self.flip}: expected true or false")

    @property
    def all(self) -> list[View]:
        """All views, the middle one first."""
        return [View(place, flip) for flip in (False, True)[: 1 + self.flip] for place in PLACES[: self.crops]]

    def canvas(self, spec: ClipSpec) -> Canvas:
        """The canvas from which all views can be cut."""
        if self.crops == 1:
            return Canvas((spec.height, spec.width), spec.fit, spec.resize)
        if spec.fit == "crop":
            return Canvas((spec.height, spec.width), "cover")
        return Canvas((round(spec.height * ZOOM), round(spec.width * ZOOM)), spec.fit)

    def samples(self, clip: Clip, spec: ClipSpec) -> list[Sample]:
        """A sample for each view of a clip on the canvas; only one for a clip without video."""
        first, *others = self.all
        sample = spec.prepare(first.cut(clip, spec))
        if clip.frames is None:
            return [sample]
        silent = replace(clip, waveform=None)  # the audio is the same
        return [sample, *(replace(sample, frames=spec.pad(view.cut(silent, spec)).frames) for view in others)]


@dataclass(frozen=True)
class ClipView:
    """One view of one span of each clip of a data set.

    `at`: the span's place in a longer clip, 0 = at its start, 1 = at its end; None: as the data set chooses.
    """

    view: View
    canvas: Canvas
    at: float | None = None


def clip_views(spans: int, views: Views, spec: ClipSpec) -> list[ClipView]:
    """All views of `spans` evenly spread spans, the middle span first. Raises UsageError unless spans >= 1."""
    if spans < 1:
        raise UsageError(f"views.spans={spans}: expected 1 or more")
    places = [None] if spans == 1 else sorted((k / (spans - 1) for k in range(spans)), key=lambda at: abs(at - 0.5))
    return [ClipView(view, views.canvas(spec), at) for at in places for view in views.all]
