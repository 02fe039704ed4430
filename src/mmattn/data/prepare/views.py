"""One span looked at in several ways, whose scores are averaged: crops of its picture, and their mirror images.

With three crops the picture is decoded larger than the model sees it, once, and cut at three places. Where the model
was trained on the middle (fit=crop), they lie along the picture's longer side and together show all of it
(Feichtenhofer et al. 2019). Where it was trained on whole pictures (stretch, pad), the picture is enlarged by 8/7, as
256 is to 224 pixels, and cut at its upper left, its middle and its lower right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmattn.data.prepare.clips import Canvas, ClipSpec, Sample
from mmattn.errors import UsageError
from mmattn.types import Clip

ZOOM = 8 / 7
PLACES = (0.5, 0.0, 1.0)  # along each side that is longer than what is cut; the middle first


@dataclass(frozen=True)
class View:
    """Where the picture is cut, 0 = its upper left, 1 = its lower right; and whether it is mirrored."""

    place: float = 0.5
    flip: bool = False

    def cut(self, clip: Clip, spec: ClipSpec) -> Clip:
        """`clip` with frames of the size that `spec` gives, cut from larger ones or as they are."""
        if clip.frames is None:
            return clip
        height, width = clip.frames.shape[-2:]
        top, left = round(self.place * (height - spec.height)), round(self.place * (width - spec.width))
        frames = clip.frames[..., top : top + spec.height, left : left + spec.width]
        return replace(clip, frames=(frames.flip(-1) if self.flip else frames).contiguous())


@dataclass(frozen=True)
class Views:
    """`crops` 1 or 3, each mirrored too with `flip` (not where left and right have names)."""

    crops: int = 1
    flip: bool = False

    def __post_init__(self) -> None:
        if self.crops not in (1, len(PLACES)):
            raise UsageError(f"views.crops={self.crops}: expected 1 or {len(PLACES)}")
        if not isinstance(self.flip, bool):
            raise UsageError(f"views.flip={self.flip}: expected true or false")

    @property
    def all(self) -> list[View]:
        """The plainest first."""
        return [View(place, flip) for flip in (False, True)[: 1 + self.flip] for place in PLACES[: self.crops]]

    def canvas(self, spec: ClipSpec) -> Canvas:
        """What is to be decoded, so that all views can be cut from it."""
        if self.crops == 1:
            return Canvas((spec.height, spec.width), spec.fit, spec.resize)
        if spec.fit == "crop":
            return Canvas((spec.height, spec.width), "cover")
        return Canvas((round(spec.height * ZOOM), round(spec.width * ZOOM)), spec.fit)

    def samples(self, clip: Clip, spec: ClipSpec) -> list[Sample]:
        """One for each view of a clip on the canvas; a clip without a picture has one alone."""
        first, *others = self.all
        sample = spec.prepare(first.cut(clip, spec))
        if clip.frames is None:
            return [sample]
        silent = replace(clip, waveform=None)  # the sound is the same
        return [sample, *(replace(sample, frames=spec.pad(view.cut(silent, spec)).frames) for view in others)]


@dataclass(frozen=True)
class Look:
    """One view of one span of each clip of a data set. `at`: the span's place in a longer clip, 0 = its start, 1 = as
    late as it fits; None: where the data set takes it.
    """

    view: View
    canvas: Canvas
    at: float | None = None


def looks(spans: int, views: Views, spec: ClipSpec) -> list[Look]:
    """All views of `spans` evenly spread spans, those of the middle first. Raises UsageError unless spans >= 1."""
    if spans < 1:
        raise UsageError(f"views.spans={spans}: expected 1 or more")
    places = [None] if spans == 1 else sorted((k / (spans - 1) for k in range(spans)), key=lambda at: abs(at - 0.5))
    return [Look(view, views.canvas(spec), at) for at in places for view in views.all]
